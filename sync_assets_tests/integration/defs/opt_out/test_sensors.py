"""The sensors of opt-outs tick by tick, on a real Dagster instance and SFTP: which run is asked for, when, and why not.

What the runs do then: flows/test_opt_out_dagster.py.
"""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sync_assets.campaign import client
from sync_assets.cli.instance import dagster_instance
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import CONTACT_OPT_OUT, DECISIONS, EXPORT, PROFILE_OPT_OUT
from sync_assets.defs.opt_out.sensors import RESTART
from sync_assets.defs.partitions import WORK, run_tags
from sync_assets.defs.tables import sensors as ingress_sensors
from sync_assets.opt_out.profile_polling import POLL
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import forget_ledger
from sync_assets_tests.support.opt_out_runs import take
from sync_assets_tests.support.opt_outs import HEADER, clear, exports, opted_in, says, set_d365, switch_on, write_file
from sync_assets_tests.support.orchestra import Orchestra, in_memory, shown
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

FILE = "opt_out_file"


@pytest.fixture(scope="module")
def shared(sandbox_factory: SandboxFactory) -> Iterator[SandboxProcess]:
    sandbox = sandbox_factory(contacts=10)
    yield sandbox
    assert sandbox.errors == ""


@pytest.fixture
def program(shared: SandboxProcess, home: Path) -> Iterator[Program]:
    """An installation of its own, and an empty folder on the SFTP."""
    program = switch_on(Program(shared, home), "bidirectional")
    yield program
    shared.admin.clear_faults()
    clear(program)
    profiles = [profile["PKey"] for profile in shared.admin.dump_campaign()]
    shared.admin.post("/campaign/delete", {"resource": "profile", "pkeys": profiles})


