"""Is the process of a worker gone?"""

import builtins
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sync_assets.runtime.workers import is_dead, worker_id
from sync_assets_tests.support.waiting import until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process started")

NAMED = "import sync_assets.runtime.workers as workers; print(workers.worker_id(), flush=True); input()"


def test_a_process_that_lives_is_not_dead() -> None:
    assert not is_dead(worker_id())


def test_a_process_that_has_ended_is_dead_even_if_its_end_was_not_collected() -> None:
    child = subprocess.Popen([sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin
    assert child.stdout
    name = child.stdout.readline().strip()
    assert not is_dead(name)
    child.kill()
    until(lambda: is_dead(name), seconds=10)
    child.communicate()
    assert is_dead(name)


@pytest.mark.parametrize("part", [0, 1, 3], ids=["host", "namespace", "start"])
def test_another_one_under_that_number_is_not_it(part: int) -> None:
    parts = worker_id().split("|")
    parts[part] += "0"
    assert is_dead("|".join(parts)) is (part == 3)


@pytest.mark.parametrize("name", ["", "export"])
def test_of_other_names_nothing_is_known(name: str) -> None:
    assert not is_dead(name)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOENT], ids=["too many files", "hidden from us"])
def test_a_record_that_cannot_be_read_is_not_reported(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    name, opened = worker_id(), builtins.open

    def refused(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith(f"{os.getpid()}/stat"):
            raise OSError(number, os.strerror(number))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", refused)
    assert not is_dead(name)
