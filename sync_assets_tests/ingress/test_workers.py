"""Whether the process of that name still lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync_assets.ingress.workers import is_dead, living, worker_id
from sync_assets_tests.waiting import until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process started")

NAMED = "import sync_assets.ingress.workers as workers; print(workers.worker_id(), flush=True); input()"


def test_one_that_lives_is_found_under_its_number() -> None:
    assert (living(worker_id()), is_dead(worker_id())) == (os.getpid(), False)


def test_a_process_that_has_ended_is_dead_even_if_nobody_asked_for_its_end() -> None:
    child = subprocess.Popen([sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin
    assert child.stdout
    name = child.stdout.readline().strip()
    assert (living(name), is_dead(name)) == (child.pid, False)
    child.kill()
    until(lambda: is_dead(name), seconds=10)
    assert living(name) is None
    child.communicate()
    assert (living(name), is_dead(name)) == (None, True)


@pytest.mark.parametrize("part", [0, 1, 3], ids=["host", "namespace", "start"])
def test_another_one_under_that_number_is_not_it(part: int) -> None:
    parts = worker_id().split("|")
    parts[part] += "0"
    assert living("|".join(parts)) is None
    assert is_dead("|".join(parts)) is (part == 3)


@pytest.mark.parametrize("name", ["", "export", "a|b|c|d|e"])
def test_of_other_names_nothing_is_known(name: str) -> None:
    assert (living(name), is_dead(name)) == (None, False)