@contextmanager
def on_disk(program: Program) -> Iterator[Orchestra]:
    """As production has it: Dagster keeps its state in SQLite's files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(program.home / "dagster"))
        with dagster_instance() as instance:
            started = Orchestra(program, instance)
            yield started
            started.runtime.close()


@pytest.fixture
def orchestra(request: pytest.FixtureRequest, program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestra]:
    """In memory, which takes a tenth of the time, unless a test asks for another."""
    monkeypatch.setattr(ingress_sensors, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr(client, "METADATA_PATIENCE", 0.2)
    with getattr(request, "param", in_memory)(program) as started:
        yield started


def why_not(orchestra: Orchestra) -> str | None:
    data = orchestra.tick(FILE)
    assert not data.run_requests
    assert not data.dynamic_partitions_requests
    return data.skip_message


def asked_partition(orchestra: Orchestra) -> str | None:
    """The partition of the run that a tick asks for; None if it asks for none."""
    partitions = [request.partition_key for request in orchestra.asked(FILE)]
    assert len(partitions) <= 1
    return partitions[0] if partitions else None


def events(data: Any, kind: type[Any]) -> list[Any]:
    return [one for one in data.asset_events if isinstance(one, kind)]


def reconfigure(orchestra: Orchestra, direction: str = "bidirectional", **options: Any) -> None:
    """`poll_profiles_minutes`, or keys of the export."""
    minutes = options.pop("poll_profiles_minutes", None)
    switch_on(orchestra.program, direction, **options)
    orchestra.program.opt_out["poll_profiles_minutes"] = minutes
    orchestra.reload()


# Files


@pytest.mark.parametrize(
    ("orchestra", "direction", "assets"),
    [
        (on_disk, "bidirectional", [EXPORT, DECISIONS, CONTACT_OPT_OUT, PROFILE_OPT_OUT]),
        (in_memory, "campaign_to_d365", [EXPORT, DECISIONS, CONTACT_OPT_OUT]),
    ],
    indirect=["orchestra"],
)
def test_a_file_is_taken_at_the_second_look_by_a_run_of_a_partition_of_its_own(
    orchestra: Orchestra, direction: str, assets: list[dg.AssetKey]
) -> None:
    reconfigure(orchestra, direction)
    written = datetime(2026, 11, 24, 4, 0, 7, tzinfo=UTC)
    write_file(orchestra.program, HEADER, "optout_20261124_040000.csv", modified=written)
    assert why_not(orchestra) == "1 file is perhaps still being written"
    data = orchestra.tick(FILE)
    [request] = list(data.run_requests or ())
    assert request.partition_key == "optout_20261124_040000.csv@261124T040007Z"
    assert request.asset_selection == assets
    assert request.job_name == "process_opt_out_file"
    assert request.tags.items() >= run_tags(orchestra.runtime, WORK).items()
    assert orchestra.instance.get_dynamic_partitions("opt_out_files") == [request.partition_key]


def test_a_file_is_given_its_time_to_settle_and_waits_for_another_run_of_opt_outs(orchestra: Orchestra) -> None:
    reconfigure(orchestra, settle_seconds=60)
    write_file(orchestra.program, HEADER)
    assert [why_not(orchestra) for _ in range(3)] == ["1 file is perhaps still being written"] * 3
    reconfigure(orchestra)
    for tags in (run_tags(orchestra.runtime, "contact"), run_tags(orchestra.runtime)):  # hold no file up
        orchestra.under_way(tags)
    run = orchestra.under_way(run_tags(orchestra.runtime, WORK))
    assert why_not(orchestra) == "a run of opt-outs is under way"
    orchestra.instance.delete_run(run.run_id)
    assert asked_partition(orchestra)


def test_a_run_that_did_not_take_the_file_is_asked_for_again_ever_more_rarely_and_never_given_up(
    orchestra: Orchestra,
) -> None:
    write_file(orchestra.program, HEADER)
    why_not(orchestra)
    partition = asked_partition(orchestra)
    assert partition
    for wait in (10, 20, 40, 80, 160, 300, 300):
        orchestra.later(FILE, seconds=wait - 5)
        assert why_not(orchestra) == f"{partition}: its last run did not process it; it is tried again later"
        orchestra.later(FILE, seconds=5)
        assert asked_partition(orchestra) == partition
    orchestra.program.sandbox.admin.fault("campaign", "unavailable")  # then each tick fails, and no run does
    orchestra.later(FILE, seconds=300)
    words = r"Campaign .*What is left stays pending; the sensor tries again by itself\."
    assert all(re.fullmatch(words, orchestra.failure(FILE), re.DOTALL) for _ in range(2))
    orchestra.program.sandbox.admin.clear_faults()
    assert asked_partition(orchestra) == partition


def test_files_are_asked_for_in_the_order_of_the_times_in_their_names(orchestra: Orchestra) -> None:
    """A later one knows better. By which time they were uploaded does not matter."""
    now = datetime.now(UTC).replace(microsecond=0)
    names = [f"optout_2026112{day}_040000.csv" for day in (3, 1, 2)]
    for minutes, name in enumerate(names):
        write_file(orchestra.program, HEADER, name, modified=now - timedelta(hours=1) + timedelta(minutes=minutes))
    why_not(orchestra)
    taken: list[str] = []
    for _ in names:
        partition = asked_partition(orchestra)
        assert partition
        assert (why_not(orchestra) or "").startswith(partition)  # no file overtakes one that is to be tried again
        taken.append(partition.partition("@")[0])
        [file] = [file for file in orchestra.runtime.ledger.opt_out_files.files() if file.partition == partition]
        orchestra.runtime.ledger.opt_out_files.end_file(file, {})
    assert taken == sorted(names)
    assert why_not(orchestra) == "no new file"


def test_a_refused_file_is_left_alone_until_it_is_retried_or_written_again(orchestra: Orchestra) -> None:
    name = write_file(orchestra.program, HEADER)
    why_not(orchestra)
    partition = asked_partition(orchestra)
    [file] = orchestra.runtime.ledger.opt_out_files.files()
    files = orchestra.runtime.ledger.opt_out_files
    files.end_file(file, {}, "it is of no use")
    assert why_not(orchestra) == "no new file"
    orchestra.later(FILE, days=1)
    assert why_not(orchestra) == "no new file"
    assert files.retry_files() == 1
    assert asked_partition(orchestra) == partition
    files.end_file(files.files()[0], {}, "it is of no use")
    write_file(orchestra.program, HEADER + says(str(uuid.uuid4())), name)
    why_not(orchestra)
    assert (asked_partition(orchestra) or "").startswith(f"{name}@")


def test_a_rejected_file_is_reported_by_the_tick_and_a_failure_of_the_sftp_as_well_which_keeps_the_cursor(
    orchestra: Orchestra, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure is never taken for an empty folder."""
    write_file(orchestra.program, HEADER)
    (exports(orchestra.program) / "optout_link.csv").symlink_to("/etc/hostname")
    data = orchestra.tick(FILE)
    assert data.skip_message == "1 file is perhaps still being written"
    [arrives] = [one for one in events(data, dg.AssetCheckEvaluation) if one.check_name == "export_arrives_in_time"]
    assert "Passed over in d365_loads/exports: 1." in (arrives.description or "")
    assert "optout_link.csv is passed over: a symbolic link" in capsys.readouterr().err
    cursor = orchestra._cursors[FILE]
    orchestra.program.sandbox.admin.fault("sftp", "cut_before", times=1)
    assert "SFTP" in orchestra.failure(FILE)
    assert orchestra._cursors[FILE] == cursor
    assert asked_partition(orchestra)


