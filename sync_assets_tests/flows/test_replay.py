"""Rows that are read again: by `replay`, when a position is lost or a mapping changes, and to be inserted once more."""

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import unquote

import dagster as dg
import pytest

from sync_assets.cli.replay import replay
from sync_assets.commands.values import Result
from sync_assets.defs.partitions import today
from sync_assets.ledger.feed import Replay
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.ledgers import feed_of
from sync_assets_tests.support.orchestra import in_memory
from sync_assets_tests.support.plain_runs import plain_runs
from sync_assets_tests.support.program import CONTACT, Program, calls

N = 50


@pytest.fixture
def synced(program: Program) -> Program:
    assert program.sync().status == 0
    return program


def replayed(program: Program, *days: date | None, force: bool = False) -> Result:
    """`replay` in this process; it must come to its end. By Dagster if `program.on_disk`, as the command does."""
    with (
        closing(program.runtime()) as runtime,
        pytest.MonkeyPatch.context() as patch,
        nullcontext() if program.on_disk else plain_runs(),
    ):
        patch.setenv("DAGSTER_HOME", program.env["DAGSTER_HOME"])
        done = replay(runtime, "contact", *days, force=force)
    assert done.problems == []
    return done


def standing(program: Program) -> Replay | None:
    """The replay of days that is asked for and not done."""
    runtime = program.runtime()
    feed = runtime.ledger.feeds.feed("contact")
    runtime.close()
    return feed and feed.days


def reads(program: Program, since: int = 0) -> list[str]:
    """What was asked of D365 about contacts, in order."""
    journal = program.sandbox.admin.journal("d365", since)
    return [unquote(entry["path"]) for entry in journal if "/contacts?" in entry["path"]]


def by_day(program: Program) -> Counter[date]:
    """Contacts by the day on which they were last modified."""
    return Counter(date.fromisoformat(row["modifiedon"][:10]) for row in program.sandbox.admin.dump_d365())


def test_a_replay_reads_the_table_again_and_sends_all_if_it_is_forced_and_of_a_day_in_the_future_is_refused(
    synced: Program,
) -> None:
    admin, tomorrow = synced.sandbox.admin, date.fromisoformat(today()) + timedelta(days=1)
    for option in ("--from", "--to"):
        status, _, errors = synced.run("replay", "contact", option, str(tomorrow))
        assert status == 1
        assert f"`{option} {tomorrow}` is in the future: today is {today()} (UTC)." in errors

    since = admin.last()
    done = replayed(synced)
    assert done.document == {
        "table": "contact", "pending": 0, "waiting": 0, "rejected": 0, "held": 0, "orphaned": 0, "synced": N,
    }  # fmt: skip
    first, *following = reads(synced, since)
    assert "deltatoken" not in first
    assert all("deltatoken" in link for link in following)
    assert synced.sync().document["engine_calls"] == calls()

    [key] = admin.change("contact", 1, birthdate="1990-01-02")  # apply_updates: false
    assert synced.sync().document["engine_calls"] == calls()
    since = admin.last()
    assert replayed(synced, force=True).document["pending"] == N
    assert [entry for entry in admin.journal("campaign", since) if entry["engine"]] == []
    assert synced.sync().document["engine_calls"] == calls(update=N)
    assert synced.profiles()[key]["birthDate"] == "1990-01-02"
    assert synced.sync().document["engine_calls"] == calls()


def test_a_forced_replay_looks_up_the_records_out_of_scope_as_planned_and_writes_nothing_to_them(
    program: Program, tmp_path: Path
) -> None:
    rules = [{"field": "statecode", "is": "eq", "value": 0}]
    program.table = {**CONTACT, "filters": {"rules": rules, "delete_filtered_out": False}}
    admin = program.sandbox.admin
    admin.change("contact", N, statecode=0)
    assert program.sync().status == 0
    lost, *left = admin.change("contact", 3, statecode=1, jobtitle="Out of scope")
    assert program.sync().document["engine_calls"] == calls()
    admin.post("/campaign/delete", {"resource": "profile", "keys": [lost]})
    before = program.profiles()
    replayed(program, force=True)
    [after] = admin.change("contact", [next(id_ for id_ in before if id_ not in left)], statecode=1)
    _, plan = program.json("plan", "--out", str(file := tmp_path / "plan.ndjson"))
    assert json.loads(file.read_text("utf-8").splitlines()[0])["records"] == {"contact": {"update": N - 4, "read": 4}}
    assert "Campaign holds 4 records, since an answer was lost, or a row to be sent again is out" in plan["notes"][0]
    assert (plan["tables"]["contact"]["update"], plan["tables"]["contact"]["unchanged"]) == (N - 4, 4)
    assert "it is looked up, and at most its links are sent" in " ".join(program.run("explain", left[0])[1].split())
    assert plan["engine_calls"] == program.sync().document["engine_calls"] == calls(update=N - 4, read=4)
    held = program.profiles()
    assert {id_: held[id_] for id_ in (*left, after)} == {id_: before[id_] for id_ in (*left, after)}
    assert program.sync().document["engine_calls"] == calls()
    admin.change("contact", [lost, *left], statecode=0)
    assert program.sync().document["engine_calls"] == calls(insert=1, update=2)
    assert program.profiles()[lost]["cusJobTitle"] == "Out of scope"


