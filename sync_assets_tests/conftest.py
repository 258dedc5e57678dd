"""Fixtures for all tests: a sandbox in a process of its own, a PostgreSQL server."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from sync_assets import own_secrets
from sync_assets_tests.support import forked_commands
from sync_assets_tests.support.postgres import postgres
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.shared_caches import read_migration_scripts_once, share_compiled_statements

__all__ = ["postgres"]


_COLLECT_AFTER = gc.get_threshold()
_IN_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30
_UNIT = Path(__file__).with_name("unit")
_OTHER_SERVERS = {"postgres", "postgresql", "openssh_server", "openssh_sftp"}
"""Fixtures and parameters of tests that start a server which is not ours."""

# Where the environment forbids bytecode, each worker and each process of a test compiles program and tests anew: half
# of the processor time of the unit tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough",
        action="store_true",
        help="run unit tests also on PostgreSQL and OpenSSH, as the whole run does; try 300 examples of each property",
    )
    parser.addoption(
        "--fresh",
        action="store_true",
        help="draw other examples of properties and other seeds of the simulation than those of each other run",
    )


def _quick(config: pytest.Config) -> bool:
    """Return True if only unit tests were asked for: they run on SQLite and our own servers."""
    asked_for = [Path(config.invocation_params.dir, argument.split("::")[0]) for argument in config.args]
    return not config.getoption("thorough") and all(path.resolve().is_relative_to(_UNIT) for path in asked_for)


def pytest_xdist_auto_num_workers() -> int:
    """Two for each processor: tests wait for servers and processes much of the time."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _quick(config):
        return
    left_out = {item: None for item in items if _names(item) & _OTHER_SERVERS}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _names(item: pytest.Item) -> set[str]:
    """Return the names of a test's fixtures, and its parameters that are names."""
    parameters = (
        item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    )
    return {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}


def pytest_runtest_teardown() -> None:
    """Undo what a command, called in this process, has set for the rest of its own.

    A server command ignores Ctrl-C at its end, and programs would inherit that. Garbage that is collected rarely would
    be kept for good when the next sync exempts all objects from collection.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.set_threshold(*_COLLECT_AFTER)


def pytest_configure(config: pytest.Config) -> None:
    """A shell that starts us in the background may ignore Ctrl-C for us, and programs under test would inherit that.

    Hundreds of small databases are made and deleted: in memory, where there is room, that takes a quarter less.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" not in os.environ and _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _ROOM:
        os.environ["TMPDIR"], tempfile.tempdir = str(_IN_MEMORY), None
    # No timed tests: one with much to do is slow. Without --fresh the examples are always the same, on each machine.
    examples = settings(settings.get_profile("ci"), derandomize=not config.getoption("fresh"))
    tried = 300 if config.getoption("thorough") else 20
    settings.register_profile("any machine", examples, deadline=None, max_examples=tried)
    settings.load_profile("any machine")
    read_migration_scripts_once()
    share_compiled_statements()
    if not hasattr(config, "workerinput"):
        forked_commands.share()


def pytest_collection_finish() -> None:
    """Exempt all modules and collected tests from garbage collection, which would walk through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _own_secrets() -> Iterator[None]:
    """Forget them after each file: each text that is shown is searched for all, thousands at the end of a worker."""
    yield
    own_secrets._known.clear()


@pytest.fixture(scope="module")
def no_collection() -> Iterator[None]:
    """For answers nested too deeply: what is collected there, of whatever test, cannot finalize."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


SandboxFactory = Callable[..., SandboxProcess]


@pytest.fixture(scope="module")
def sandbox_factory() -> Iterator[SandboxFactory]:
    """`sandbox_factory(contacts=1000)`: starts one that lives until the end of the file, unless stopped before."""
    with ExitStack() as started:
        yield lambda **options: started.enter_context(SandboxProcess(**options))


@pytest.fixture
def sandbox() -> Iterator[SandboxProcess]:
    """A fresh one with 50 contacts, for this test alone."""
    with SandboxProcess() as fresh:
        yield fresh
        assert fresh.errors == "", f"the sandbox reported errors of its own:\n{fresh.errors}"
