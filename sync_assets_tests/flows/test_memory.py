"""Memory stays flat: what a sync needs does not grow with the number of contacts."""

from __future__ import annotations

import time
from pathlib import Path

from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

MOST = 400
"""MiB, for any number of contacts (100,000 were measured; docs/dev/benchmarks.md)."""

PAGE = 1000
"""Rows a page, so that a few thousand contacts are several pages."""


def peak(home: Path, contacts: int) -> float:
    """MiB resident at most in the process of a first `sync`."""
    home.mkdir()
    with SandboxProcess(contacts=contacts) as sandbox:
        sandbox.admin.settings("d365", page_limit=PAGE)
        process = Program(sandbox, home).start("sync", "--json", fresh=True)
        most = 0.0
        while process.poll() is None:
            most = max(most, _most_resident(process.pid))
            time.sleep(0.02)
        assert process.returncode == 0
        assert sandbox.admin.engine_calls()["insert"] == contacts
    return most


def _most_resident(pid: int) -> float:
    """MiB so far; not `ru_maxrss`, which begins with what the process that started it had (the tests' own, 500 MiB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def test_a_first_load_of_many_contacts_needs_little_more_memory_than_one_of_few(tmp_path: Path) -> None:
    few, many = peak(tmp_path / "few", PAGE), peak(tmp_path / "many", 5 * PAGE)
    assert many < MOST
    assert many - few < 40  # two pages and what is on its way; 10 KB for each contact would be 40
