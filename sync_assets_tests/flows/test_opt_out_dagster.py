"""Opt-out files on a real Dagster instance: the sensor alone carries them, and what runs, checks and metadata show.

When which run is asked for: integration/defs/opt_out/test_sensors.py. What is decided: test_opt_outs.py. What needs
no file: test_opt_out_changes.py.
"""

import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from sync_assets.cli import sync_runs
from sync_assets.cli.instance import dagster_instance
from sync_assets.defs.asset_keys import CHANGES, CONTACT_OPT_OUT, DECISIONS, EXPORT, PROFILE_OPT_OUT, file_chain
from sync_assets.defs.follower.follower import STEPS_APART
from sync_assets.ledger.repositories.opt_out_files import FileState
from sync_assets_tests.support.opt_out_runs import FILE, N, apart, rest, table, take, values
from sync_assets_tests.support.opt_outs import (
    EARLIER,
    HEADER,
    HOUR,
    LATER,
    audit,
    clear,
    exports,
    opted_in,
    says,
    set_campaign,
    set_d365,
    sides,
    write_file,
    writes,
)
from sync_assets_tests.support.orchestra import AUDIT, PROFILE, Orchestra, Run


@pytest.fixture
def orchestra(opt_out_orchestra: Orchestra) -> Orchestra:
    return opt_out_orchestra


def test_sensors_alone_carry_a_file_to_d365_its_echo_changes_nothing_and_one_of_no_use_keeps_no_other_back(
    orchestra: Orchestra,
) -> None:
    first, id_, *_ = opted_in(orchestra.program)
    set_campaign(orchestra.program, first, blackListPhone=True)
    orchestra.program.sandbox.admin.export()
    [taken], after = apart(rest(orchestra))
    assert taken.steps >= {"campaign__opt_out_export", "opt_out__decisions", "d365__contact_opt_out"}
    assert sides(orchestra.program, first, "donotphone") == (True, True)
    # What we wrote comes back in the change feed, and is nothing new.
    assert [run.days(CHANGES) for run in after] == [[]] * len(after)
    assert audit(orchestra.program)[-1].source.startswith("optout_")
    assert not rest(orchestra)
    clear(orchestra.program)
    write_file(orchestra.program, "something,else\n1,2\n", "optout_20261123_040000.csv")
    write_file(orchestra.program, HEADER + says(id_, 1, LATER), "optout_20261124_040000.csv")
    refused, partition = take(orchestra)
    assert partition.startswith("optout_20261123")
    assert not refused.success
    assert refused.checks["the_file_can_be_read"] is False
    assert refused.check("the_file_can_be_read").severity is dg.AssetCheckSeverity.ERROR
    assert "externalId" in (refused.check("the_file_can_be_read").description or "")
    assert refused.days(EXPORT) == refused.days(DECISIONS) == []
    assert "opt_out__decisions" not in refused.steps
    run, partition = take(orchestra)
    assert partition.startswith("optout_20261124")
    assert run.success
    assert sides(orchestra.program, id_)[0] is True
    assert orchestra.tick(FILE).skip_message == "no new file"


