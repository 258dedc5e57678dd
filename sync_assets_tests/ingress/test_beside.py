"""Pages of a long read come out of the process beside us as they come out of a thread, and nothing depends on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from sync_assets.d365.pages import BadPage
from sync_assets.ingress import beside
from sync_assets.ingress.beside import Preparer
from sync_assets.ingress.captured import CapturedPage, captured
from sync_assets_tests.bench.rows import PageTemplate, page_ids
from sync_assets_tests.bench.table import mapping

LINK = ("nextLink", "https://crm.example/next")


def body(number: int, rows: int = 20) -> bytes:
    return PageTemplate(1, rows).page(page_ids(number, rows), LINK)


@pytest.fixture(autouse=True)
def _every_page_is_bulky(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "BULKY", 1)


def same(one: CapturedPage, other: CapturedPage) -> bool:
    plain = [(p.read, p.deleted, p.left, p.days, p.unknown_codes, p.next_link, p.delta_link) for p in (one, other)]
    kept = [(p.rows.ids, p.rows.hashes, [p.rows.row(n) for n in range(len(p.rows.ids))]) for p in (one, other)]
    return plain[0] == plain[1] and kept[0] == kept[1]


async def long_read(preparer: Preparer) -> None:
    """Until the process works."""
    until = time.monotonic() + 60
    while not preparer.beside:
        assert time.monotonic() < until, "the process did not start"
        await preparer(body(0))


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "sync_assets.ingress.beside" in one.cmdline()]


async def test_a_short_read_starts_no_process() -> None:
    preparer = Preparer(mapping(), long=3)
    pages = [await preparer(body(number)) for number in range(2)]
    assert not children()
    assert [page.read for page in pages] == [20, 20]


async def test_a_page_is_the_same_whoever_makes_it_ready() -> None:
    preparer = Preparer(mapping(), long=1)
    await long_read(preparer)
    made = await preparer(body(7, rows=300))
    preparer.close()
    assert preparer.beside == 2
    assert same(made, captured(beside.parser(mapping()).parse(body(7, rows=300)), mapping()))


async def test_a_bad_page_is_told_as_ever_and_the_next_one_is_good() -> None:
    preparer = Preparer(mapping(), long=1)
    await long_read(preparer)
    with pytest.raises(BadPage):
        await preparer(b'{"value":[{"contactid":1}]}')
    assert (await preparer(body(1))).read == 20
    assert preparer.beside == 2
    preparer.close()


async def test_a_process_that_dies_costs_no_page() -> None:
    preparer = Preparer(mapping(), long=1)
    await long_read(preparer)
    (child,) = children()
    child.kill()
    pages = [await preparer(body(number)) for number in range(3)]
    assert [page.rows.ids for page in pages] == [[id_.decode() for id_ in page_ids(n, 20)] for n in range(3)]
    assert preparer.beside == 1
    assert not children()


async def test_nothing_secret_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D365_CLIENT_SECRET", "secret of the application")
    preparer = Preparer(mapping(), long=1)
    await long_read(preparer)
    (child,) = children()
    assert "secret of the application" not in {*child.environ().values(), *child.cmdline()}
    preparer.close()
    assert not children()


def test_the_process_does_not_outlive_one_that_is_killed() -> None:
    code = (
        "import time, subprocess, sys; from sync_assets.ingress.beside import Preparer;"
        "from sync_assets_tests.bench.table import mapping; one = Preparer(mapping()); one._start();"
        "print(one._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