# Checks


def test_the_folders_checks_are_repeated_each_quarter_hour_and_after_runs_that_hide_them(orchestra: Orchestra) -> None:
    result = events(orchestra.tick(FILE), dg.AssetCheckEvaluation)
    names = ("export_arrives_in_time", "sftp_has_room")
    assert [(one.asset_key, one.check_name) for one in result] == [(EXPORT, name) for name in names]
    assert not events(orchestra.tick(FILE), dg.AssetCheckEvaluation)
    orchestra.later(FILE, minutes=14)
    assert not events(orchestra.tick(FILE), dg.AssetCheckEvaluation)
    orchestra.later(FILE, minutes=1)
    assert len(events(orchestra.tick(FILE), dg.AssetCheckEvaluation)) == 2
    write_file(orchestra.program, HEADER)
    assert take(orchestra)[0].success
    assert events(orchestra.tick(FILE), dg.AssetCheckEvaluation)
    for name in names:
        assert shown(orchestra.instance, dg.AssetCheckKey(EXPORT, name)) != "not evaluated"
    assert not events(orchestra.tick(FILE), dg.AssetCheckEvaluation)


# Polls of profiles


def test_the_follower_is_asked_for_a_poll_when_one_is_due(orchestra: Orchestra) -> None:
    reconfigure(orchestra, poll_profiles_minutes=5)
    assert follower_asked(orchestra)
    began = datetime.now(UTC) - timedelta(minutes=4, seconds=50)
    orchestra.runtime.ledger.events.note(CONTACT, {POLL: began.isoformat()})  # as the run does
    assert not follower_asked(orchestra)
    reconfigure(orchestra, poll_profiles_minutes=4)
    assert follower_asked(orchestra)


# An export that has stopped


def started(orchestra: Orchestra, since: int = 0) -> int:
    """How often the workflow was started through the API."""
    requests = orchestra.program.sandbox.admin.journal("campaign", since)
    return sum(one["method"] == "POST" and "/commands" in one["path"] for one in requests)


def overdue(orchestra: Orchestra, **export: Any) -> int:
    """The newest file is a day and an hour old. Gives the place in the journal."""
    reconfigure(orchestra, **{"restart_stalled": True, "workflow_id": "WKF12"} | export)
    write_file(orchestra.program, HEADER, "optout_old.csv", modified=datetime.now(UTC) - timedelta(hours=25))
    orchestra.program.sandbox.admin.post("/campaign/workflows", {"id": "WKF12", "status": "error"})
    return orchestra.program.sandbox.admin.last()


@pytest.mark.parametrize(
    ("workflow", "status", "text"),
    [
        ("WKF12", "error", "The export was overdue; workflow WKF12 was started (it was error)."),
        ("WKF99", "unknown", "workflow WKF99 could not be started: Campaign has no workflow WKF99."),
    ],
)
def test_an_export_that_stopped_is_started_and_that_is_noted_or_that_its_workflow_cannot_be(
    in_step: Orchestra, workflow: str, status: str, text: str
) -> None:
    orchestra, starts = in_step, workflow == "WKF12"
    since = overdue(orchestra, workflow_id=workflow)
    [result] = events(orchestra.tick(FILE), dg.AssetObservation)
    assert result.asset_key == EXPORT
    assert text in (result.description or "")
    metadata = {name: value.value for name, value in result.metadata.items()}
    assert metadata == {"workflow": workflow, "status_before": status, "started": starts}
    assert started(orchestra, since) == starts
    assert RESTART in orchestra.runtime.ledger.events.facts(CONTACT)
    new = {path.name for path in exports(orchestra.program).iterdir()} - {"optout_old.csv"}
    assert len(new) == starts  # the workflow has written its file
    assert not events(orchestra.tick(FILE), dg.AssetObservation)  # nor is that tried more than once an hour
    assert started(orchestra, since) == starts


