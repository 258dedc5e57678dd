"""Opt-outs on a real Dagster instance: sensors alone carry them both ways, and what runs, checks and metadata show.

When which run is asked for: opt_out/test_sensors.py. What is decided: test_opt_outs.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from sync_assets.ingress import sensors
from sync_assets.ledger import Ledger
from sync_assets.ledger.opt_out_files import POLL, FileState
from sync_assets.operations.instance import dagster_instance
from sync_assets.opt_out import taking
from sync_assets.opt_out.partitions import changes_partition, poll_of
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.flows.opt_outs import (
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
    switch_on,
    write_file,
    writes,
)
from sync_assets_tests.flows.orchestra import AUDIT, PROFILE, Orchestra, Run
from sync_assets_tests.program import Program
from sync_assets_tests.sandbox_process import SandboxProcess

EXPORT, DECISIONS = dg.AssetKey(["campaign", "opt_out_export"]), dg.AssetKey(["opt_out", "decisions"])
TO_D365, TO_CAMPAIGN = dg.AssetKey(["d365", "contact_opt_out"]), dg.AssetKey(["campaign", "profile_opt_out"])
N = 20
FILE = "opt_out_file"


@pytest.fixture(scope="module")
def shared(sandbox_factory: SandboxFactory) -> Iterator[SandboxProcess]:
    sandbox = sandbox_factory(contacts=N)
    yield sandbox
    assert sandbox.errors == ""


@pytest.fixture
def program(shared: SandboxProcess, tmp_path: Path) -> Iterator[Program]:
    """An installation of its own, on contacts without an opt-out, no profiles, and an empty folder."""
    admin = shared.admin
    for row in admin.dump_d365():
        if row["donotemail"] or row["donotphone"]:
            admin.change("contact", [row["contactid"]], donotemail=False, donotphone=False)
    yield switch_on(Program(shared, tmp_path), "bidirectional")
    admin.clear_faults()
    clear(Program(shared, tmp_path))
    admin.post("/campaign/delete", {"resource": "profile", "pkeys": [one["PKey"] for one in admin.dump_campaign()]})


@pytest.fixture
def orchestra(program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestra]:
    """All contacts stand in Campaign, which got them from us; nothing is to be done. Dagster keeps nothing."""
    monkeypatch.setattr(sensors, "HOLD_SECONDS", 0.0)
    with dg.DagsterInstance.ephemeral() as instance:
        started = Orchestra(program, instance)
        started.capture()
        started.push()
        yield started
        started.runtime.close()


def rest(orchestra: Orchestra) -> list[Run]:
    """Ticks of all sensors and the runs that they ask for, until they ask for nothing."""
    runs: list[Run] = []
    for _ in range(20):
        ticks = [orchestra.tick(name) for name in ("d365_changes", "backlog", FILE)]
        requests = [request for tick in ticks for request in tick.run_requests or ()]
        if not requests and not any("still being written" in (tick.skip_message or "") for tick in ticks):
            return runs
        for request in requests:
            runs.append(orchestra.execute(request))
            assert runs[-1].success, runs[-1].errors
    raise AssertionError("the sensors do not come to rest")


def apart(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Those that read a file or polled, and the others."""
    return [run for run in runs if run.days(EXPORT)], [run for run in runs if not run.days(EXPORT)]


def take(orchestra: Orchestra) -> tuple[Run, str]:
    """The run of the file that lies there, and its partition."""
    for _ in range(3):
        for request in orchestra.asked(FILE):
            return orchestra.execute(request), request.partition_key or ""
    raise AssertionError(orchestra.tick(FILE).skip_message)


def table(metadata: dict[str, Any], name: str) -> list[tuple[Any, ...]]:
    return [tuple(record.data.values()) for record in metadata[name].records]


def values(run: Run, key: dg.AssetKey, partition: str) -> dict[str, Any]:
    """The numbers of a materialisation, which the UI plots."""
    return {name: value for name, value in run.metadata(key, partition).items() if isinstance(value, int)}


# Sensors alone


def test_sensors_alone_carry_an_opt_out_from_d365_to_campaign(orchestra: Orchestra) -> None:
    """Two ticks and two runs: the change feed's, and that of the day's changes."""
    id_ = next(opted_in(orchestra.program))
    set_d365(orchestra.program, id_, donotemail=True)
    captured, carried = rest(orchestra)
    assert captured.steps == {"sync_contact"}
    assert carried.steps == {"opt_out__decisions", "d365__contact_opt_out", "campaign__profile_opt_out"}
    assert sides(orchestra.program, id_) == (True, True)


