"""A run that stays: changes that come meanwhile wait for no other run, and it ends by itself when it should."""

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sync_assets.cli.instance import PACKAGED
from sync_assets.commands.maintenance import on
from sync_assets.defs.partitions import LEDGER_TAG, TABLE_TAG, table_tags, today
from sync_assets.defs.tables import run_requests, table_run, table_work
from sync_assets.defs.tables.asset_metadata import LINEAGE
from sync_assets.defs.tables.run_requests import end_killed
from sync_assets.ledger import Ledger
from sync_assets.runtime import program_sources
from sync_assets.runtime.workers import SILENT_AFTER
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.dagster_dev import dagster_daemon
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.orchestra import CONTACT, PROFILE, Orchestra, Run, shown
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import Admin
from sync_assets_tests.support.waiting import until

N = 50
ELSEWHERE = "elsewhere|another boot 4026531836|17|99|00000000"
"""A worker on another machine."""


@pytest.fixture
def orchestra(program: Program) -> Iterator[Orchestra]:
    program.runs = {"linger_seconds": 3}
    started = Orchestra(program, dg.DagsterInstance.ephemeral())
    yield started
    started.runtime.close()


def stays(orchestra: Orchestra, meanwhile: Callable[[], object], contacts: int = N) -> Run:
    """The run that the sensor asks for. `meanwhile` is called once its first load is done."""
    failed: list[BaseException] = []

    def play() -> None:
        try:
            until(lambda: len(orchestra.program.profiles()) == contacts, 30)
            time.sleep(0.5)
            meanwhile()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    [request] = orchestra.asked("d365_changes")
    thread = threading.Thread(target=play)
    thread.start()
    run = orchestra.execute(request)
    thread.join()
    assert not failed, failed[0]
    return run


def titles(orchestra: Orchestra) -> set[str]:
    return {one["cusJobTitle"] for one in orchestra.program.profiles().values()}


def test_changes_that_come_while_it_stays_are_sent_at_once_by_the_same_run(orchestra: Orchestra) -> None:
    admin = orchestra.program.sandbox.admin

    def change() -> None:
        for title in ("first", "second", "third"):
            admin.change("contact", 1, jobtitle=title)
            until(lambda title=title: title in titles(orchestra), 10)  # the latency bench says how quick it is

    run = stays(orchestra, change)
    assert run.success
    metadata = run.metadata(CONTACT, today())
    assert (metadata["rows_captured"], metadata["dagster/partition_row_count"]) == (N + 3, N + 3)
    metadata = run.metadata(PROFILE, today())
    assert (metadata["inserted"], metadata["updated"], metadata["engine_calls"]) == (N, 3, N + 5)
    lines = [entry.user_message for entry in orchestra.instance.all_logs(run.run_id)]
    assert lines.count("Waiting for changes of contact. The run ends after 3 s without work, or after 60 min.") == 1
    assert run.days(CONTACT) == [today()] * 2  # after the first load, and the totals at the end
    assert orchestra.tick("d365_changes").skip_message == "contact: no change"


def test_an_opt_out_of_a_contact_that_the_filter_excludes_is_sent_by_the_run_that_stays(orchestra: Orchestra) -> None:
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    program.runs = {"linger_seconds": 15}
    program.opt_out = {"direction": "d365_to_campaign", "mappings": {"donotemail": "blackListEmail"}}
    program.table |= {"filters": {"rules": [{"field": "department", "is": "is_null"}]}}

    def opt_out() -> None:
        [id_] = admin.change("contact", 1, department="out", donotemail=False)
        time.sleep(2)
        admin.change("contact", [id_], donotemail=True)
        until(lambda: program.profiles()[id_]["blackListEmail"], 12)
        on(program.runtime(), ["contact"])  # which ends the run

    stays(orchestra, opt_out)


REFUSED = dg.AssetCheckKey(PROFILE, "no_record_is_rejected")


def test_a_check_whose_answer_changes_while_it_stays_shows_the_new_one(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_run, "REPORT_SECONDS", 0.5)
    admin = orchestra.program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)

    def refuse() -> None:
        until(lambda: shown(orchestra.instance, REFUSED) == "SUCCEEDED", 10)
        admin.change("contact", 1, emailaddress1="not-an-address")
        until(lambda: shown(orchestra.instance, REFUSED) == "FAILED", 20)

    run = stays(orchestra, refuse)
    assert shown(orchestra.instance, REFUSED) == "FAILED"
    evaluated = orchestra.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    assert len(evaluated) == 7 + 1 + 7  # at the first report, the changed one, at the end


