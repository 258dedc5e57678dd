"""Starts runs in workers that have Dagster and our modules loaded already.

Dagster's own launcher lets the code server spawn a new Python for each run, which imports everything anew: two of the
three seconds that a change in Dynamics 365 took to Campaign. Here the daemon keeps a process (`nursery`) that forks
workers. Whatever it cannot do, be it that it is not ready yet, that it died, or that a run belongs to another Python,
is left to Dagster's launcher, so no run waits for it or is lost with it.

What a worker does, and what becomes of it, is as with Dagster's launcher: it is in the terminal's process group, stops
at SIGINT, goes on to its end when the daemon ends, and its run fails when it dies. Sources: DefaultRunLauncher in
dagster/_core/launcher/default_run_launcher.py, StartRun and _check_for_orphaned_runs in dagster/_grpc/server.py.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX
from dagster._serdes import serialize_value

PROCESS_TAG = f"{HIDDEN_TAG_PREFIX}sync_assets_process"
"""On runs with a worker of ours: which process that is, and of which run: a run that repeats another gets its tags."""
LAUNCHED_TAG = f"{HIDDEN_TAG_PREFIX}sync_assets_launched"
"""On runs that were left to Dagster's own launcher: the same of the daemon that did so."""

ANSWER_SECONDS = 20.0
PACKAGE = Path(__file__).parent.parent

_log = logging.getLogger(__name__)


class WarmRunLauncher(DefaultRunLauncher):
    """`run_launcher: {module: sync_assets.launching.launcher, class: WarmRunLauncher}`; Linux only, else Dagster's."""

    def __init__(self, inst_data: Any = None) -> None:
        super().__init__(inst_data)
        self._lock = threading.Lock()
        self._nursery: Nursery | None = None

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        if _of_this_python(run) and self._start(run.run_id):
            self._run_ids.add(run.run_id)
        else:
            if _is_local(run):
                from sync_assets.ingress.workers import worker_id  # noqa: PLC0415

                self._instance.add_run_tags(run.run_id, process_tag(worker_id(), run.run_id, LAUNCHED_TAG))
            super().launch_run(context)

    def _start(self, run_id: str) -> bool:
        """Has a worker begun with it? The first run of all finds no nursery, and begins one for those that follow."""
        with self._lock:
            try:
                if self._nursery and not self._nursery.is_fit():
                    self._nursery = None
                if self._nursery is None:
                    self._nursery = Nursery(serialize_value(self._instance.get_ref()))
                return self._nursery.is_ready() and self._nursery.start(run_id)
            except OSError as error:
                _log.warning("Runs are started without a warm process this time: %s", error)
                if self._nursery:
                    self._nursery.give_up()
                self._nursery = None
                return False

    def terminate(self, run_id: str) -> bool:
        from sync_assets.ingress.workers import living  # noqa: PLC0415

        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        process = _process(run)
        if run is None or run.is_finished or not process:
            return super().terminate(run_id)
        self._instance.report_run_canceling(run)
        pid = living(process)
        if pid is None:
            self._instance.report_engine_event("The run's process is not on this machine, or is gone.", run)
            return False
        try:
            os.kill(pid, signal.SIGINT)
        except ProcessLookupError:
            return False
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Most deaths are reported at once, by the nursery or by the code server that started the process: this is for
        those who died together with it, be it that the machine was switched off."""
        from sync_assets.ingress.workers import ended_with_its_machine, has_ended, is_dead  # noqa: PLC0415

        if process := _process(run):
            gone = is_dead(process) or ended_with_its_machine(process, of_any_name=True)
        elif _is_local(run):
            gone = ended_with_its_machine(_process(run, LAUNCHED_TAG), of_any_name=True)
            gone = gone or bool((pid := self._told_process(run)) and has_ended(pid))
        else:
            gone = False
        if gone:
            return CheckRunHealthResult(WorkerStatus.FAILED, "The process that executed this run was killed.")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _told_process(self, run: dg.DagsterRun) -> int:
        """The number of the process that Dagster's own launcher has started, 0 if that is not told."""
        first = self._instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=20)
        for record in first.records:
            event = record.event_log_entry.dagster_event
            if event and (event.message or "").startswith("Started process for run"):
                pid = event.engine_event_data.metadata.get("pid")
                if isinstance(pid, dg.TextMetadataValue) and (pid.text or "").isdigit():
                    return int(pid.text or 0)
        return 0

    def dispose(self) -> None:
        with self._lock:
            if self._nursery:
                self._nursery.close()
            self._nursery = None


class Nursery:
    """The process, seen from the daemon's side. It ends once this end of the socket is closed and no worker is left."""

    def __init__(self, instance: str) -> None:
        self._sources = _sources()
        self._ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sync_assets.launching.nursery"], stdin=theirs.fileno()
            )
        self._socket.send(instance.encode())

    def is_fit(self) -> bool:
        """Does it live, with the modules as they are now? Who edits them and reloads the definitions wants the new
        ones."""
        if self._process.poll() is not None:
            _log.warning("The process that runs are forked from has ended (%s).", self._process.returncode)
        elif self._sources == _sources():
            return True
        self.close()
        return False

    def is_ready(self) -> bool:
        """Has it loaded everything? Does not wait."""
        if not self._ready:
            try:
                self._ready = self._socket.recv(16, socket.MSG_DONTWAIT) == b"ready"
            except BlockingIOError:
                return False
            if not self._ready:
                raise OSError("the process ended while it loaded modules")
        return self._ready

    def start(self, run_id: str) -> bool:
        """Sends it, and waits for the number of the process. Raises OSError if none comes."""
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.send(run_id.encode())
        if not self._socket.recv(16):
            raise OSError("the process ended")
        return True

    def close(self) -> None:
        self._socket.close()
        self._process.poll()

    def give_up(self) -> None:
        """It must not begin later with what Dagster's launcher has begun meanwhile. Its workers go on; should one of
        them have the order already, only its answer being lost, Dagster lets the first of the two do it
        (`run_monitoring`)."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


def _of_this_python(run: dg.DagsterRun) -> bool:
    """Is the run's code location one on this machine, in this Python environment?"""
    # On macOS a forked process may crash in Apple's frameworks: https://github.com/python/cpython/issues/77906
    if sys.platform != "linux" or not run.job_code_origin or not _is_local(run):
        return False
    return run.job_code_origin.repository_origin.executable_path == sys.executable


def _is_local(run: dg.DagsterRun) -> bool:
    """Is its code location one on this machine?"""
    if run.job_code_origin is None or run.remote_job_origin is None:
        return False
    location = run.remote_job_origin.repository_origin.code_location_origin
    elsewhere = isinstance(location, GrpcServerCodeLocationOrigin) and not location.socket
    return not run.job_code_origin.repository_origin.container_image and not elsewhere


def process_tag(process: str, run_id: str, tag: str = PROCESS_TAG) -> dict[str, str]:
    return {tag: f"{process} of {run_id}"}


def _process(run: dg.DagsterRun | None, tag: str = PROCESS_TAG) -> str:
    """The process's name as the tag has it, or nothing."""
    process, _, run_id = (run.tags.get(tag, "") if run else "").rpartition(" of ")
    return process if run and run_id == run.run_id else ""


def _sources() -> int:
    """Changes when a module is changed."""
    changed: set[tuple[str, int]] = set()
    for path in PACKAGE.rglob("*.py"):
        with suppress(OSError):  # a link of an editor's that leads nowhere, or a file that is gone meanwhile
            changed.add((str(path), path.stat().st_mtime_ns))
    return hash(frozenset(changed))
