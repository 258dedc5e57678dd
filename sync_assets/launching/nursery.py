"""The process that run workers are forked from: `python -m sync_assets.launching.nursery`, started by the launcher.

It loads modules and nothing else: it opens no connection and starts no thread, since neither survives a fork, and never
evaluates the definitions, since each run reads the configuration anew. One worker is always forked ahead. That one
loads the rest, which starts threads, opens Dagster's instance, and waits for an order, the id of a run: with that it
does what `dagster api execute_run` does, dagster/_cli/api.py.

Standard input is the launcher's socket. On it come the instance and then orders; on it go "ready", and for each order
the number of the worker that has it.
"""

from __future__ import annotations

import gc
import importlib
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

SHARED = (
    "dagster", "dagster._cli.api", "dagster._core.definitions.external_asset", "dagster._core.execution.plan.active",
    "dagster._core.definitions.repository_definition.repository_data_builder", "dagster._core.executor.in_process",
    "dagster._core.instance.factory", "dagster._core.run_coordinator.queued_run_coordinator",
    "dagster._core.storage.local_compute_log_manager", "dagster._core.storage.migration.utils",
    "dagster._core.storage.root", "dagster._core.storage.sqlite_storage",
    "dagster._core.system_config.composite_descent", "dagster._core.workspace.autodiscovery",
    "dagster._utils.test.definitions",
    "aiohttp", "alembic.command", "httpx", "msal", "msgspec", "paramiko", "pydantic", "requests",
    "sqlalchemy.dialects.sqlite", "upath.implementations.local", "uvloop",
    "sync_assets.campaign.client", "sync_assets.campaign.sign_in", "sync_assets.config_file", "sync_assets.d365.client",
    "sync_assets.d365.sign_in", "sync_assets.ingress.workers", "sync_assets.launching.launcher",
    "sync_assets.ledger.ledger", "sync_assets.runtime",
)  # fmt: skip
"""All that starts no thread."""

PER_WORKER = (
    "polars", "sync_assets.definitions", "sync_assets.ingress.flows", "sync_assets.alerts.sensor",
    "sync_assets.opt_out.assets", "sync_assets.opt_out.checks", "sync_assets.opt_out.sensors",
)  # fmt: skip
"""Polars starts threads when it is imported, and these import Polars."""


LARGEST = 1 << 20


def main() -> None:
    control = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    # Ctrl-C goes to the whole group: it is for the workers, who let it through once they can handle it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    load(SHARED)
    gc.collect()
    gc.freeze()  # the collector would touch what is shared with the workers, and so copy it
    with suppress(OSError):
        control.send(b"ready")
    if instance := _received(control):
        _Nursery(control, instance).serve()


def load(modules: tuple[str, ...]) -> None:
    for name in modules:
        with suppress(Exception):  # whoever needs it will say so
            importlib.import_module(name)


def _received(line: socket.socket) -> str:
    """Nothing when the other side is gone; the system calls that a reset if it left something unread."""
    with suppress(ConnectionError):
        return line.recv(LARGEST).decode()
    return ""


@dataclass(eq=False)
class _Worker:
    """`line`: its order goes there, and it closes when the process ends. The one that waits has no order yet."""

    pid: int
    line: socket.socket
    order: str = ""


class _Nursery:
    def __init__(self, control: socket.socket, instance: str) -> None:
        self._control: socket.socket | None = control
        self._work = partial(work, instance)
        self._report_death = partial(report_death, instance)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._workers: set[_Worker] = set()
        self._spare: _Worker | None = None

    def serve(self) -> None:
        """Until the launcher has closed its end, and no worker is left."""
        self._spare = self._fork(self._work)
        while self._control or self._workers:
            for key, _ in self._selector.select():
                if key.data:
                    self._ended(key.data)
                elif self._control:
                    self._asked(self._control)

    def _asked(self, control: socket.socket) -> None:
        spare, self._spare = self._spare, None
        order = _received(control)
        if not order:
            self._selector.unregister(control)
            control.close()
            self._control = None
            if spare:
                with suppress(OSError):
                    spare.line.shutdown(socket.SHUT_WR)
            return
        worker = spare or self._fork(self._work)
        try:
            worker.line.send(order.encode())
        except OSError:  # it was killed while it waited
            worker = self._fork(self._work)
            worker.line.send(order.encode())
        worker.order = order
        with suppress(OSError):
            control.send(str(worker.pid).encode())

    def _ended(self, worker: _Worker) -> None:
        self._selector.unregister(worker.line)
        worker.line.close()
        self._workers.remove(worker)
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        if worker is self._spare:
            self._spare = None  # not anew before the next order: it might end at once again
        if worker.order and code:
            self._fork(partial(self._report_death, worker.order, code))
        # Only now, so that it takes no processor from the run.
        if worker.order and self._control and not self._spare:
            self._spare = self._fork(self._work)

    def _fork(self, task: Callable[[socket.socket], None]) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            self._selector.close()
            for opened in [self._control, ours, *(worker.line for worker in self._workers)]:
                if opened:
                    opened.close()
            task(theirs)
            sys.exit()  # as any program ends: threads are waited for, and what runs at the exit does
        theirs.close()
        worker = _Worker(pid, ours)
        self._workers.add(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker


def work(ref: str, line: socket.socket) -> None:
    """In a worker: makes ready, waits for the order, and executes the run. Without an order it just ends."""
    load(PER_WORKER)
    gc.freeze()
    from dagster import DagsterRunStatus  # noqa: PLC0415
    from dagster._cli.api import _execute_run_command_body  # noqa: PLC0415
    from dagster._core.secrets.env_file import get_env_var_dict  # noqa: PLC0415
    from dagster._utils.interrupts import capture_interrupts  # noqa: PLC0415

    from sync_assets.ingress.workers import worker_id  # noqa: PLC0415
    from sync_assets.launching.launcher import process_tag  # noqa: PLC0415

    with _opened(ref) as instance:
        run_id = _received(line)
        if not run_id:
            return
        # `.env` as it is now, as a code server reads it when the definitions are reloaded.
        os.environ.update(get_env_var_dict(os.getcwd()))
        with capture_interrupts():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            run = instance.get_run_by_id(run_id)
            if run and run.status in (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING):  # else it is another's
                # Before all else that is written to the run: adding tags writes back what was read of it.
                instance.add_run_tags(run_id, process_tag(worker_id(), run_id))
            _execute_run_command_body(run_id, instance, lambda event: None, set_exit_code_on_failure=False)


def report_death(ref: str, run_id: str, code: int, _: socket.socket) -> None:
    """In a process of its own: a worker has died, and its run fails if it has not ended. As the code server does it."""
    from dagster._utils import get_run_crash_explanation  # noqa: PLC0415

    with _opened(ref) as instance:
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            instance.report_engine_event(get_run_crash_explanation(f"Run execution process for {run_id}", code), run)
            instance.report_run_failed(run)


def _opened(ref: str) -> DagsterInstance:
    from dagster import DagsterInstance  # noqa: PLC0415
    from dagster._core.instance.ref import InstanceRef  # noqa: PLC0415
    from dagster._serdes import deserialize_value  # noqa: PLC0415

    return DagsterInstance.from_ref(deserialize_value(ref, InstanceRef))


if __name__ == "__main__":
    main()
