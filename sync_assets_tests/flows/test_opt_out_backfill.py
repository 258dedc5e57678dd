"""Opt-out files materialised again on a real Dagster instance: a backfill over all of them ends green, whatever became
of them, and changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_assets.commands import opt_out_runs
from sync_assets.defs.opt_out.asset_keys import CONTACT_OPT_OUT, DECISIONS, EXPORT, PROFILE_OPT_OUT, file_chain
from sync_assets.ledger.storage import schema
from sync_assets.opt_out.tables import REJECTED_ROWS
from sync_assets_tests.support.opt_out_runs import FILE, polling, values
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
from sync_assets_tests.support.orchestra import Orchestra, Run

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def _files_settle_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opt_out_runs, "POLL_SECONDS", 0.02)


def backfill(orchestra: Orchestra) -> dict[str, Run]:
    """The assets of files, materialised for all partitions, a run for each of them. By file."""
    runs: dict[str, Run] = {}
    for partition in orchestra.instance.get_dynamic_partitions("opt_out_files"):
        request = dg.RunRequest(partition_key=partition, asset_selection=file_chain(orchestra.runtime.config))
        runs[partition.partition("@")[0]] = orchestra.execute(request)
    assert {name: run.errors for name, run in runs.items() if not run.success} == {}
    return runs


def sync(orchestra: Orchestra) -> None:
    """Let all arrive, without the runs of the sensors: what is tested comes after it."""
    orchestra.program._instance = orchestra.instance
    assert orchestra.program.sync().status == 0


def take_a_file(orchestra: Orchestra, id_: str, value: int = 1, changed: datetime = NOW) -> None:
    """Let a file of one row be read, and deleted on the SFTP."""
    orchestra.program.opt_out["export"]["after"] = "delete"
    orchestra.reload()
    set_campaign(orchestra.program, id_, changed, blackListEmail=bool(value))
    row = says(id_, value, f"{changed:%Y-%m-%dT%H:%M:%S}.000Z")
    write_file(orchestra.program, HEADER + row, "optout_first.csv" if value else "optout_second.csv")
    sync(orchestra)
    assert sides(orchestra.program, id_) == (bool(value), bool(value))
    assert not list(exports(orchestra.program).iterdir())


def two_files_a_poll_and_a_change(orchestra: Orchestra) -> str:
    """A contact opted out and in again in Campaign, each by a file of its own; both files are deleted on the SFTP.
    Others' opt-outs came from Dynamics 365 and by a poll. Gives the contact."""
    changes_mind, polled, here, *_ = opted_in(orchestra.program)
    take_a_file(orchestra, changes_mind, 1, NOW - HOUR)
    take_a_file(orchestra, changes_mind, 0, NOW + HOUR)
    set_d365(orchestra.program, here, donotemail=True)
    sync(orchestra)
    set_campaign(orchestra.program, polled, blackListEmail=True)
    sync(polling(orchestra))
    assert [sides(orchestra.program, id_) for id_ in (polled, here)] == [(True, True)] * 2
    return changes_mind


def test_a_backfill_over_all_opt_out_partitions_ends_green_and_changes_nothing(orchestra: Orchestra) -> None:
    """Both files are gone. What the first one said is older than what is known by now."""
    id_ = two_files_a_poll_and_a_change(orchestra)
    before, since = audit(orchestra.program).height, orchestra.program.sandbox.admin.last()
    runs = backfill(orchestra)
    assert runs.keys() == {"optout_first.csv", "optout_second.csv"}
    stated: dict[str, dict[str, int]] = {}
    for name, run in runs.items():
        assert False not in run.checks.values()
        told = run.check("the_file_can_be_read").description or ""
        assert told.startswith(f"{name} was taken on {datetime.now(UTC):%Y-%m-%d} and is no longer on the SFTP.")
        assert "Its rows were kept and are read from /" in told
        [partition] = run.days(EXPORT)
        assert run.metadata(EXPORT, partition) == {
            "dagster/partition_row_count": 1,
            "rejected_rows": 0,
            "read_from": "kept rows",
        }
        numbers = values(run, DECISIONS, partition)
        assert (numbers["decisions"], run.days(CONTACT_OPT_OUT), run.days(PROFILE_OPT_OUT)) == (
            0,
            [partition],
            [partition],
        )
        stated[name] = {kind: numbers[f"stated_{kind}"] for kind in ("news", "known", "stale")}
    assert stated == {
        "optout_first.csv": {"news": 0, "known": 0, "stale": 1},
        "optout_second.csv": {"news": 0, "known": 1, "stale": 0},
    }
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}
    assert sides(orchestra.program, id_) == (False, False)
    assert audit(orchestra.program).height == before