def test_sensors_alone_carry_a_file_to_d365_and_its_echo_changes_nothing(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    set_campaign(orchestra.program, id_, blackListPhone=True)
    orchestra.program.sandbox.admin.export()
    [taken], after = apart(rest(orchestra))
    assert taken.steps >= {"campaign__opt_out_export", "opt_out__decisions", "d365__contact_opt_out"}
    assert sides(orchestra.program, id_, "donotphone") == (True, True)
    # What we wrote comes back in the change feed, and is nothing new.
    assert [run.steps for run in after] == [{"sync_contact"}]
    assert not rest(orchestra)


def test_a_file_that_another_run_reads_at_the_same_time_is_decided_all_the_same(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = next(opted_in(orchestra.program))
    set_campaign(orchestra.program, id_, blackListPhone=True)
    orchestra.program.sandbox.admin.export()
    state, replaced = taking.state, []

    def state_meanwhile(ledger: Ledger, rows: Any, attributes: Any, partition: str, moment: datetime) -> Any:
        if not replaced:
            store, key = orchestra.runtime.store, EXPORT.path
            for manifest, parts in store.published(key, partition).items():
                copies = [store.write(key, partition, f"other-{one.name}", store.read(key, partition, one.name))
                          for one in parts]  # fmt: skip
                store.publish(key, partition, manifest, copies)
                store.remove(key, partition, *(one.name for one in parts))
                replaced.extend(parts)
        return state(ledger, rows, attributes, partition, moment)

    monkeypatch.setattr(taking, "state", state_meanwhile)
    taken, _ = take(orchestra)
    assert taken.success, taken.errors
    assert replaced
    assert sides(orchestra.program, id_, "donotphone") == (True, True)


def polling(orchestra: Orchestra, last: datetime | None = None) -> Orchestra:
    """Profiles are polled every five minutes; the last poll began then."""
    orchestra.program.opt_out["poll_profiles_minutes"] = 5
    orchestra.reload()
    if last:
        orchestra.runtime.ledger.note(POLL, last)
    return orchestra


def test_sensors_alone_carry_what_a_poll_finds_without_any_file(orchestra: Orchestra) -> None:
    polling(orchestra, datetime.now(UTC) - timedelta(minutes=5))
    id_ = next(opted_in(orchestra.program))
    set_campaign(orchestra.program, id_, blackListEmail=True)
    [run], _ = apart(rest(orchestra))
    [partition] = run.days(EXPORT)
    assert sides(orchestra.program, id_) == (True, True)
    assert [row[1:] for row in table(run.metadata(DECISIONS, partition), "by_reason")] == [(1, "d365")]
    assert orchestra.runtime.ledger.last_noted(POLL) == poll_of(partition)
    assert not list(exports(orchestra.program).iterdir())


def test_the_first_poll_reads_all_profiles_and_none_follows_before_it_is_due(orchestra: Orchestra) -> None:
    since = orchestra.program.sandbox.admin.last()
    [run], others = apart(rest(polling(orchestra)))
    [partition] = run.days(EXPORT)
    told = values(run, EXPORT, partition)
    assert (told["rows"], told["engine_calls"]) == (N, 1)  # one page
    assert not others
    assert not rest(orchestra)
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}


def test_a_poll_reads_what_changed_since_the_last_one_began(orchestra: Orchestra) -> None:
    polling(orchestra, datetime.now(UTC) - timedelta(minutes=5))
    old, new, *_ = opted_in(orchestra.program)
    for id_, age in ((old, timedelta(minutes=30)), (new, timedelta(minutes=1))):
        moment = f"{datetime.now(UTC) - age:%Y-%m-%d %H:%M:%S}.000Z"
        set_campaign(orchestra.program, id_, datetime.now(UTC) - age, blackListEmail=True)
        told = {"resource": "profile", "keys": [id_], "raw": {"lastModified": moment}}
        orchestra.program.sandbox.admin.post("/campaign/change", told)
    others = [id_ for id_ in orchestra.program.profiles() if id_ not in (old, new)]
    moment = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%d %H:%M:%S}.000Z"
    told = {"resource": "profile", "keys": others, "raw": {"lastModified": moment}}
    orchestra.program.sandbox.admin.post("/campaign/change", told)
    [run], _ = apart(rest(orchestra))
    [partition] = run.days(EXPORT)
    assert run.metadata(EXPORT, partition)["rows"] == 1
    assert sides(orchestra.program, new) == (True, True)
    assert sides(orchestra.program, old) == (False, True)  # the file brings it


