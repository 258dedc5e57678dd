"""Runs that the launcher starts: real ones, on an instance of their own, without the systems that we sync."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import CodePointer, FileCodePointer, ModuleCodePointer
from dagster._core.definitions.job_definition import JobDefinition
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._serdes import serialize_value

from sync_assets.ingress.workers import worker_id
from sync_assets.launching import launcher as launching
from sync_assets.launching.launcher import LAUNCHED_TAG, PROCESS_TAG, WarmRunLauncher, process_tag
from sync_assets.operations.instance import PACKAGED
from sync_assets_tests.program import OURS
from sync_assets_tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Dagster's own launcher does it all")

SLOW = """
import pathlib, time
import dagster as dg

@dg.op
def sleep():
    here = pathlib.Path(__file__)
    try:
        here.with_name("began").write_text("")
        time.sleep(60)
    finally:
        here.with_name("cleaned up").write_text("")

@dg.job(executor_def=dg.in_process_executor)
def slow():
    sleep()
"""
CONFIG = """
privacy_acknowledged: true
tables: [{table: contact, resource: profile, key: externalId, fields: {firstname: firstName}}]
"""
DONE = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


class Daemon:
    """What Dagster's daemon does with a run, without its queue."""

    def __init__(self, home: Path) -> None:
        self.home, self.config = home, home / "config.yaml"
        self.config.write_text(CONFIG, encoding="utf-8")
        self.file = home / "jobs.py"
        self.file.write_text(SLOW, encoding="utf-8")
        shutil.copy(PACKAGED, home / "dagster.yaml")
        self.instance = dg.DagsterInstance.from_config(str(home))

    @property
    def launcher(self) -> WarmRunLauncher:
        found = self.instance.run_launcher
        assert isinstance(found, WarmRunLauncher)
        return found

    @property
    def nursery(self) -> int:
        assert self.launcher._nursery
        return self.launcher._nursery._process.pid

    def warm(self) -> None:
        """The nursery is there and ready."""
        if not self.launcher._nursery or not self.launcher._nursery.is_fit():
            self.launcher._nursery = launching.Nursery(serialize_value(self.instance.get_ref()))
        until(self.launcher._nursery.is_ready)

    def create(self, name: str, python: str = sys.executable, remote: bool = False) -> str:
        """A run as the UI or a sensor makes it."""
        pointer: CodePointer
        if name == "slow":
            pointer = FileCodePointer(str(self.file), name, str(self.home))
        else:
            pointer = ModuleCodePointer("sync_assets.definitions", "defs", str(self.home))
        code = RepositoryPythonOrigin(python, pointer, None, ["dagster"], None)
        location = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(executable_path=python), "here")
        if remote:
            location = GrpcServerCodeLocationOrigin("code", 4000)
        job = pointer.load_target() if name == "slow" else self._report()
        assert isinstance(job, JobDefinition)
        return self.instance.create_run_for_job(
            job,
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), name),
            job_code_origin=JobPythonOrigin(name, code),
        ).run_id

    def _report(self) -> JobDefinition:
        from sync_assets.definitions import build_definitions
        from sync_assets.runtime import Runtime

        return build_definitions(Runtime({"SYNC_ASSETS_CONFIG": str(self.config)})).resolve_job_def("daily_report")

    def launch(self, name: str, **options: bool | str) -> str:
        run_id = self.create(name, **options)  # type: ignore[arg-type]
        self.instance.launch_run(run_id, workspace=None)  # type: ignore[arg-type]
        return run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found
        return found

    def ended(self, run_id: str) -> dg.DagsterRunStatus:
        until(lambda: self.run(run_id).status in DONE)
        return self.run(run_id).status

    def told(self, run_id: str) -> str:
        return "\n".join(f"{entry.user_message} {entry.dagster_event}" for entry in self.instance.all_logs(run_id))

    def slow(self) -> tuple[str, int]:
        """A run that is in the midst of its step, and its process."""
        for name in ("began", "cleaned up"):
            self.home.joinpath(name).unlink(missing_ok=True)
        run_id = self.launch("slow")
        until(self.home.joinpath("began").exists)
        return run_id, int(self.run(run_id).tags[PROCESS_TAG].split("|")[2])


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(OURS)]:
            patch.delenv(name)
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv("SYNC_ASSETS_CONFIG", str(home / "config.yaml"))
        daemon = Daemon(home)
        with daemon.instance:
            yield daemon


@pytest.fixture
def daemon(started: Daemon) -> Daemon:
    started.warm()
    return started