def test_a_run_shows_its_numbers(orchestra: Orchestra) -> None:
    news, none, contradicted, *_ = opted_in(orchestra.program)
    orchestra.program.sandbox.admin.change("contact", [news], fax="+1 555 0100")  # newer than what the file says
    set_campaign(orchestra.program, contradicted, blackListEmail=True)  # which is asked
    write_file(orchestra.program, HEADER + says(contradicted, 1, LATER), "optout_20261124_030000.csv")
    assert take(orchestra)[0].success
    rows = [says(news), says(none, 0, ""), says(contradicted, 0, EARLIER), f",1,{EARLIER},,\n", says(none, "perhaps")]
    write_file(orchestra.program, HEADER + "".join(rows), "optout_20261124_040000.csv")
    run, partition = take(orchestra)
    assert run.success

    metadata = run.metadata(EXPORT, partition)
    numbers = ("rows", "good_rows", "rejected_rows", "foreign_profiles", "dagster/partition_row_count")
    assert [metadata[name] for name in numbers] == [5, 3, 1, 1, 3]
    assert metadata["file_bytes"] == len(HEADER + "".join(rows))
    assert metadata["rows_per_second"] > 0
    assert metadata["dates"] == "xml"
    assert [metadata[f"stated_{kind}"] for kind in ("news", "echo", "known", "stale", "default")] == [2, 0, 0, 0, 1]

    metadata = run.metadata(DECISIONS, partition)
    assert values(run, DECISIONS, partition) == {
        "dagster/partition_row_count": 2,
        "decisions": 2,
        "to_d365": 1,
        "to_campaign": 0,
        "held": 0,
        "engine_calls": 1,
    }
    assert ("an opt-out wins", 1, "d365") in table(metadata, "by_reason")
    assert any(set(decided) >= {news, "blackListEmail", "d365"} for decided in table(metadata, "last_decisions"))

    nothing = {"held_already": 0, "to_be_decided_again": 0, "rejected": 0, "no_longer_there": 0, "unanswered": 0}
    assert values(run, CONTACT_OPT_OUT, partition) == {"written": 1, "engine_calls": 0, **nothing}
    assert values(run, PROFILE_OPT_OUT, partition) == {"written": 0, "engine_calls": 0, **nothing}


def test_a_column_that_does_not_fit_stops_everything_before_the_first_write(orchestra: Orchestra) -> None:
    admin, id_ = orchestra.program.sandbox.admin, next(opted_in(orchestra.program))
    set_campaign(orchestra.program, id_, blackListEmail=True)
    admin.export()
    since = admin.last()
    column = {"table": "contact", "column": "donotemail", "set": {"read_only": True}}
    admin.post("/d365/metadata", column)
    run, _ = take(orchestra)
    admin.post("/d365/metadata", {**column, "set": {"read_only": False}})
    assert not run.success
    assert (run.checks["opt_out_columns_fit"], run.checks["opt_out_attributes_fit"]) == (False, True)
    assert "`donotemail`: the column is read-only in Dynamics 365" in run.errors[0]
    assert run.steps.isdisjoint({"d365__contact_opt_out", "campaign__profile_opt_out"})
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}
    # Nothing is lost: what the file said is due, and goes once the column is right.
    assert [run.success for run in rest(orchestra)][:1] == [True]
    assert sides(orchestra.program, id_) == (True, True)


def test_one_asset_alone_can_be_materialised_and_a_file_that_was_not_read_is_not_done(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))

    def states() -> list[FileState]:
        return [file.state for file in orchestra.runtime.ledger.opt_out_files.files()]

    write_file(orchestra.program, HEADER + says(id_, 1, LATER))
    orchestra.tick(FILE)
    [request] = orchestra.asked(FILE)
    partition = request.partition_key or ""
    run = orchestra.materialize(DECISIONS, partition)
    assert run.success
    assert run.metadata(DECISIONS, partition)["decisions"] == 0
    assert states() == [FileState.SEEN]
    for key, holds in ((EXPORT, False), (DECISIONS, False), (CONTACT_OPT_OUT, True)):
        run = orchestra.materialize(key, partition)
        assert run.success, run.errors
        assert run.days(key) == [partition]
        assert sides(orchestra.program, id_)[0] is holds
    assert states() == [FileState.DONE]


def test_the_follower_leaves_the_opt_outs_of_a_file_to_its_run_between_two_steps_and_takes_what_remains(
    orchestra: Orchestra,
) -> None:
    id_ = next(opted_in(orchestra.program))
    write_file(orchestra.program, HEADER + says(id_, 1, LATER))
    orchestra.tick(FILE)
    [request] = orchestra.asked(FILE)
    assert orchestra.materialize(EXPORT, request.partition_key).success
    began = time.monotonic()
    run = orchestra.job("follow")
    assert (run.success, sides(orchestra.program, id_)[0]) == (True, True)
    assert time.monotonic() - began > STEPS_APART.total_seconds() - 1
    assert values(run, CHANGES)["d365_written"] == 1