def test_files_of_which_no_rows_are_kept_say_so_in_one_check_and_decide_nothing(orchestra: Orchestra) -> None:
    take_a_file(orchestra, next(opted_in(orchestra.program)))
    for asset in (EXPORT.path, REJECTED_ROWS):
        orchestra.runtime.store.prune(asset, datetime.now(UTC) + HOUR)
    for name, run in backfill(orchestra).items():
        assert [check for check, passed in run.checks.items() if not passed] == ["the_file_can_be_read"]
        told = run.check("the_file_can_be_read")
        assert told.severity is dg.AssetCheckSeverity.WARN
        assert (told.description or "").startswith(f"{name} was taken on ")
        assert (told.description or "").endswith("its rows are no longer kept. Nothing is decided of it again.")
        [partition] = run.days(EXPORT)
        assert run.metadata(EXPORT, partition)["read_from"] == "nothing"
        numbers = values(run, DECISIONS, partition)
        assert [number for kind, number in numbers.items() if kind.startswith("stated")] == [0] * 5


def test_a_file_that_was_removed_before_it_was_taken_is_no_error_of_a_backfill(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    write_file(orchestra.program, HEADER + says(id_, 1, LATER), "optout_lost.csv")
    orchestra.tick(FILE)
    assert orchestra.asked(FILE)
    clear(orchestra.program)
    orchestra.tick(FILE)
    run = backfill(orchestra)["optout_lost.csv"]
    told = run.check("the_file_can_be_read")
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "is known: it was removed from the SFTP before it was taken" in (told.description or "")
    assert sides(orchestra.program, id_) == (False, False)


def test_kept_rows_of_a_file_that_the_ledger_does_not_know_are_not_used(orchestra: Orchestra) -> None:
    """As with a new ledger beside an old store: without its memory they may be older than what both sides hold."""
    take_a_file(orchestra, next(opted_in(orchestra.program)))
    forget = sa.delete(schema.opt_out_file)
    orchestra.runtime.ledger.database.write(lambda connection: connection.execute(forget))
    for run in backfill(orchestra).values():
        [partition] = run.days(EXPORT)
        assert not run.checks["the_file_can_be_read"]
        numbers = values(run, DECISIONS, partition)
        assert [number for kind, number in numbers.items() if kind.startswith("stated")] == [0] * 5


def test_kept_rows_say_nothing_of_an_attribute_that_was_mapped_later(orchestra: Orchestra) -> None:
    take_a_file(orchestra, next(opted_in(orchestra.program)))
    orchestra.program.opt_out["mappings"]["donotpostalmail"] = "blackListPostalMail"
    orchestra.reload()
    since = orchestra.program.sandbox.admin.last()
    for run in backfill(orchestra).values():
        [partition] = run.days(EXPORT)
        numbers = values(run, DECISIONS, partition)
        assert sum(number for kind, number in numbers.items() if kind.startswith("stated")) == 1
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}


def test_an_old_file_materialised_again_writes_nothing_and_no_decision_either(orchestra: Orchestra) -> None:
    id_ = next(opted_in(orchestra.program))
    write_file(orchestra.program, HEADER + says(id_, 1, EARLIER), "optout_20261101_120000.csv")
    orchestra.tick(FILE)
    [request] = orchestra.asked(FILE)
    assert orchestra.execute(request).success
    set_d365(orchestra.program, id_, donotemail=False)  # the contact opts in again
    orchestra.program.sandbox.admin.change("contact", [id_], fax="+1 555 0100")
    set_campaign(orchestra.program, id_, blackListEmail=False)
    orchestra.program.sandbox.admin.export(name="optout_20261124_040000.csv")
    sync(orchestra)
    before, since = audit(orchestra.program).height, orchestra.program.sandbox.admin.last()
    run = orchestra.execute(request)
    assert run.success
    assert values(run, DECISIONS, request.partition_key or "")["decisions"] == 0
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}
    assert sides(orchestra.program, id_) == (False, False)
    assert audit(orchestra.program).height == before