def test_it_is_started_with_the_switch_alone_and_once_an_hour_at_most(orchestra: Orchestra) -> None:
    since = overdue(orchestra, restart_stalled=False)
    assert not events(orchestra.tick(FILE), dg.AssetObservation)
    overdue(orchestra)
    write_file(orchestra.program, HEADER)  # while files arrive in time it is not started
    assert not events(orchestra.tick(FILE), dg.AssetObservation)
    clear(orchestra.program)
    overdue(orchestra)
    orchestra.program.sandbox.admin.settings("campaign", workflow_delay_ms=3_600_000)  # it writes nothing for now
    try:
        assert events(orchestra.tick(FILE), dg.AssetObservation)
        assert not events(orchestra.tick(FILE), dg.AssetObservation)
        for minutes in (59, 61):
            forget_ledger(orchestra.program)  # another ledger beside the same files
            database = orchestra.program.home / f"{minutes}.db"
            orchestra.program.more = {"SYNC_ASSETS_LEDGER_URL": f"sqlite:///{database}"}
            orchestra.reload()
            restarted = datetime.now(UTC) - timedelta(minutes=minutes)
            orchestra.runtime.ledger.events.note(CONTACT, {RESTART: restarted.isoformat()})
            assert bool(events(orchestra.tick(FILE), dg.AssetObservation)) == (minutes == 61)
        assert not events(orchestra.tick(FILE), dg.AssetObservation)
        assert started(orchestra, since) == 2
    finally:
        orchestra.program.sandbox.admin.settings("campaign", workflow_delay_ms=0)
        orchestra.program.sandbox.admin.post("/campaign/workflows", {"id": "WKF12", "status": "started"})


# What is due without a file: the sensor backlog


@pytest.fixture
def in_step(orchestra: Orchestra) -> Orchestra:
    """All contacts stand in Campaign, which got them from us."""
    orchestra.capture()
    orchestra.push()
    return orchestra


@pytest.fixture
def due(in_step: Orchestra) -> Iterator[Orchestra]:
    """A contact has opted out in Dynamics 365, which was captured."""
    id_ = next(opted_in(in_step.program))
    set_d365(in_step.program, id_, donotemail=True)
    in_step.capture()
    yield in_step
    set_d365(in_step.program, id_, donotemail=False)


def follower_asked(orchestra: Orchestra) -> bool:
    """Return True if the sensor `backlog` asks for the follower."""
    requests = orchestra.asked("backlog")
    assert [request.job_name for request in requests] in ([], ["follow"])
    return bool(requests)


def test_the_follower_is_asked_for_an_opt_out_of_d365_unless_it_runs_or_its_contact_is_held(due: Orchestra) -> None:
    run = due.under_way(run_tags(due.runtime))
    assert not follower_asked(due)
    due.instance.delete_run(run.run_id)
    due.program.sandbox.admin.change("contact", 2, jobtitle="Changed")  # records and opt-outs need one run
    due.capture()
    assert follower_asked(due)
    due.push()
    for wait in (0, 10, 20, 40):  # a run that changes nothing is asked for ever more rarely
        due.later("backlog", seconds=wait)
        assert follower_asked(due)
        assert not follower_asked(due)
    due.later("backlog", hours=1)
    with due.runtime.worker.heartbeat("of a file", [WORK]):
        assert not follower_asked(due)
    ids = [row["contactid"] for row in due.program.sandbox.admin.dump_d365()]
    [id_] = [row.id for row in due.runtime.ledger.opt_outs.of(ids) if row.state]
    due.runtime.ledger.holds.hold(id_)
    assert not follower_asked(due)
