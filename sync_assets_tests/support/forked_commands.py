"""Start commands of the program, and sandboxes, by forking a process that has imported them.

Importing Dagster and Polars takes longer than most commands of the tests, and importing the sandbox as long as all
that most tests ask of it. The fork is a process of its own as any other: with its own environment, folder, input,
output, signals and end. Tests of the start itself, of memory, and of what a command imports start an interpreter
(`Program.start` with `fresh=True`).

Invariant: the process that is forked has no thread, no connection, and no environment of a test. It has run nothing
but imports, and one Dagster run, without which the first run of each command takes another second.
"""

import atexit
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, Literal

from sync_assets_tests.support.shared_caches import read_migration_scripts_once

_LENGTH = struct.Struct("!I")
_SHARED, _END = "FORKED_BY_TESTS", "end"
"""The variable with the folder of the sockets, and the pipe in it that is closed at the end of the tests."""
Kind = Literal["command", "sandbox"]
"""What a forked process becomes. Each kind has a process of its own that is forked: neither imports the other's."""
_NOT_IMPORTED = (
    "sync_assets.sandbox",
    "sync_assets.launching",
    "sync_assets.definitions",
    *(f"sync_assets.cli.{name}" for name in ("__main__", "alerts", "demo", "sandbox", "servers")),
)
"""Not of the commands; or read the environment when they are imported, or import what does; or run."""
_OF_THE_SANDBOX = (
    "sync_assets.sandbox.__main__",
    "encodings.idna",
    "uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.off",
)
_LIBRARIES = (
    "dagster",
    "polars",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql",
    "alembic.command",
    "pytest",
    "sync_assets_tests.support.ledgers",
    "sync_assets_tests.support.plain_runs",
    "sync_assets.flows",
)


class Forked:
    """A started process, with the attributes and methods of `subprocess.Popen` that tests use.

    A sandbox stops when `stdin` is closed.
    """

    def __init__(self, connection: socket.socket, pid: int, stdin: IO[bytes] | None = None) -> None:
        self._connection = connection
        self.pid, self.stdin = pid, stdin
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status; None while the process runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Return the exit status, or the signal as a negative number. timeout: in seconds."""
        if self.returncode is None:
            self._connection.settimeout(timeout or (0.0 if timeout == 0 else None))
            try:
                status = self._connection.recv(_LENGTH.size)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("the forked process", timeout or 0) from None
            if not status:
                raise RuntimeError("the process that forks others has ended")
            self.returncode = struct.unpack("!i", status)[0]
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Command(Forked):
    """A started command."""

    def __init__(self, connection: socket.socket, pid: int, stdout: IO[str], stderr: IO[str]) -> None:
        super().__init__(connection, pid)
        self.stdout, self.stderr = stdout, stderr

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and return standard output and standard error. Kill it if it takes longer."""
        with self.stdout, self.stderr, ThreadPoolExecutor(2) as pool:
            output, errors = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()  # else its pipes stay open
                raise
            return output.result(), errors.result()


class Module(Forked):
    """A started module, with pipes for its standard input and output."""

    def __init__(self, connection: socket.socket, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        super().__init__(connection, pid)
        self.stdin: IO[bytes] = stdin
        self.stdout = stdout

    def communicate(self, timeout: float | None = None) -> tuple[bytes, None]:
        """Close standard input, wait for the end, and return standard output."""
        self.stdin.close()
        with self.stdout:
            output = self.stdout.read()
        self.wait(timeout)
        return output, None


def start_command(
    arguments: Sequence[str], env: Mapping[str, str], cwd: Path, *, dagster: bool, on_disk: bool
) -> Command:
    """Start `sync-assets` with these arguments in an environment and a folder of its own.

    dagster, on_disk: As in `Program`.
    """
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    with open(os.devnull, "rb") as nothing:
        connection, pid = _start("command", arguments, env, cwd, (nothing.fileno(), out_end, err_end), dagster, on_disk)
    os.close(out_end)
    os.close(err_end)
    return Command(connection, pid, os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8"))


def start_module(module: str, arguments: Sequence[str], env: Mapping[str, str], log: IO[bytes] | None = None) -> Module:
    """Start `python -m` of a module of the tests. log: the file for standard output and error."""
    (end, stdin), (stdout, out_end) = os.pipe(), os.pipe()
    files = (end, log.fileno(), log.fileno()) if log else (end, out_end, 2)
    connection, pid = _start("command", arguments, env, Path.cwd(), files, module=module)
    os.close(end)
    os.close(out_end)
    return Module(connection, pid, os.fdopen(stdin, "wb", buffering=0), os.fdopen(stdout, "rb"))


def start_sandbox(arguments: Sequence[str], stderr: IO[bytes]) -> Forked:
    """Start `python -m sync_assets.sandbox` with these arguments, and with the environment of this process."""
    end, stdin = os.pipe()
    files = (end, sys.__stdout__.fileno() if sys.__stdout__ else end, stderr.fileno())
    connection, pid = _start("sandbox", arguments, os.environ, Path.cwd(), files)
    os.close(end)
    return Forked(connection, pid, os.fdopen(stdin, "wb"))


def _start(
    kind: Kind,
    arguments: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    files: tuple[int, int, int],
    dagster: bool = True,
    on_disk: bool = True,
    *,
    module: str | None = None,
) -> tuple[socket.socket, int]:
    """Fork a process with these files as standard input, output and error. Return its connection and its id."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_server(kind))
    request = {"arguments": arguments, "env": dict(env), "cwd": str(cwd), "module": module}
    document = json.dumps(request | {"dagster": dagster, "on_disk": on_disk}).encode()
    socket.send_fds(connection, [_LENGTH.pack(len(document))], files)
    connection.sendall(document)
    (pid,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
    return connection, pid


def share() -> None:
    """Let this process and those that it starts share what is forked. It ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="forked_")  # the path of a socket must be short
    atexit.register(folder.cleanup)
    os.mkfifo(Path(folder.name, _END))
    os.open(Path(folder.name, _END), os.O_RDWR)  # never closed: its readers wait for the end of this process
    os.environ[_SHARED] = folder.name


@cache
def _server(kind: Kind) -> str:
    """Start the process that forks others, unless another process of tests has. Return the address of its socket."""
    if _SHARED not in os.environ:
        share()
    folder = Path(os.environ[_SHARED])
    address = folder / kind
    with (folder / f"{kind}.lock").open("w") as lock, (folder / _END).open() as end:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            command = [sys.executable, "-m", __name__, kind, str(address)]
            process = subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE, text=True, start_new_session=True)
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
    return str(address)


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise RuntimeError("the process that forks others has ended")
        received += part
    return received