def test_a_replay_of_days_reads_the_rows_last_modified_on_them_both_days_included(synced: Program) -> None:
    days = by_day(synced)
    first, last = sorted(days)[len(days) // 4], sorted(days)[-len(days) // 4]
    expected = sum(rows for day, rows in days.items() if first <= day <= last)
    assert 0 < expected < N
    since = synced.sandbox.admin.last()
    status, output, errors = synced.run("replay", "contact", "--from", str(first), "--to", str(last), "--force")
    assert (status, errors) == (0, "")
    assert f"{expected} records are pending. `sync-assets sync` or the sensors send them." in output
    asked, *feed = reads(synced, since)
    tomorrow = last + timedelta(days=1)
    assert f"$filter=modifiedon ge {first}T00:00:00Z and modifiedon lt {tomorrow}T00:00:00Z" in asked
    assert all("deltatoken" in link for link in feed)
    assert synced.sync().document["engine_calls"] == calls(update=expected)


def test_its_run_captures_and_nothing_else_and_is_one_of_today(synced: Program) -> None:
    days = sorted(by_day(synced))
    synced.on_disk = True
    replayed(synced, days[0], days[3])
    with dg.DagsterInstance.from_config(synced.env["DAGSTER_HOME"]) as instance:
        [run] = instance.get_runs(limit=1)
        assert run.tags["dagster/partition"] == today()
        assert [step.step_key for step in instance.get_run_step_stats(run.run_id)] == ["sync_contact"]


def test_a_killed_replay_is_done_by_the_next_sync(synced: Program) -> None:
    admin, synced.on_disk = synced.sandbox.admin, True
    admin.latency("d365", 3000)
    since = admin.last()
    process = synced.start("replay", "contact", "--from", "2000-01-01", "--force")
    give_up_at = time.monotonic() + 120
    while standing(synced) is None and time.monotonic() < give_up_at:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    admin.latency("d365", 0)
    assert standing(synced) is not None
    assert [link for link in reads(synced, since) if "deltatoken" in link] == []
    assert synced.sync().document["engine_calls"] == calls(update=N)
    assert standing(synced) is None


def test_a_replay_of_days_goes_on_with_an_unfinished_one_of_other_days_before(synced: Program) -> None:
    """Each is a run of Dagster, which closes the ledger."""
    first, last = min(by_day(synced)), max(by_day(synced))
    with closing(synced.runtime()) as runtime:
        runtime.ledger.replays.ask_for_replay("contact", first, first, resend=False)
    synced.on_disk = True
    done = replayed(synced, first, last, force=True)
    assert (done.document["pending"], standing(synced)) == (N, None)


def test_a_replay_of_days_answered_by_a_replica_that_lags_keeps_the_newer_row_unless_it_is_forced(
    synced: Program,
) -> None:
    admin = synced.sandbox.admin
    admin.change("contact", 3, jobtitle="Newest")
    assert synced.sync().document["engine_calls"] == calls(update=3)
    for force in (False, True):
        admin.settings("d365", lagging_queries=True)
        assert replayed(synced, date(2000, 1, 1), force=force).document["pending"] == (N if force else 0)
        admin.settings("d365", lagging_queries=False)
        assert synced.sync().document["engine_calls"] == calls(update=N if force else 0)
        newest = [profile for profile in synced.profiles().values() if profile["cusJobTitle"] == "Newest"]
        assert len(newest) == (0 if force else 3)


def test_the_change_sensor_asks_for_a_run_that_goes_on_with_a_replay(synced: Program) -> None:
    with in_memory(synced) as orchestra:
        orchestra.runtime.ledger.replays.ask_for_replay("contact", date.min, date.max, resend=True)
        [request] = orchestra.asked("d365_changes")
        assert orchestra.execute(request).success
        assert feed_of(orchestra.runtime.ledger).days is None
        orchestra.settle()
        assert orchestra.pending == 0
    assert synced.sandbox.admin.engine_calls()["update"] == N


@pytest.fixture
def deleting(program: Program) -> Program:
    program.table = {**CONTACT, "apply_deletes": True}
    assert program.sync().status == 0
    return program


def gap(program: Program) -> list[str]:
    """The position in the feed is lost while rows are deleted, changed and made; the ids that were deleted."""
    admin = program.sandbox.admin
    gone = admin.delete("contact", 3)
    admin.change("contact", 4, jobtitle="Changed in the gap")
    admin.create("contact", {"lastname": "Byron"}, {"lastname": "Lovelace"})
    admin.expire()
    return gone


def test_a_position_that_expires_again_and_again_is_an_error_and_the_next_sync_reads_in_full_as_it_says(
    deleting: Program,
) -> None:
    gap(deleting)
    deleting.sandbox.admin.fault("d365", "expired_delta")
    done = deleting.sync()
    assert done.status == 1
    assert [str(problem) for problem in done.problems] == [
        "The position in the change feed has expired (table contact). The next sync reads the table in full."
    ]
    deleting.sandbox.admin.clear_faults()
    deleting.sandbox.admin.expire()
    since = deleting.sandbox.admin.last()
    assert deleting.sync().status == 0
    reads = [entry["path"] for entry in deleting.sandbox.admin.journal("d365", since) if "/contacts" in entry["path"]]
    assert any("deltatoken" not in path for path in reads)
    deleting.assert_in_step()


@pytest.mark.parametrize("error", ["expired", "bad_query"])
def test_an_organization_that_was_restored_from_a_backup_goes_back_in_campaign_too(
    deleting: Program, error: str
) -> None:
    admin = deleting.sandbox.admin
    admin.settings("d365", later_link_error=error)
    changed = admin.change("contact", 3, jobtitle="After the backup")
    assert deleting.sync().document["engine_calls"] == calls(update=3)
    admin.restore()
    assert deleting.sync().document["engine_calls"] == calls(update=3)
    deleting.assert_in_step()
    admin.change("contact", changed[:1], jobtitle="After the restore")  # with a version that another row had before
    assert deleting.sync().document["engine_calls"] == calls(update=1)
    deleting.assert_in_step()


class TestChildrenOfAParentThatComesBack:
    """Their payload was erased when Campaign acknowledged it, so their rows are read again to be inserted."""

    @pytest.fixture
    def chain(self, new_chain: Callable[..., Chain]) -> Chain:
        rules = [{"field": "statecode", "is": "eq", "value": 0}]
        return new_chain(filters={"rules": rules, "delete_filtered_out": True})

    def leave(self, chain: Chain, **order: str) -> tuple[str, str, str]:
        """A contact with an order with a line, in Campaign until the contact leaves its filter.

        order: changes of the order before that.
        """
        ids = chain.make()
        assert chain.sync() == (0, calls(insert=3, read=8))
        if order:
            chain.admin.change("new_order", [ids[1]], **order)
            assert chain.sync()[0] == 0
        chain.admin.change("contact", [ids[0]], statecode=1)
        status, _ = chain.sync()
        assert status == 0  # the children are orphaned
        assert all(not records for records in chain.held().values())
        return ids

    def test_as_they_are_by_then(self, chain: Chain) -> None:
        contact, order, _ = self.leave(chain)
        chain.admin.change("new_order", [order], new_name="Changed")
        chain.admin.change("contact", [contact], statecode=0)
        assert chain.sync() == (0, calls(insert=3, read=2))
        assert chain.held()["cusOrder"][order]["cusName"] == "Changed"

    def test_but_not_as_a_replica_that_lags_still_has_them(self, chain: Chain) -> None:
        contact, order, line = self.leave(chain, new_name="Changed")
        chain.admin.settings("d365", lagging_queries=True)
        chain.admin.change("contact", [contact], statecode=0)
        assert chain.sync()[0] == 2
        assert chain.held()["cusOrder"] == {}
        chain.admin.settings("d365", lagging_queries=False)
        assert chain.sync()[0] == 0
        assert chain.held()["cusOrder"][order]["cusName"] == "Changed"
        assert [list(records) for records in chain.held().values()] == [[contact], [order], [line]]