def test_records_and_opt_outs_are_compared_by_the_job_audit_and_by_no_run_of_profiles(orchestra: Orchestra) -> None:
    """The comparison costs a read for 500 records. The UI selects all checks of an asset with it."""
    before = orchestra.program.sandbox.admin.engine_calls()["read"]
    run = orchestra.job("audit")
    assert run.success
    assert run.checks == {
        "campaign_agrees_with_what_was_sent": True,
        "no_key_occurs_twice": True,
        "opt_outs_agree": True,
    }
    assert orchestra.program.sandbox.admin.engine_calls()["read"] - before == 2  # the number of records, and a page
    assert run.check("opt_outs_agree").metadata["compared"].value == 2 * N
    job = orchestra.definitions.resolve_implicit_global_asset_job_def()
    for asset, name in ((AUDIT, "opt_outs_agree"), (EXPORT, "export_arrives_in_time"), (EXPORT, "sftp_has_room")):
        check = job.get_subset(asset_selection=set(), asset_check_selection={dg.AssetCheckKey(asset, name)})
        alone = check.execute_in_process(instance=orchestra.instance, raise_on_error=False)
        assert Run(orchestra.instance, alone.run_id, alone.success).checks.keys() == {name}

    before = orchestra.program.sandbox.admin.engine_calls()["read"]
    run = orchestra.materialize(PROFILE)
    assert run.success, run.errors
    assert run.checks.keys().isdisjoint({"opt_outs_agree", "campaign_agrees_with_what_was_sent"})
    assert orchestra.program.sandbox.admin.engine_calls()["read"] == before


def test_the_folder_is_watched_by_a_job_that_fails_if_it_cannot_look(orchestra: Orchestra) -> None:
    keys = orchestra.definitions.resolve_asset_graph().asset_check_keys

    def answers() -> dict[str, Any]:
        last = orchestra.instance.event_log_storage.get_latest_asset_check_execution_by_key([*keys])
        return {key.name: record for key, record in last.items() if record.event}

    run = orchestra.job("watch")
    assert run.success
    assert run.checks == {}  # it plans none, so that one which is killed hides none
    first = answers()
    passed = {name: record.status.value == "SUCCEEDED" for name, record in first.items()}
    assert (passed["export_arrives_in_time"], passed["sftp_has_room"]) == (False, True)
    orchestra.program.sandbox.admin.fault("sftp", "cut_before", times=1)
    run = orchestra.job("watch")
    assert not run.success
    assert "cut the connection" in run.errors[0]
    again = {name for name, record in answers().items() if record.id != first[name].id}
    assert again >= {"ready", "change_feed_is_polled", "backlog_is_young"}  # the others are answered all the same
    assert again.isdisjoint({"export_arrives_in_time", "sftp_has_room"})


def test_no_contact_can_be_read_in_dagsters_storage(orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch) -> None:
    """In events, logs, ticks, metadata, ledger and output: whatever a run did and whatever went wrong."""
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    monkeypatch.setenv("DAGSTER_HOME", program.env["DAGSTER_HOME"])
    with dagster_instance() as instance:
        orchestra.instance = instance
        _all_goes_wrong(orchestra)
    orchestra.runtime.close()
    outputs = [text for command in ("sync", "status", "rejects") for text in program.run(command)[1:]]
    (program.home / "dagster" / "outputs").write_text("\n".join(outputs))
    assert "optout_20991231_000001.csv" in outputs[1]
    files = [path for path in (program.home / "dagster").rglob("*") if path.is_file()]
    kinds = Counter(path.suffix for path in files)
    assert kinds[".db"] > 3
    for path in files:
        for text in ("xylanderquist", "918273"):
            assert not re.search(text.encode(), path.read_bytes(), re.IGNORECASE), (path, text)
    assert any(row["emailaddress1"] == "xylanderquist@example.org" for row in admin.dump_d365())
    assert any(profile["email"] == "xylanderquist@example.org" for profile in program.profiles().values())