# --- the process that is forked ---


def _import_all(kind: Kind) -> None:
    import sync_assets

    if kind == "sandbox":
        for name in _OF_THE_SANDBOX:
            importlib.import_module(name)
        # The key with which the program signs in to the SFTP server. To make one takes half of the start of a sandbox.
        from cryptography.hazmat.primitives.asymmetric import rsa

        rsa.generate_private_key = cache(rsa.generate_private_key)
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return

    for module in pkgutil.walk_packages(sync_assets.__path__, "sync_assets."):
        if not module.name.startswith(_NOT_IMPORTED) and "migrations" not in module.name:
            importlib.import_module(module.name)
    for name in _LIBRARIES:
        importlib.import_module(name)
    read_migration_scripts_once()
    importlib.import_module("sync_assets_tests.support.short_waits").shorten_waits()
    _run_dagster()
    assert threading.active_count() == 1


def _run_dagster() -> None:
    """Execute a run of an asset and its check, which fills caches of Dagster, Pydantic and SQLAlchemy."""
    import dagster as dg

    asset, day = dg.AssetKey("asset"), "2026-01-01"
    partitions = dg.DailyPartitionsDefinition(day)

    @dg.multi_asset(
        specs=[dg.AssetSpec(asset, partitions_def=partitions)], check_specs=[dg.AssetCheckSpec("check", asset=asset)]
    )
    def of_one() -> Iterator[Any]:
        yield dg.MaterializeResult(asset, metadata={"rows": 1})
        yield dg.AssetCheckResult(asset_key=asset, check_name="check", passed=True, metadata={"rows": 1})

    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        job = dg.Definitions(assets=[of_one], jobs=[dg.define_asset_job("job")]).resolve_job_def("job")
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        assert job.execute_in_process(instance=instance, partition_key=day, run_config=quiet).success


def _serve(address: str) -> str | None:
    """Fork a process for each request, until standard input is closed.

    Returns in each forked process: the module to run, None for the main function of its kind.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    ended, woken = socket.socketpair()
    ended.setblocking(False)
    woken.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C the tests still stop what they started
    signal.set_wakeup_fd(woken.fileno())
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for file in (listener, ended, sys.stdin):
            selector.register(file, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if sys.stdin in ready:
                os._exit(0)
            if ended in ready:
                with suppress(BlockingIOError):
                    ended.recv(4096)
                _report_ended(running)
            if listener in ready:
                connection, _ = listener.accept()
                length, files, _, _ = socket.recv_fds(connection, _LENGTH.size, 3)
                request = json.loads(_receive(connection, *_LENGTH.unpack(length)))
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    for other in (*running.values(), connection, listener, ended, woken):
                        other.close()
                    _become(request, files)
                    return request["module"]
                for file in files:
                    os.close(file)
                connection.sendall(_LENGTH.pack(pid))
                running[pid] = connection


def _report_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        connection = running.pop(pid)
        with suppress(OSError):  # the test no longer listens
            connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
        connection.close()


def _become(request: dict[str, object], files: list[int]) -> None:
    """Turn the forked process into the command of a request, as a new interpreter would start it."""
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(dict[str, str](request["env"]))  # pyright: ignore[reportArgumentType, reportCallIssue]
    sys.modules["__main__"].__package__ = None  # from which `--help` takes the command's name
    sys.argv = ["sync-assets", *request["arguments"]]  # pyright: ignore[reportGeneralTypeIssues]
    if not request["on_disk"]:
        from sync_assets.cli import sync_runs
        from sync_assets_tests.support.lazy_instance import lazy_instance

        sync_runs.dagster_instance = lazy_instance
        if not request["dagster"]:
            from sync_assets_tests.support import plain_runs

            sync_runs.execute = plain_runs.execute


def _run(kind: Kind, module: str | None) -> None:
    """Run the main function, and end as an interpreter does. Modules stay: to remove them takes a second."""
    main: Callable[[], object]
    if module:
        main = partial(runpy.run_module, module, run_name="__main__", alter_sys=True)
    elif kind == "sandbox":
        from sync_assets.sandbox.__main__ import main
    else:
        from sync_assets.cli.main import main

    status: object = 1
    try:
        status = main()
        status = None if module else status
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:  # the interpreter ends by the signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:  # noqa: BLE001 - as the interpreter does
        traceback.print_exception(error)
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    of_kind: Kind = "sandbox" if sys.argv[1] == "sandbox" else "command"
    _import_all(of_kind)
    gc.freeze()  # else the first collection of each fork copies all modules
    _run(of_kind, _serve(sys.argv[2]))
