"""What the checks of opt-outs say of numbers and times: passed or not, how bad, and what to do."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from sync_assets.audit.audit_result import AuditResult, SomeRecords, opt_outs_agree
from sync_assets.checks.health import arrives, is_overdue, room
from sync_assets.checks.rules import Finding
from sync_assets.config.opt_out import Export
from sync_assets.defs.asset_keys import EXPORT
from sync_assets.defs.results import check_result, metadata
from sync_assets.opt_out.export.folder import FolderPoll, folder_findings
from sync_assets.sftp.client import Storage

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
GB = 1_000_000_000


def severity(finding: Finding) -> dg.AssetCheckSeverity:
    return check_result(EXPORT, finding).severity


def numbers(finding: Finding) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in metadata(finding.numbers).items()}


@pytest.mark.parametrize(
    ("age", "overdue"),
    [
        (timedelta(0), False),
        (timedelta(hours=24), False),
        (timedelta(hours=24, seconds=1), True),
        (timedelta(hours=-1), False),  # the SFTP's clock is ahead of ours
        (None, True),
    ],
)
def test_a_file_is_overdue_once_it_is_older_than_one_is_expected(age: timedelta | None, overdue: bool) -> None:
    newest = None if age is None else NOW - age
    assert is_overdue(Export(), newest, NOW) is overdue
    assert arrives(Export(), newest, NOW).passed is not overdue


def test_a_file_that_came_in_time_is_reported_with_its_age() -> None:
    result = arrives(Export(), NOW - timedelta(hours=3, minutes=30), NOW)
    assert result.message == "The newest file is 3 h 30 min old, one is expected every 24 h."
    assert numbers(result) == {
        "expected_every_hours": 24.0,
        "hours": 3.5,
        "newest_file": (NOW - timedelta(hours=3.5)).timestamp(),
    }


def test_an_export_that_stopped_is_an_error_with_the_remedy() -> None:
    result = arrives(Export(workflow_id="WKF12"), NOW - timedelta(days=3), NOW)
    assert (result.passed, severity(result)) == (False, ERROR)
    stated = result.message
    assert stated.startswith("The newest file is 3 d 0 h old")
    assert "Look at workflow WKF12 in Campaign and start it again at once" in stated
    assert "opt-outs made in Campaign do not reach Dynamics 365 meanwhile" in stated
    assert "raise `expected_every_hours`" in stated


def test_which_workflow_is_meant_need_not_be_configured() -> None:
    assert "Look at the export workflow" in arrives(Export(), NOW - timedelta(days=3), NOW).message


def test_an_export_that_has_yet_to_begin_is_a_warning() -> None:
    """A new installation is not broken, and an export that has another name than we look for is told all the same."""
    result = arrives(Export(directory="d365_loads/exports", pattern="optout_*.csv*"), None, NOW)
    assert (result.passed, severity(result)) == (False, WARN)
    assert "No file `optout_*.csv*` has been seen in d365_loads/exports yet." in result.message


def test_names_that_cannot_be_read_are_reported_with_the_reason() -> None:
    result = arrives(Export(), NOW, NOW, (("optout_link.csv", "a symbolic link"),))
    assert result.passed
    assert "Passed over in d365_loads/exports: 1." in result.message
    [record] = numbers(result)["passed_over"].records
    assert record.data == {"name": "optout_link.csv", "why": "a symbolic link"}


@pytest.mark.parametrize(
    ("size", "text"), [(GB // 1000, "97% full (1.0 of 1.0 MB)"), (100, "97% full (97.0 of 100.0 bytes)")]
)
def test_a_small_sftp_is_described_in_a_unit_that_shows_it(size: int, text: str) -> None:
    assert text in room(Export(), Storage(size * 97 // 100, size)).message


@pytest.mark.parametrize(
    ("used", "passed", "worst", "expected"),
    [
        (0, True, None, "0% full"),
        (79, True, None, "The SFTP is 79% full (79.0 of 100.0 GB)."),
        (80, False, WARN, "80% full (80.0 of 100.0 GB). Remove what is no longer needed"),
        (89, False, WARN, "89% full"),
        (90, False, ERROR, "90% full"),
        (100, False, ERROR, "100% full"),
    ],
)
def test_room_is_reported_by_the_limits_of_campaigns_own_alerts(
    used: int, passed: bool, worst: dg.AssetCheckSeverity | None, expected: str
) -> None:
    result = room(Export(), Storage(used * GB, 100 * GB))
    assert result.passed is passed
    assert worst in (None, severity(result))
    assert expected in result.message
    assert numbers(result) == {
        "share_used": used / 100,
        "used_bytes": used * GB,
        "size_bytes": 100 * GB,
        "not_tidied_up": 0,
    }


@pytest.mark.parametrize(("after", "hint"), [("keep", True), ("archive", True), ("delete", False)])
def test_the_configuration_that_makes_room_is_named_where_it_is_not_used(after: Any, hint: bool) -> None:
    assert ("`export.after: delete`" in room(Export(after=after), Storage(9, 10)).message) is hint


def test_a_server_that_does_not_report_its_space_is_unknown_and_not_fine() -> None:
    result = room(Export(), None)
    assert (result.passed, severity(result)) == (False, WARN)
    assert result.message.startswith("Unknown: the SFTP server does not report how full it is.")
    assert "`opt_out.export.capacity_mb`" in result.message
    assert numbers(result) == {"not_tidied_up": 0}


def test_files_that_cannot_be_tidied_up_are_a_warning_before_they_fill_it() -> None:
    result = room(Export(), Storage(1, 10), ["optout_1.csv may not be removed.", "optout_2.csv may not be removed."])
    assert (result.passed, severity(result)) == (False, WARN)
    assert result.message.endswith("moved or removed: 2. The first: optout_1.csv may not be removed.")
    assert numbers(result)["not_tidied_up"] == 2


def test_one_look_answers_both() -> None:
    look = FolderPoll([], [], [], NOW, Storage(1, 10), (("a", "a folder"),), ["trouble"])
    results = {result.check: result for result in folder_findings(Export(), look, NOW)}
    assert results.keys() == {"export_arrives_in_time", "sftp_has_room"}
    assert "passed_over" in numbers(results["export_arrives_in_time"])
    assert numbers(results["sftp_has_room"])["not_tidied_up"] == 1


@pytest.mark.parametrize(
    ("actual", "passed", "expected"),
    [
        (AuditResult(opt_outs_compared=400), True, "Of 400 opt-outs read on both sides, all agree."),
        (AuditResult(opt_outs_compared=400, opt_outs_on_the_way=3), True, "3 are on their way"),
        (
            AuditResult(opt_outs_compared=1_200, opt_outs={"blackListEmail": SomeRecords(2, ["a", "b"])}),
            False,
            "Of 1,200 opt-outs read on both sides, 2 differ for longer than they should.",
        ),
        (AuditResult(), True, "No opt-out was compared"),
    ],
)
def test_the_result_of_the_comparison(actual: AuditResult, passed: bool, expected: str) -> None:
    result = opt_outs_agree(actual)
    assert result.passed is passed
    assert passed or severity(result) is ERROR
    assert expected in result.message


def test_a_comparison_that_fails_names_attributes_ids_and_the_remedy() -> None:
    differ = {"blackListEmail": SomeRecords(7, ["id-0", "id-1"]), "ccpaOptOut": SomeRecords(1, ["x"])}
    result = opt_outs_agree(AuditResult(opt_outs_compared=18, opt_outs=differ))
    reported = numbers(result)
    assert [record.data for record in reported.pop("attributes").records] == [
        {"attribute": "blackListEmail", "records": 7, "ids": "id-0, id-1"},
        {"attribute": "ccpaOptOut", "records": 1, "ids": "x"},
    ]
    assert reported == {"compared": 18, "differing": 8, "on_the_way": 0}
    assert "sync-assets rejects" in result.message
