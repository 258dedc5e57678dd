"""Opt-out files materialised again on a real Dagster instance: a backfill over all of them ends green, whatever became
of them, and changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from sync_assets.cli import sync_opt_outs
from sync_assets.defs.asset_keys import CONTACT_OPT_OUT, DECISIONS, EXPORT, PROFILE_OPT_OUT, file_chain
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
    monkeypatch.setattr(sync_opt_outs, "POLL_SECONDS", 0.02)


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
    """Both files were taken and are gone: they state nothing again."""
    id_ = two_files_a_poll_and_a_change(orchestra)
    before, since = len(audit(orchestra.program)), orchestra.program.sandbox.admin.last()
    runs = backfill(orchestra)
    assert runs.keys() == {"optout_first.csv", "optout_second.csv"}
    for name, run in runs.items():
        assert False not in run.checks.values()
        told = run.check("the_file_can_be_read").description or ""
        assert told.startswith(f"{name} was taken on {datetime.now(UTC):%Y-%m-%d} and is no longer on the SFTP.")
        assert told.endswith("What it stated is in the ledger; nothing is decided of it again.")
        [partition] = run.days(EXPORT)
        assert run.metadata(EXPORT, partition) == {"dagster/partition_row_count": 0}
        assert values(run, DECISIONS, partition)["decisions"] == 0
        assert (run.days(CONTACT_OPT_OUT), run.days(PROFILE_OPT_OUT)) == ([partition], [partition])
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}
    assert sides(orchestra.program, id_) == (False, False)
    assert len(audit(orchestra.program)) == before


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
    before, since = len(audit(orchestra.program)), orchestra.program.sandbox.admin.last()
    run = orchestra.execute(request)
    assert run.success
    assert values(run, DECISIONS, request.partition_key or "")["decisions"] == 0
    assert writes(orchestra.program, since) == {"d365": 0, "campaign": 0}
    assert sides(orchestra.program, id_) == (False, False)
    assert len(audit(orchestra.program)) == before