def _all_goes_wrong(orchestra: Orchestra) -> None:
    """Three contacts whose data are found again wherever they are, and everything that may happen to them."""
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    there, back, refused, *_ = opted_in(program)
    secret = {
        "lastname": "Xylanderquist",
        "emailaddress1": "xylanderquist@example.org",
        "mobilephone": "+49 555 918273",
    }
    admin.change("contact", [there, back, refused], **secret)
    set_d365(program, there, donotemail=True)
    set_campaign(program, back, blackListEmail=True)
    admin.export()
    rest(orchestra)
    foreign = f"xylanderquist@example.org,Xylanderquist,+49 555 918273,,\n{refused},xylanderquist@example.org,,,\n"
    write_file(program, HEADER + foreign, "optout_20991231_000000.csv")
    write_file(program, "xylanderquist@example.org,Xylanderquist\n", "optout_20991231_000001.csv")
    for _ in range(2):
        take(orchestra)
    set_d365(program, refused, donotphone=True)
    admin.fault("campaign", "status", method="PATCH", status=500)
    for name in ("d365_changes", "backlog"):
        for request in orchestra.asked(name):
            orchestra.execute(request)
    admin.clear_faults()
    orchestra.job("audit")
    orchestra.job("watch")


NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def _files_settle_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_runs, "POLL_SECONDS", 0.02)


def backfill(orchestra: Orchestra) -> dict[str, Run]:
    """The assets of files, materialised for all partitions, a run for each of them. By file."""
    runs: dict[str, Run] = {}
    for partition in orchestra.instance.get_dynamic_partitions("opt_out_files"):
        request = dg.RunRequest(partition_key=partition, asset_selection=file_chain(orchestra.runtime))
        runs[partition.partition("@")[0]] = orchestra.execute(request)
    assert {name: run.errors for name, run in runs.items() if not run.success} == {}
    return runs


def take_a_file(orchestra: Orchestra, id_: str, value: int, changed: datetime) -> None:
    """Let a file of one row be read, and deleted on the SFTP."""
    orchestra.program.opt_out["export"]["after"] = "delete"
    orchestra.reload()
    set_campaign(orchestra.program, id_, changed, blackListEmail=bool(value))
    row = says(id_, value, f"{changed:%Y-%m-%dT%H:%M:%S}.000Z")
    write_file(orchestra.program, HEADER + row, "optout_first.csv" if value else "optout_second.csv")
    orchestra.program._instance = orchestra.instance
    assert orchestra.program.sync().status == 0
    assert sides(orchestra.program, id_) == (bool(value), bool(value))
    assert not list(exports(orchestra.program).iterdir())


def test_a_backfill_over_all_opt_out_partitions_changes_nothing_and_names_files_that_are_gone(
    orchestra: Orchestra,
) -> None:
    """Both files were taken and are gone: they state nothing again. A third one was removed before it was taken."""
    id_ = next(opted_in(orchestra.program))
    take_a_file(orchestra, id_, 1, NOW - HOUR)
    newer = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=4)  # than the write to Dynamics 365
    take_a_file(orchestra, id_, 0, newer)
    write_file(orchestra.program, HEADER + says(id_, 1, LATER), "optout_lost.csv")
    orchestra.tick(FILE)
    assert orchestra.asked(FILE)
    clear(orchestra.program)
    orchestra.tick(FILE)
    before, since = len(audit(orchestra.program)), orchestra.program.sandbox.admin.last()
    runs = backfill(orchestra)
    lost = runs.pop("optout_lost.csv").check("the_file_can_be_read")
    assert (lost.passed, lost.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "is known: it was removed from the SFTP unprocessed" in (lost.description or "")
    assert runs.keys() == {"optout_first.csv", "optout_second.csv"}
    for name, run in runs.items():
        assert False not in run.checks.values()
        result = run.check("the_file_can_be_read").description or ""
        assert result.startswith(f"{name} was processed on {datetime.now(UTC):%Y-%m-%d} and is no longer on the SFTP.")
        assert result.endswith("Its statements are in the ledger and are not decided again.")
        [partition] = run.days(EXPORT)
        assert run.metadata(EXPORT, partition) == {"dagster/partition_row_count": 0}
        assert values(run, DECISIONS, partition)["decisions"] == 0
        assert (run.days(CONTACT_OPT_OUT), run.days(PROFILE_OPT_OUT)) == ([partition], [partition])
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}
    assert sides(orchestra.program, id_) == (False, False)
    assert len(audit(orchestra.program)) == before
