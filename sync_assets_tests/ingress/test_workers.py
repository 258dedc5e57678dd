"""Whether the process of that name still lives."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sync_assets.ingress.workers import ended_with_its_machine, has_ended, is_dead, living, worker_id
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
    assert not has_ended(child.pid)
    child.kill()
    until(lambda: is_dead(name), seconds=10)
    assert (living(name), has_ended(child.pid)) == (None, True)
    child.communicate()
    assert (living(name), is_dead(name), has_ended(child.pid)) == (None, True, True)


@pytest.mark.parametrize("part", [0, 1, 3], ids=["host", "namespace", "start"])
def test_another_one_under_that_number_is_not_it(part: int) -> None:
    parts = worker_id().split("|")
    parts[part] += "0"
    assert living("|".join(parts)) is None
    assert is_dead("|".join(parts)) is (part == 3)


@pytest.mark.parametrize("name", ["", "export"])
def test_of_other_names_nothing_is_known(name: str) -> None:
    assert (living(name), is_dead(name), ended_with_its_machine(name)) == (None, False, False)


@pytest.mark.parametrize(
    ("part", "ended", "of_any_name"),
    [
        ("", False, False),
        ("host", False, False),
        ("boot", True, True),
        ("host boot", False, True),
        ("container", False, True),  # one of the same name may live beside us
    ],
)
def test_who_ran_before_the_machine_was_started_last_has_ended_with_it(
    part: str, ended: bool, of_any_name: bool
) -> None:
    host, namespace, rest = worker_id().split("|", 2)
    boot, container = namespace.split()
    parts = {name: value + "0" * (name in part) for name, value in
             (("host", host), ("boot", boot), ("container", container))}  # fmt: skip
    name = f"{parts['host']}|{parts['boot']} {parts['container']}|{rest}"
    assert (ended_with_its_machine(name), ended_with_its_machine(name, of_any_name=True)) == (ended, of_any_name)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOENT], ids=["too many files", "hidden from us"])
def test_of_one_that_cannot_be_looked_at_nothing_is_said(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    name, opened = worker_id(), builtins.open

    def refused(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith(f"{os.getpid()}/stat"):
            raise OSError(number, os.strerror(number))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", refused)
    assert (living(name), is_dead(name), has_ended(os.getpid())) == (None, False, False)