@pytest.mark.parametrize("seconds", [3600.0, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_failed_check_that_a_watch_answered_stays_failed_whatever_the_run_reports_and_after_it_ended(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """By observations of the run between its hourly materialisations, and by materialisations alone."""
    monkeypatch.setattr(table_run, "REPORT_SECONDS", 0.5)
    monkeypatch.setattr(table_work, "NUMBERS_SECONDS", 0.0)
    monkeypatch.setattr(table_work, "MATERIALIZE_SECONDS", seconds)
    orchestra.program.runs = {"linger_seconds": 15}  # the watch takes seconds on a busy machine
    admin = orchestra.program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)

    def watch_then_change() -> None:
        [wrong] = admin.change("contact", 1, emailaddress1="not-an-address")
        until(lambda: shown(orchestra.instance, REFUSED) == "FAILED", 20)
        assert orchestra.job("watch").checks["no_record_is_rejected"] is False
        others = [row["contactid"] for row in admin.dump_d365() if row["contactid"] != wrong]
        for title in ("first", "second"):
            admin.change("contact", others[:1], jobtitle=title)
            until(lambda title=title: title in titles(orchestra), 10)
            statuses = []
            for _ in range(20):
                time.sleep(0.1)
                statuses.append(shown(orchestra.instance, REFUSED))
            assert statuses[-1] == "FAILED"
            assert seconds == 0.0 or set(statuses) == {"FAILED"}

    run = stays(orchestra, watch_then_change)
    assert shown(orchestra.instance, REFUSED) == "FAILED"
    materialized = len(run.days(PROFILE))
    assert materialized == 2 if seconds else materialized > 5


def test_a_run_that_stays_confirms_its_partitions_hourly_so_that_they_stay_fresh_and_ends_after_its_longest_time(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_run, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(table_work, "MATERIALIZE_SECONDS", 1.5)
    orchestra.program.runs = {"linger_seconds": "always", "longest_run_minutes": 0.1}
    [request] = orchestra.asked("d365_changes")
    began, run = time.monotonic(), orchestra.execute(request)
    assert run.success
    assert 6.0 < time.monotonic() - began < 60.0
    assert len(run.days(CONTACT)) == len(run.days(PROFILE)) > 2
    reported = [
        one.asset_materialization for one in orchestra.instance.fetch_materializations(PROFILE, limit=9).records
    ]
    assert {LINEAGE in one.metadata for one in reported if one} == {True}  # the UI shows that of the last one


def test_an_eager_asset_downstream_is_requested_for_materialisations_not_for_numbers_between_them(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_run, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(table_work, "NUMBERS_SECONDS", 0.0)
    partitions = orchestra.definitions.resolve_asset_graph().get(PROFILE).partitions_def

    @dg.asset(deps=[PROFILE], partitions_def=partitions, automation_condition=dg.AutomationCondition.eager())
    def campaigns() -> None: ...

    defs, cursor = dg.Definitions.merge(orchestra.definitions, dg.Definitions([campaigns])), None

    def requested() -> int:
        nonlocal cursor
        done = dg.evaluate_automation_conditions(defs, orchestra.instance, cursor=cursor)
        cursor = done.cursor
        return done.total_requested

    def change() -> None:
        until(lambda: requested() == 1, 10)
        orchestra.program.sandbox.admin.change("contact", 1, jobtitle="Later")
        until(lambda: bool(orchestra.instance.fetch_observations(PROFILE, limit=1).records), 10)
        assert requested() == 0

    assert requested() == 0
    stays(orchestra, change)
    assert requested() == 1


def to_maintenance(program: Program) -> None:
    on(program.runtime(), ["contact"])


def another_configuration(program: Program) -> None:
    program.guardrails = {"concurrency": 8}
    _ = program.env  # writes the file


def tracking_off(program: Program) -> None:
    program.sandbox.admin.post("/d365/tracking", {"table": "contact", "enabled": False})


@pytest.mark.parametrize("end", [to_maintenance, another_configuration, tracking_off])
def test_it_ends_when_its_set_up_changes_and_a_refused_feed_fails_the_check_ready(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch, end: Callable[[Program], None]
) -> None:
    monkeypatch.setattr(program_sources, "SECONDS", 0.5)
    orchestra.program.runs = {"linger_seconds": 600}
    began = time.monotonic()
    assert stays(orchestra, lambda: end(orchestra.program)).success
    assert time.monotonic() - began < 120
    if end is tracking_off:
        assert not orchestra.tick("d365_changes").run_requests
        assert shown(orchestra.instance, dg.AssetCheckKey(CONTACT, "ready")) == "FAILED"


def test_linked_tables_are_followed_together_and_arrive_in_link_order(chain: Chain) -> None:
    chain.program.runs = {"linger_seconds": 3}
    chain.make("Ada")
    orchestra = Orchestra(chain.program, dg.DagsterInstance.ephemeral())
    [request] = orchestra.asked("d365_changes")

    def later() -> None:
        until(lambda: bool(chain.held()["cusOrderLine"]), 30)
        chain.make("Grace")

    thread = threading.Thread(target=later)
    thread.start()
    assert orchestra.execute(request).success
    thread.join()
    assert {resource: len(records) for resource, records in chain.held().items()} == dict.fromkeys(chain.held(), 2)
    chain.assert_no_hidden_child()
    assert chain.admin.engine_calls()["insert"] == 6
    orchestra.runtime.close()


def test_a_run_without_a_sign_of_life_is_ended_and_the_next_one_is_asked_for(orchestra: Orchestra) -> None:
    """As after kill -9, on another machine or by another launcher: nothing but the ledger tells.

    A run that a person started has no tags of ours: its heartbeats are enough.
    """
    ledger, instance = orchestra.runtime.ledger, orchestra.instance
    dead, alive = (orchestra.under_way(table_tags("contact")) for _ in range(2))
    persons, foreign = (orchestra.under_way({}) for _ in range(2))
    ledger.runs.begin(alive.run_id, session_of(ledger, f"{ELSEWHERE}alive"))
    earlier = datetime.now(UTC) - SILENT_AFTER - timedelta(seconds=1)
    with Ledger.open(orchestra.runtime.settings.ledger_url, clock=lambda: earlier) as then:
        for run in (dead, persons):
            then.runs.begin(run.run_id, session_of(then, ELSEWHERE))
    assert [run.run_id for run in end_killed(instance, ledger, "contact")] == [alive.run_id]
    assert {run.run_id: run.status for run in instance.get_runs()} == {
        **dict.fromkeys((dead.run_id, persons.run_id), dg.DagsterRunStatus.FAILURE),
        **dict.fromkeys((alive.run_id, foreign.run_id), dg.DagsterRunStatus.STARTED),
    }
    assert orchestra.tick("d365_changes").skip_message == "contact: a run is under way"
    instance.delete_run(alive.run_id)
    assert orchestra.asked("d365_changes")


def test_code_locations_and_ledgers_on_one_instance_neither_end_nor_wait_for_each_others_runs(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs without heartbeats in the ledger: those of another location write theirs to another ledger, and so do two
    installations in one location, and one with a new ledger."""
    monkeypatch.setattr(run_requests, "SILENT_AFTER", timedelta(seconds=-1))
    status, tags, here = dg.DagsterRunStatus, table_tags("contact"), orchestra.location
    foreign = [
        orchestra.under_way(tags, kind, location, ledger="another")
        for kind in (status.QUEUED, status.STARTED, status.CANCELING)
        for location in (here, None)
        if location or kind is not status.QUEUED  # Dagster queues no run of the command line
    ]
    before = {run.run_id: run.status for run in orchestra.instance.get_runs()}
    assert len(before) == len(foreign)
    for location in (here, None):
        assert end_killed(orchestra.instance, orchestra.runtime.ledger, "contact", location=location) == []
    theirs, queued = (orchestra.under_way(tags, kind, location="theirs") for kind in (status.STARTED, status.QUEUED))
    by_command_line = orchestra.under_way(tags)
    ours = orchestra.under_way(tags, location=here)
    assert end_killed(orchestra.instance, orchestra.runtime.ledger, "contact") == [queued]  # as `sync` does
    [request] = orchestra.asked("d365_changes")
    assert request.tags[LEDGER_TAG] == orchestra.runtime.ledger.systems.identity()
    kinds = (status.STARTED, status.QUEUED, status.STARTED, status.FAILURE)
    after = {run.run_id: kind for run, kind in zip((theirs, queued, by_command_line, ours), kinds, strict=True)}
    assert {run.run_id: run.status for run in orchestra.instance.get_runs()} == before | after


SLOTS, PATIENCE = 2, 120.0


@pytest.mark.slow  # it starts five runs in two slots
def test_more_groups_of_tables_than_slots_all_send_soon_since_runs_that_stay_make_room(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four tables without links, by the sensors, the queue and the daemon of Dagster."""
    admin, program = chain.admin, chain.program
    for resource, link in (("cusOrder", "cusContactLink"), ("cusOrderLine", "cusOrderLink")):
        admin.publish_link(resource, link, "zero_or_one")
    contact, *children = ({**one, "links": []} for one in (program.table, *program.further))
    account = {"table": "account", "resource": "cusStore", "key": "cusStoreId", "api": "customResources"}
    program.table, program.further = contact, [*children, {**account, "fields": {"name": "cusName"}}]
    program.runs, program.more = {"linger_seconds": "always"}, {"SYNC_ASSETS_AUTOSTART": "1"}
    (program.home / "dagster").mkdir()
    queue = PACKAGED.read_text().replace("max_concurrent_runs: 10", f"max_concurrent_runs: {SLOTS}")
    (program.home / "dagster" / "dagster.yaml").write_text(queue)

    def change(config: dict[str, Any]) -> tuple[str, str, str]:
        (column, attribute), value = next(iter(config["fields"].items())), uuid.uuid4().hex[:8]
        admin.create(config["table"], {column: value, f"{config['table']}id": str(uuid.uuid4())})
        return config["resource"], attribute, value

    with dagster_daemon(program.home, program.env):
        for changed in [change(config) for config in (program.table, *program.further)]:
            until(lambda changed=changed: arrived(admin, *changed), PATIENCE)
        monkeypatch.setenv("DAGSTER_HOME", str(program.home / "dagster"))
        with dg.DagsterInstance.get() as instance:
            waits = dg.RunsFilter(tags={TABLE_TAG: "contact"}, statuses=[dg.DagsterRunStatus.QUEUED])
            staying = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
            until(lambda: instance.get_runs_count(staying) == SLOTS, PATIENCE)
            changed = change(program.table)  # its run has made room
            until(lambda: arrived(admin, *changed), PATIENCE)
            [newest] = instance.get_run_records(dg.RunsFilter(tags={TABLE_TAG: "contact"}), limit=1)
            assert newest.start_time is None  # sent before its run has begun, by the one that made room
            until(lambda: not instance.get_runs_count(waits), PATIENCE)


def arrived(admin: Admin, resource: str, attribute: str, value: str) -> bool:
    """Campaign changes the case of names."""
    return value in {record[attribute].casefold() for record in admin.dump_campaign(resource)}


def test_it_ends_with_the_processes_that_started_it(tmp_path: Path) -> None:
    """`dagster dev` that ends alone, as by `kill`, leaves its code server waiting for the run."""
    script = (
        "import os, subprocess, sys, time\n"
        "from sync_assets.runtime.program_sources import ancestors\n"
        "before = ancestors()\n"
        "print(len(before) > 1, flush=True)\n"
        "give_up_at = time.monotonic() + 20\n"
        "while ancestors() == before and time.monotonic() < give_up_at: time.sleep(0.05)\n"
        f"open({str(tmp_path / 'noticed')!r}, 'w').write(str(ancestors() != before))\n"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    grandparent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {parent!r}]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", grandparent], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "True\n"
    process.kill()
    process.wait()
    until(lambda: (tmp_path / "noticed").exists() and (tmp_path / "noticed").read_text() == "True", 20)


@pytest.mark.slow  # it stays for a watch of seconds
def test_a_set_up_that_a_watch_found_wrong_stays_failed_until_the_run_has_read_it_again(orchestra: Orchestra) -> None:
    """The run's own finding is older, since it reads the set-up with each capture and push."""
    orchestra.program.runs = {"linger_seconds": 15}
    admin, ready = orchestra.program.sandbox.admin, dg.AssetCheckKey(CONTACT, "ready")

    def watch() -> None:
        admin.post("/d365/tracking", {"table": "contact", "enabled": False})
        assert orchestra.job("watch").checks["d365/contact ready"] is False

    stays(orchestra, watch)
    assert shown(orchestra.instance, ready) == "FAILED"