# A file that is refused, and one whose run fails


def test_a_file_of_no_use_fails_its_run_at_once_and_keeps_no_other_back(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
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


def test_a_file_whose_run_failed_is_taken_by_the_next_one(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    write_file(orchestra.program, HEADER + says(id_, 1, LATER))
    orchestra.tick(FILE)
    [request] = orchestra.asked(FILE)
    orchestra.program.sandbox.admin.fault("sftp", "cut_before", path=r"\.csv$", times=1)
    failed = orchestra.execute(request)
    assert not failed.success
    assert "cut the connection" in failed.errors[0]
    assert failed.days(EXPORT) == []
    orchestra.later(FILE, seconds=10)
    run, partition = take(orchestra)
    assert run.success
    assert partition == request.partition_key
    assert sides(orchestra.program, id_)[0] is True


# What a run shows


def test_a_run_shows_its_numbers(orchestra: Orchestra) -> None:
    news, none, stale, *_ = opted_in(orchestra.program)
    orchestra.program.sandbox.admin.change("contact", [news], fax="+1 555 0100")  # newer than what the file says
    write_file(orchestra.program, HEADER + says(stale, 1, LATER), "optout_20261124_030000.csv")
    assert take(orchestra)[0].success
    rows = [says(news), says(none, 0, ""), says(stale, 0, EARLIER), f",1,{EARLIER},,\n", says(none, "perhaps")]
    write_file(orchestra.program, HEADER + "".join(rows), "optout_20261124_040000.csv")
    run, partition = take(orchestra)
    assert run.success

    told = run.metadata(EXPORT, partition)
    numbers = ("rows", "good_rows", "rejected_rows", "foreign_profiles", "dagster/partition_row_count", "engine_calls")
    assert [told[name] for name in numbers] == [5, 3, 1, 1, 3, 0]
    assert told["file_bytes"] == len(HEADER + "".join(rows))
    assert told["rows_per_second"] > 0
    assert told["dates"] == "xml"
    assert pl.read_parquet(Path(told["path"]) / "*.parquet").height == 3

    told = run.metadata(DECISIONS, partition)
    assert values(run, DECISIONS, partition) == {
        "dagster/partition_row_count": 1,
        "decisions": 1,
        "stated_news": 1,
        "stated_echo": 0,
        "stated_known": 0,
        "stated_stale": 1,
        "stated_default": 1,
        "to_d365": 1,
        "to_campaign": 0,
        "held": 0,
        "engine_calls": 0,
    }
    assert table(told, "by_reason") == [("an opt-out wins", 1, "d365")]
    assert pl.read_parquet(Path(told["audit"]) / "*.parquet")["contact"].to_list() == [news]

    nothing = {"held_already": 0, "to_be_decided_again": 0, "refused": 0, "no_longer_there": 0, "unanswered": 0}
    assert values(run, TO_D365, partition) == {"written": 1, "engine_calls": 0, **nothing}
    assert values(run, TO_CAMPAIGN, partition) == {"written": 0, "engine_calls": 0, **nothing}


def test_rows_that_are_not_valid_are_shown_with_line_and_reason_and_the_run_goes_on(orchestra: Orchestra) -> None:
    good, bad, *_ = opted_in(orchestra.program)
    write_file(orchestra.program, HEADER + says(good, 1, LATER) + says(bad, "perhaps") + says("jane@example.org"))
    run, _ = take(orchestra)
    assert run.success
    assert sides(orchestra.program, good)[0] is True
    told = run.check("every_row_is_valid")
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (told.description or "").startswith("2 of 3 rows were left out; the others go on.")
    metadata = {name: value.value for name, value in told.metadata.items()}
    assert metadata["rejected_rows"] == 2
    [(id_, line, reason), (other, _, _)] = table(metadata, "first_rows")
    assert (id_, line) == (bad, "3")
    assert reason.startswith("`blackListEmail` is none of")
    assert other == ""  # what stood there is nobody's id


def test_engine_calls_are_told_where_they_are_made(orchestra: Orchestra) -> None:
    set_d365(orchestra.program, next(opted_in(orchestra.program)), donotemail=True)
    _, run = rest(orchestra)
    told = {key: values(run, key, changes_partition())["engine_calls"] for key in (DECISIONS, TO_D365, TO_CAMPAIGN)}
    assert told == {DECISIONS: 1, TO_D365: 0, TO_CAMPAIGN: 1}  # asked, then written


def test_runs_of_one_day_add_up_in_its_audit(orchestra: Orchestra) -> None:
    first, second, *_ = opted_in(orchestra.program)
    for id_ in (first, second):
        set_d365(orchestra.program, id_, donotemail=True)
        _, run = rest(orchestra)
        assert run.days(DECISIONS) == [changes_partition()]
    kept = audit(orchestra.program)
    assert kept["contact"].to_list() == [first, second]
    assert set(kept["write"]) == {"campaign"}
    assert set(kept["source"]) == {"change in Dynamics 365"}


def test_an_opt_out_that_is_refused_leaves_the_run_green_and_its_check_red(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    set_d365(orchestra.program, id_, donotemail=True)
    body = "RST-360011 An error has occurred.\nThe value of attribute blackListEmail is not valid"
    orchestra.program.sandbox.admin.fault("campaign", "status", status=500, body=body, method="PATCH", path=id_)
    runs = rest(orchestra)
    [run] = [run for run in runs if run.days(TO_CAMPAIGN)]
    assert run.check("no_opt_out_is_refused", TO_D365).passed
    told = run.check("no_opt_out_is_refused", TO_CAMPAIGN)
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "sync-assets retry contact" in (told.description or "")
    assert sides(orchestra.program, id_) == (True, False)


# Checks that block


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
    assert "`donotemail`: Dynamics 365 does not let anybody write to this column" in run.errors[0]
    assert run.steps.isdisjoint({"d365__contact_opt_out", "campaign__profile_opt_out"})
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}
    # Nothing is lost: what the file said is due, and goes once the column is right.
    assert [run.success for run in rest(orchestra)][:1] == [True]
    assert sides(orchestra.program, id_) == (True, True)


# What somebody does in the UI


def test_one_asset_alone_can_be_materialised(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    write_file(orchestra.program, HEADER + says(id_, 1, LATER))
    orchestra.tick(FILE)
    [request] = orchestra.asked(FILE)
    partition = request.partition_key or ""
    for key, holds in ((EXPORT, False), (DECISIONS, False), (TO_D365, True)):
        run = orchestra.materialize(key, partition)
        assert run.success, run.errors
        assert run.days(key) == [partition]
        assert sides(orchestra.program, id_)[0] is holds
    assert [file.state for file in orchestra.runtime.ledger.files()] == [FileState.DONE]


def test_a_file_that_nobody_has_read_is_not_done_with_by_deciding(orchestra: Orchestra) -> None:
    write_file(orchestra.program, HEADER + says(next(opted_in(orchestra.program)), 1, LATER))
    orchestra.tick(FILE)
    [request] = orchestra.asked(FILE)
    run = orchestra.materialize(DECISIONS, request.partition_key)
    assert not run.success
    assert "have not been read yet. Materialise campaign/opt_out_export along with it." in run.errors[0]
    assert [file.state for file in orchestra.runtime.ledger.files()] == [FileState.SEEN]


def test_nor_is_a_poll_made_by_deciding(orchestra: Orchestra) -> None:
    [request] = polling(orchestra).asked(FILE)
    assert not orchestra.materialize(DECISIONS, request.partition_key).success
    assert orchestra.runtime.ledger.last_noted(POLL) is None


def test_an_old_file_materialised_again_writes_nothing_and_no_decision_either(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    write_file(orchestra.program, HEADER + says(id_, 1, EARLIER), "optout_20261101_120000.csv")
    orchestra.tick(FILE)
    [request] = orchestra.asked(FILE)
    assert orchestra.execute(request).success
    rest(orchestra)
    set_d365(orchestra.program, id_, donotemail=False)  # somebody opts in again
    orchestra.program.sandbox.admin.change("contact", [id_], fax="+1 555 0100")
    set_campaign(orchestra.program, id_, blackListEmail=False)
    orchestra.program.sandbox.admin.export(name="optout_20261124_040000.csv")
    rest(orchestra)
    before, since = audit(orchestra.program).height, orchestra.program.sandbox.admin.last()
    run = orchestra.execute(request)
    assert run.success
    assert values(run, DECISIONS, request.partition_key or "")["decisions"] == 0
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}
    assert sides(orchestra.program, id_) == (False, False)
    assert audit(orchestra.program).height == before


def test_a_partition_without_a_file_says_what_to_do(orchestra: Orchestra) -> None:
    orchestra.instance.add_dynamic_partitions("opt_out_files", [changes_partition(), "nothing@2026-11-24T00:00:00Z"])
    changes = orchestra.materialize(EXPORT, changes_partition())
    assert "Materialise opt_out/decisions and what follows from it." in changes.errors[0]
    unknown = orchestra.materialize(EXPORT, "nothing@2026-11-24T00:00:00Z")
    assert "No file of this partition (nothing@2026-11-24T00:00:00Z) is known." in unknown.errors[0]


def test_a_run_of_profiles_compares_nothing(orchestra: Orchestra) -> None:
    """Each would cost a sample of reads. The UI selects all checks of an asset with it."""
    before = orchestra.program.sandbox.admin.engine_calls()["read"]
    run = orchestra.materialize(PROFILE)
    assert run.success, run.errors
    assert "opt_outs_agree" not in run.checks
    assert orchestra.program.sandbox.admin.engine_calls()["read"] == before


@pytest.mark.parametrize(
    ("asset", "name"),
    [(AUDIT, "opt_outs_agree"), (EXPORT, "export_arrives_in_time"), (EXPORT, "sftp_has_room")],
)
def test_one_check_alone_can_be_executed(orchestra: Orchestra, asset: dg.AssetKey, name: str) -> None:
    job = orchestra.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={dg.AssetCheckKey(asset, name)}
    )
    result = job.execute_in_process(instance=orchestra.instance, raise_on_error=False)
    assert Run(orchestra.instance, result.run_id, result.success).checks.keys() == {name}


# What the schedules start


def test_records_and_opt_outs_are_compared_by_the_same_job(orchestra: Orchestra) -> None:
    before = orchestra.program.sandbox.admin.engine_calls()["read"]
    run = orchestra.job("audit")
    assert run.success
    assert run.checks == {
        "campaign_agrees_with_what_was_sent": True,
        "no_key_stands_twice": True,
        "opt_outs_agree": True,
    }
    assert orchestra.program.sandbox.admin.engine_calls()["read"] - before == 2 * N
    assert run.check("opt_outs_agree").metadata["contacts"].value == N


def test_what_changed_behind_our_back_is_found_by_it(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    set_campaign(orchestra.program, id_, datetime.now(UTC) - 30 * HOUR, blackListPhone=True)
    told = orchestra.job("audit").check("opt_outs_agree")
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.ERROR)
    metadata = {name: value.value for name, value in told.metadata.items()}
    assert table(metadata, "attributes") == [("blackListPhone", id_, 1)]


def test_the_folder_is_watched_by_a_job_that_fails_if_it_cannot_look(orchestra: Orchestra) -> None:
    run = orchestra.job("watch")
    assert run.success
    assert (run.checks["export_arrives_in_time"], run.checks["sftp_has_room"]) == (False, True)
    orchestra.program.sandbox.admin.fault("sftp", "cut_before", times=1)
    run = orchestra.job("watch")
    assert not run.success
    assert "cut the connection" in run.errors[0]
    assert "export_arrives_in_time" not in run.checks
    assert run.checks["change_feed_is_polled"]  # the others are asked all the same


# Nobody's data


def test_no_contact_can_be_read_in_what_dagster_keeps(orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch) -> None:
    """In events, logs, ticks, metadata, ledger and Parquet: whatever a run did and whatever went wrong."""
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    monkeypatch.setenv("DAGSTER_HOME", program.env["DAGSTER_HOME"])
    with dagster_instance() as instance:
        orchestra.instance = instance
        _all_goes_wrong(orchestra)
    orchestra.runtime.close()
    files = [path for path in (program.home / "dagster").rglob("*") if path.is_file()]
    kinds = Counter(path.suffix for path in files)
    assert kinds[".db"] > 3
    assert kinds[".parquet"] > 3
    for path in files:
        told = pl.read_parquet(path).write_csv().encode() if path.suffix == ".parquet" else path.read_bytes()
        for text in ("xylanderquist", "918273"):
            assert not re.search(text.encode(), told, re.IGNORECASE), (path, text)
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
