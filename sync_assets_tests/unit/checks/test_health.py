"""When the checks of a table turn from green to yellow to red, and what they say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from sync_assets.audit.audit_result import AuditResult, SomeRecords, agreement, one_record_each
from sync_assets.checks import health
from sync_assets.checks.health import POLL_OVERDUE, polled
from sync_assets.checks.refused_attributes import refused_finding
from sync_assets.checks.rules import AUDIT_CHECKS, TABLE_CHECKS, Finding, Rows
from sync_assets.config.models import TableConfig
from sync_assets.defs.results import check_result, metadata
from sync_assets.ledger.feed import Feed
from sync_assets.ledger.report_values import ButFor, Counts

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
CONTACT = TableConfig.model_validate(
    {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"firstname": "firstName"}}
)
HOUR = timedelta(hours=1)


def rows(finding: Finding, name: str) -> list[dict[str, Any]]:
    table = finding.numbers[name]
    return [dict(zip(table.names, row, strict=True)) for row in table.rows]


def severity(finding: Finding) -> dg.AssetCheckSeverity:
    return check_result(dg.AssetKey(["campaign", "profile"]), finding).severity


def test_a_column_of_a_table_that_holds_numbers_is_one_of_numbers() -> None:
    value = metadata({"days": Rows(("day", "insert"), [("2026-11-24", 3)])})["days"]
    assert isinstance(value, dg.TableMetadataValue)
    assert [(column.name, column.type) for column in value.schema.columns] == [("day", "string"), ("insert", "int")]


def test_every_check_of_the_campaign_asset_and_its_audit_passes_without_a_record() -> None:
    result = [
        health.ready([]),
        health.refused("contact", Counts(), []),
        health.waiting({}, None, NOW),
        health.backlog(0, None, NOW),
        refused_finding("contact", [], ButFor()),
        agreement("contact", AuditResult()),
        one_record_each(CONTACT, AuditResult(), []),
    ]
    assert [one.check for one in result] == [rule.name for rule in (*TABLE_CHECKS["campaign"], *AUDIT_CHECKS)]
    assert all(one.passed for one in result)


@pytest.mark.parametrize(
    ("differ", "said"),
    [
        (ButFor(1), "1 record is in step but for location.city. `sync"),
        (ButFor(0, 2), "afterwards. 2 records may differ in location.city: `sync-assets audit` compares them. `sync"),
        (ButFor(3, 1), "3 records are in step but for location.city. 1 record may differ"),
    ],
)
def test_records_that_are_in_step_but_for_a_refused_attribute_are_a_warning(differ: ButFor, said: str) -> None:
    finding = refused_finding("contact", ["location.city"], differ)
    assert (finding.passed, severity(finding)) == (False, WARN)
    assert said in finding.message
    assert finding.numbers == {"in_step_but_for": differ.records, "not_known": differ.not_known}


@pytest.mark.parametrize(
    ("by_file", "advises"),
    [((), True), (("location.city",), True), (("location.city", "location.zipCode"), False)],
)
def test_what_a_file_of_updates_brings_needs_no_other_remedy(by_file: tuple[str, ...], advises: bool) -> None:
    text = refused_finding("contact", ["location.city", "location.zipCode"], ButFor(1), by_file).message
    assert ("apply_updates: false" in text, "`bulk_load.updates`" in text) == (advises, bool(by_file))


@pytest.mark.parametrize(
    ("failed", "known", "passed", "worst"),
    [(0, 0, True, None), (0, 9, True, None), (4, 100, False, WARN), (5, 100, False, ERROR)],
)
def test_the_reject_rate(failed: int, known: int, passed: bool, worst: dg.AssetCheckSeverity | None) -> None:
    reasons = [("no such value", failed)] if failed else []
    result = health.refused("contact", Counts(rejected=failed, synced=known - failed), reasons)
    assert result.passed is passed
    assert worst in (None, severity(result))
    assert result.numbers["reject_rate"] == (failed / known if known else 0)
    assert rows(result, "reasons") == [{"reason": reason, "records": count} for reason, count in reasons]
    assert passed or f"{failed} of {known}" in result.message


@pytest.mark.parametrize(
    ("by_reason", "age", "passed", "expected"),
    [
        ({}, None, True, "No record is waiting."),
        ({"parent not there yet": 2}, 59 * HOUR / 60, True, "2, the oldest for 59 min."),
        ({"parent not there yet": 2}, HOUR, True, "1 h 0 min"),
        ({"parent not there yet": 2, "parent filtered out": 3}, 61 * HOUR / 60, False, "5, the oldest for 1 h 1 min."),
        ({"parent filtered out": 1}, 73 * HOUR, False, "3 d 1 h"),
    ],
)  # fmt: skip
def test_records_that_wait(by_reason: dict[str, int], age: timedelta | None, passed: bool, expected: str) -> None:
    result = health.waiting(by_reason, NOW - age if age else None, NOW)
    assert result.passed is passed
    assert passed or severity(result) is WARN
    assert expected in result.message
    assert {row["waiting for"]: row["records"] for row in rows(result, "waiting_for")} == by_reason


@pytest.mark.parametrize(
    ("pending", "age", "passed", "worst"),
    [(0, None, True, None), (7, HOUR, True, None), (7, 2 * HOUR, False, WARN), (7, 25 * HOUR, False, ERROR)],
)
def test_the_age_of_the_backlog(
    pending: int, age: timedelta | None, passed: bool, worst: dg.AssetCheckSeverity | None
) -> None:
    result = health.backlog(pending, NOW - age if age else None, NOW)
    assert result.passed is passed
    assert worst in (None, severity(result))
    assert result.numbers["oldest_hours"] == (age / HOUR if age else 0)


def test_a_clock_that_is_behind_makes_nothing_old() -> None:
    assert health.backlog(1, NOW + HOUR, NOW).numbers["oldest_hours"] == 0


def some(*ids: str) -> SomeRecords:
    records = SomeRecords()
    records.add(ids)
    return records


def test_agreement_names_the_attributes_and_some_ids() -> None:
    ids = [f"id{n}" for n in range(7)]
    attributes = {"email": some(*ids), "firstName": some(ids[0])}
    found = AuditResult(
        records=200,
        total=800,
        compared=198,
        differing=7,
        missing=some("gone"),
        attributes=attributes,
        left_out={"held": 2},
    )
    result = agreement("contact", found)
    assert (result.passed, severity(result)) == (False, WARN)
    assert result.message == (
        "25% of the resource listed. Of 198 compared records, 1 record is not in Campaign; 7 records differ: email "
        "(7), firstName (1); the others hold what was sent last. `sync-assets audit --table contact --repair` makes "
        "pending what differs or is missing."
    )
    assert rows(result, "attributes") == [
        {"attribute": "not found", "records": 1, "ids": "gone"},
        {"attribute": "email", "records": 7, "ids": "id0, id1, id2, id3, id4"},
        {"attribute": "firstName", "records": 1, "ids": "id0"},
    ]
    assert (result.numbers["differing"], result.numbers["left_out"], result.numbers["part_done"]) == (7, 2, 0.25)


def test_many_that_differ_are_an_error() -> None:
    found = AuditResult(compared=20, differing=1, attributes={"email": some("id1")})
    assert severity(agreement("contact", found)) is ERROR


def test_attributes_that_campaign_refuses_in_updates_are_no_difference() -> None:
    found = AuditResult(
        done=True, compared=9, equal=7, in_step_but_for=2, refused_in_updates={"location": some("a", "b")}
    )
    result = agreement("contact", found)
    assert (result.passed, found.is_equal) == (True, True)
    assert "2 records are in step but for location, which Campaign refuses in updates; the others" in result.message


@pytest.mark.parametrize(
    ("found", "equal"),
    [
        (AuditResult(compared=2, equal=2, left_out={"pending": 1}, without_row=some("a")), True),
        (AuditResult(compared=2, equal=1, differing=1), False),
        (AuditResult(compared=2, equal=1, missing=some("a")), False),
        (AuditResult(compared=2, equal=1, hidden=some("a")), False),
        (AuditResult(several=some("a")), False),
        (AuditResult(opt_outs={"blackListEmail": some("a")}), False),
        (AuditResult(repaired=1), False),
    ],
)
def test_what_counts_as_a_difference(found: AuditResult, equal: bool) -> None:
    assert found.is_equal is equal


def test_a_duplicate_key_is_seen_in_the_list_and_in_refusals() -> None:
    reasons = [
        ("A 'Profile' with the same key '<id>' already exists.", 2),
        ("More than one profile of Campaign carries this externalId.", 1),
        ("no such value", 5),
    ]
    result = one_record_each(CONTACT, AuditResult(records=9, several=some("id1")), reasons)
    assert (result.passed, severity(result)) == (False, ERROR)
    assert (result.numbers["more_than_once"], result.numbers["refused_because_taken"]) == (1, 3)
    assert one_record_each(CONTACT, AuditResult(records=9), reasons[2:]).passed


def feed(since_poll: timedelta, saved: timedelta = timedelta(days=3), complete: bool = True) -> Feed:
    return Feed("contact", "link", "f", complete, 7, False, NOW - saved, NOW - since_poll)


@pytest.mark.parametrize(
    ("actual", "passed", "expected"),
    [
        (None, False, "never been captured"),
        (feed(timedelta(seconds=3)), True, "Polled at 2026-11-24 11:59:57 UTC, nothing new is waiting; complete"),
        (feed(timedelta(seconds=-3)), True, "Polled at 2026-11-24 12:00:03 UTC"),  # its machine's clock is ahead
        (feed(POLL_OVERDUE), True, "Polled at"),
        (feed(POLL_OVERDUE + timedelta(seconds=1)), False, "Not polled since 2026-11-24 11:44:59 UTC"),
        (feed(timedelta(0), complete=False), True, "first read is not finished"),
    ],
)
def test_the_result_of_the_check(actual: Feed | None, passed: bool, expected: str) -> None:
    result = polled("contact", actual, NOW)
    assert result.passed is passed
    assert expected in result.message
    assert result.numbers.get("seconds_since_poll", 0) >= 0


def test_a_failed_check_names_the_remedy() -> None:
    result = polled("contact", feed(timedelta(hours=2)), NOW)
    assert "Start the sensor d365_changes" in result.message
