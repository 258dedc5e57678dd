"""Fixtures for all tests: a sandbox in a process of its own, a PostgreSQL server."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from sync_assets_tests.support.migration_scripts import read_migration_scripts_once
from sync_assets_tests.support.postgres import postgres
from sync_assets_tests.support.sandbox_process import SandboxProcess

__all__ = ["postgres"]


_IN_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: much of a test's time it waits for processes of its own."""
    return (os.cpu_count() or 1) + 1


def pytest_configure() -> None:
    """A shell that starts us in the background may ignore Ctrl-C for us, and programs under test would inherit that.

    Hundreds of small databases are made and deleted: in memory, where there is room, that takes a quarter less.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" not in os.environ and _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _ROOM:
        os.environ["TMPDIR"], tempfile.tempdir = str(_IN_MEMORY), None
    # No timed tests: one with much to do is slow. Under CI the examples are always the same.
    examples = settings.get_profile("ci" if os.environ.get("CI") else "default")
    settings.register_profile("any machine", examples, deadline=None)
    settings.load_profile("any machine")
    read_migration_scripts_once()


def pytest_collection_finish() -> None:
    """Exempt all modules and collected tests from garbage collection, which would walk through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def no_collection() -> Iterator[None]:
    """For answers nested too deeply: what is collected there, of whatever test, cannot finalize."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


SandboxFactory = Callable[..., SandboxProcess]


@pytest.fixture(scope="session")
def sandbox_factory() -> Iterator[SandboxFactory]:
    """`sandbox_factory(contacts=1000)`: starts one that lives until the end of the session, unless stopped before."""
    with ExitStack() as started:
        yield lambda **options: started.enter_context(SandboxProcess(**options))


@pytest.fixture
def sandbox() -> Iterator[SandboxProcess]:
    """A fresh one with 50 contacts, for this test alone."""
    with SandboxProcess() as fresh:
        yield fresh
        assert fresh.errors == "", f"the sandbox reported errors of its own:\n{fresh.errors}"