@pytest.fixture
def by_dagster(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were left to Dagster's own launcher."""
    found: list[str] = []
    monkeypatch.setattr(
        DefaultRunLauncher, "launch_run", lambda self, context: found.append(context.dagster_run.run_id)
    )
    return found


def test_who_only_opens_the_instance_starts_no_process(started: Daemon) -> None:
    with dg.DagsterInstance.from_config(str(started.home)) as another:
        assert isinstance(another.run_launcher, WarmRunLauncher)
        assert another.run_launcher._nursery is None


def test_the_first_run_does_not_wait_until_all_is_loaded(started: Daemon, by_dagster: list[str]) -> None:
    run_id = started.launch("slow")
    assert by_dagster == [run_id]
    assert started.run(run_id).tags[LAUNCHED_TAG].endswith(f" of {run_id}")
    until(lambda: bool(started.launcher._nursery and started.launcher._nursery.is_ready()))


def test_the_process_that_is_forked_has_one_thread_and_nothing_open(daemon: Daemon) -> None:
    assert len(os.listdir(f"/proc/{daemon.nursery}/task")) == 1
    until(lambda: len(children(daemon.nursery)) == 1)
    opened = {number: os.readlink(f"/proc/{daemon.nursery}/fd/{number}") for number in descriptors(daemon.nursery)}
    assert sorted(link.partition(":")[0] for number, link in opened.items() if number not in ("1", "2")) == [
        "/dev/null",
        "anon_inode",  # what it waits with
        "socket",  # the launcher's
        "socket",  # its spare's
    ]


def test_each_run_has_a_process_of_its_own_and_reads_the_configuration_anew(daemon: Daemon) -> None:
    first = daemon.launch("daily_report")
    assert daemon.ended(first) is dg.DagsterRunStatus.SUCCESS
    second = daemon.create("daily_report")
    daemon.config.write_text(CONFIG.replace("profile", "nonsense: true"), encoding="utf-8")
    daemon.instance.launch_run(second, workspace=None)  # type: ignore[arg-type]
    assert daemon.ended(second) is dg.DagsterRunStatus.FAILURE
    daemon.config.write_text(CONFIG, encoding="utf-8")
    assert "Could not load job definition" in daemon.told(second)
    numbers = {daemon.run(run_id).tags[PROCESS_TAG].split("|")[2] for run_id in (first, second)}
    assert len(numbers | {str(os.getpid()), str(daemon.nursery)}) == 4
    for number, run_id in zip(numbers, (first, second), strict=True):
        assert "Started process for run (pid: " in daemon.told(run_id)
        until(lambda number=number: not Path("/proc", number).exists())  # and nobody is left unburied


def test_another_process_ends_a_run_which_cleans_up(daemon: Daemon) -> None:
    run_id, _ = daemon.slow()
    end = (
        "import sys, dagster as dg; it = dg.DagsterInstance.get(); sys.exit(not it.run_launcher.terminate(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", end, run_id], check=True, timeout=60)
    assert daemon.ended(run_id) is dg.DagsterRunStatus.CANCELED
    assert daemon.home.joinpath("cleaned up").exists()


def test_a_killed_worker_is_reported_at_once(daemon: Daemon) -> None:
    run_id, pid = daemon.slow()
    assert daemon.launcher.check_run_worker_health(daemon.run(run_id)).status is WorkerStatus.RUNNING
    os.kill(pid, signal.SIGKILL)
    assert daemon.ended(run_id) is dg.DagsterRunStatus.FAILURE
    assert "was terminated by signal 9" in daemon.told(run_id)
    assert not daemon.launcher.terminate(run_id)


def test_one_that_dies_together_with_the_nursery_is_seen_by_the_monitoring(daemon: Daemon) -> None:
    run_id, pid = daemon.slow()
    os.kill(daemon.nursery, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    until(lambda: daemon.launcher.check_run_worker_health(daemon.run(run_id)).status is WorkerStatus.FAILED)
    assert daemon.run(run_id).status is dg.DagsterRunStatus.STARTED
    assert not daemon.launcher.terminate(run_id)
    daemon.instance.report_run_failed(daemon.run(run_id))


@pytest.mark.parametrize("tag", [PROCESS_TAG, LAUNCHED_TAG], ids=["a run of ours", "a run of Dagster's launcher"])
def test_a_run_of_before_the_machine_was_switched_off_is_seen_by_the_monitoring(daemon: Daemon, tag: str) -> None:
    run_id = daemon.create("slow")
    _, namespace, rest = worker_id().split("|", 2)
    daemon.instance.add_run_tags(run_id, process_tag(f"former name|before {namespace}|{rest}", run_id, tag))
    assert daemon.launcher.check_run_worker_health(daemon.run(run_id)).status is WorkerStatus.FAILED


@pytest.mark.parametrize("remote", [False, True], ids=["here", "on another machine"])
def test_a_killed_process_of_dagsters_own_launcher_is_seen_by_the_monitoring(daemon: Daemon, remote: bool) -> None:
    def health() -> WorkerStatus:
        return daemon.launcher.check_run_worker_health(daemon.run(run_id)).status

    run_id = daemon.create("slow", remote=remote)
    assert health() is WorkerStatus.RUNNING  # nothing is told of its process
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        told = EngineEventData.in_process(process.pid)
        for message in ("Another event.", f"Started process for run (pid: {process.pid})."):
            daemon.instance.report_engine_event(message, daemon.run(run_id), told)
        assert health() is WorkerStatus.RUNNING
        process.kill()
        process.wait()
    assert health() is (WorkerStatus.RUNNING if remote else WorkerStatus.FAILED)


def test_a_run_has_what_dotenv_says_now(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(daemon.home)
    daemon.launcher.dispose()
    daemon.warm()
    until(lambda: len(children(daemon.nursery)) == 1)  # one waits, with the environment of before
    missing = daemon.home / "missing.yaml"
    daemon.home.joinpath(".env").write_text(f"SYNC_ASSETS_CONFIG={missing}\n", encoding="utf-8")
    try:
        run_id = daemon.launch("daily_report")
        assert daemon.ended(run_id) is dg.DagsterRunStatus.FAILURE
    finally:
        daemon.home.joinpath(".env").unlink()
    assert "missing.yaml" in daemon.told(run_id)


def test_the_worker_that_waits_may_be_killed(daemon: Daemon) -> None:
    until(lambda: len(children(daemon.nursery)) == 1)
    os.kill(int(children(daemon.nursery)[0]), signal.SIGKILL)
    assert daemon.ended(daemon.launch("daily_report")) is dg.DagsterRunStatus.SUCCESS
    until(lambda: len(children(daemon.nursery)) == 1)


def test_a_nursery_that_died_is_started_anew_and_the_run_left_to_dagster(
    daemon: Daemon, by_dagster: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = daemon.nursery
    os.kill(before, signal.SIGKILL)
    assert daemon.launcher._nursery
    daemon.launcher._nursery._process.wait()
    assert [daemon.launch("slow")] == by_dagster
    assert "has ended" in caplog.text
    daemon.warm()
    assert daemon.nursery != before


def test_one_that_cannot_be_started_keeps_no_run_from_starting(
    daemon: Daemon, by_dagster: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.launcher.dispose()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert [daemon.launch("slow", python="/nowhere/python")] == by_dagster
    assert "without a warm process" in caplog.text


def test_one_that_does_not_answer_is_given_up(
    daemon: Daemon, by_dagster: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "ANSWER_SECONDS", 0.2)
    pid = daemon.nursery
    os.kill(pid, signal.SIGSTOP)
    assert [daemon.launch("daily_report")] == by_dagster
    assert not Path("/proc", str(pid)).exists()


def test_who_changes_a_module_gets_workers_with_the_new_one(
    daemon: Daemon, by_dagster: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = daemon.launcher._nursery
    assert before
    monkeypatch.setattr(launching, "_sources", lambda: 0)
    assert [daemon.launch("slow")] == by_dagster
    assert before._process.wait(10) == 0  # and its spare with it
    monkeypatch.undo()


def test_a_module_that_leads_nowhere_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "PACKAGE", tmp_path)
    tmp_path.joinpath("module.py").write_text("", encoding="utf-8")
    before = launching._sources()
    tmp_path.joinpath(".#module.py").symlink_to("somebody@somewhere")
    assert launching._sources() == before


def test_one_whose_daemon_is_gone_ends(daemon: Daemon) -> None:
    daemon.launcher.dispose()
    launched = [launching.Nursery(serialize_value(daemon.instance.get_ref())) for _ in range(2)]
    launched[0].close()
    until(launched[1].is_ready)
    launched[1].close()
    assert [one._process.wait(20) for one in launched] == [0, 0]


def test_code_of_another_python_or_machine_is_left_to_dagster(daemon: Daemon, by_dagster: list[str]) -> None:
    assert [daemon.launch("slow", python="/usr/bin/another"), daemon.launch("slow", remote=True)] == by_dagster


def test_a_run_goes_on_when_the_daemon_ends(daemon: Daemon) -> None:
    run_id, pid = daemon.slow()
    launched = daemon.launcher._nursery
    assert launched
    daemon.launcher.dispose()
    with pytest.raises(subprocess.TimeoutExpired):
        launched._process.wait(1)
    assert daemon.run(run_id).status is dg.DagsterRunStatus.STARTED
    os.kill(pid, signal.SIGKILL)
    assert daemon.ended(run_id) is dg.DagsterRunStatus.FAILURE
    assert launched._process.wait(20) == 0


def test_a_run_that_repeats_another_is_not_taken_for_its_process(daemon: Daemon) -> None:
    run_id, pid = daemon.slow()
    os.kill(pid, signal.SIGKILL)
    assert daemon.ended(run_id) is dg.DagsterRunStatus.FAILURE
    repeats = daemon.run(run_id)._replace(run_id="another")
    assert daemon.launcher.check_run_worker_health(repeats).status is WorkerStatus.RUNNING


def test_no_descriptor_stays_open_after_runs(daemon: Daemon) -> None:
    def opened() -> tuple[int, ...]:
        return tuple(len(descriptors(pid)) for pid in (daemon.nursery, os.getpid()))

    daemon.ended(daemon.launch("daily_report"))
    daemon.launcher.dispose()
    daemon.warm()
    until(lambda: len(children(daemon.nursery)) == 1)
    before = opened()
    for run_id in [daemon.launch("daily_report") for _ in range(3)]:
        assert daemon.ended(run_id) is dg.DagsterRunStatus.SUCCESS
    until(lambda: opened() == before and len(children(daemon.nursery)) == 1)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


def descriptors(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/fd")
