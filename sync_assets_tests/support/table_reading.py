"""Capture a table of the sandbox while it changes, with captures that can be killed. Without Dagster."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from sync_assets.capture import context as capture_context
from sync_assets.capture.context import CaptureResult
from sync_assets.capture.table_capture import Capture
from sync_assets.checks.preflight import preflight
from sync_assets.dataverse.client import ServerFailed
from sync_assets.ledger import Ledger
from sync_assets_tests.support.ledgers import new_sqlite_ledger, push, session_of, stored
from sync_assets_tests.support.program import CONTACT, Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

FIELDS: dict[str, Any] = {"firstname": "firstName", "lastname": "lastName"}


class Killed(Exception):
    """Raised by the ledger's writes after the simulated end of the program's process."""


class SimulatedKill:
    """Simulates the end of the process at its n-th write to the ledger (`left`), before it or (`stored`) after it."""

    def __init__(self, ledger: Ledger) -> None:
        self._database: Any = ledger.database
        self._write: Callable[..., Any] = self._database.write
        self.left: int | None = None
        self.stored = False
        self._database.write = self._write_unless_killed

    def _write_unless_killed(self, work: Callable[[Any], Any], **how: bool) -> Any:
        if self.left is None:
            return self._write(work, **how)
        self.left -= 1
        if self.left == 0 and self.stored:
            self._write(work, **how)
        if self.left <= 0:
            raise Killed
        return self._write(work, **how)


class Reading:
    """Captures of contacts from a sandbox with permanent connections, and a ledger for each test (`begin`).

    Attributes:
        before: Called before each request for rows, ids or changes, with its number.
        links: URLs of these requests in the last capture.
        sizes: Page sizes of these requests, except reads by id.
        most_rows: Page size above which the server answers 500.
    """

    def __init__(self, home: Path, page_size: int = 4) -> None:
        self.home = home
        self.sandbox = SandboxProcess(contacts=0)
        self.admin = self.sandbox.admin
        self.runner = asyncio.Runner()
        self._open = AsyncExitStack()
        self.page_size = page_size
        self.before: Callable[[int], None] = lambda number: None
        self.links: list[str] = []
        self.sizes: list[int] = []
        self.most_rows = 5000
        self._size_of: dict[str, int] = {}
        self.ledgers = 0
        self.runner.run(self._prepare())

    async def _prepare(self) -> None:
        """Connect, compile the mappings, and watch the requests for pages."""
        runtime = Program(self.sandbox, self.home).runtime()
        self._open.callback(runtime.close)
        self.d365 = await self._open.enter_async_context(runtime.d365())
        self.campaign = await self._open.enter_async_context(runtime.campaign())
        mappings = {"few": FIELDS, "more": {**FIELDS, "emailaddress1": "email"}, "filtered": FIELDS}
        filters = {"rules": [{"field": "jobtitle", "is": "ne", "value": "out"}], "delete_filtered_out": True}
        self.rules: dict[str, Any] = {}
        for name, fields in mappings.items():
            program = Program(self.sandbox, self.home, {**CONTACT, "fields": fields})
            program.table |= {"filters": filters} if name == "filtered" else {}
            runtime = program.runtime()
            self.rules[name] = await preflight(runtime.config.tables[0], self.d365, self.campaign)
            runtime.close()
        page = self.d365.page

        async def watched(link: str, **how: Any) -> bytes:
            self.links.append(unquote(link))
            self.before(len(self.links))
            if "$filter" not in link and how["size"] != 1:
                self.sizes.append(how["size"])
                asked_with = self._size_of.setdefault(link, how["size"])
                assert asked_with == how["size"] or "skiptoken" not in link, "a read goes on with another size"
                if how["size"] > self.most_rows:
                    raise ServerFailed("Dynamics 365 answered 500.")
            body = await page(link, **how)
            if following := json.loads(body).get("@odata.nextLink"):
                self._size_of[following] = how["size"]
            return body

        vars(self.d365)["page"] = watched

    def close(self) -> None:
        self.runner.run(self._open.aclose())
        self.runner.close()
        self.sandbox.stop()
        assert self.sandbox.errors == ""

    @contextmanager
    def begin(self, rows: int) -> Iterator[Ledger]:
        """Yield an empty ledger, after filling the table with this number of rows."""
        self.admin.settings("d365", delta_link_taken="start", delta_repeats=False)
        self.admin.delete("contact", [row["contactid"] for row in self.admin.dump_d365()])
        self.admin.create("contact", *({"lastname": f"Row {n}", "jobtitle": "in"} for n in range(rows)))
        self.mapping = "few"
        self.before = lambda number: None
        self.most_rows = 5000
        self._size_of.clear()
        with self._ledger() as ledger:
            self.ledger = ledger
            self.simulated_kill = SimulatedKill(ledger)
            yield ledger

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        self.ledgers += 1
        path = self.home / f"{self.ledgers}.sqlite"
        ledger = Ledger.open(new_sqlite_ledger(path))
        try:
            yield ledger
            assert ledger.check() == []
        finally:
            ledger.close()
            path.unlink()

    def read(self, ledger: Ledger | None = None, **options: Any) -> CaptureResult:
        """Capture the table to the end of the feed."""
        ready = self.rules[self.mapping]
        options = {"page_size": self.page_size, "apply_deletes": True, **options}
        self.links.clear()
        self.sizes.clear()
        store = ledger or self.ledger
        capture = Capture(store, self.d365, ready.table, ready.mapping, session_of(store), **options)
        return self.runner.run(capture.run())

    def read_whole_table_next(self) -> None:
        """Let the next capture read the table in full, as `replay` does."""
        feed = self.ledger.feeds.feed("contact")
        if feed:
            self.ledger.feeds.reset_feed("contact", feed.version)

    def acknowledge(self) -> None:
        push(self.ledger)

    def asked(self) -> list[str]:
        """Return the kinds of the requests of the last capture, in order."""
        return [_kind(link) for link in self.links]

    def captured(self) -> dict[str, bytes]:
        """Return the desired state in the ledger: hashes by id."""
        return _desired(self.ledger)

    def expected(self) -> dict[str, bytes]:
        """Return the desired state according to a first load of the present table: hashes by id."""
        self.before = lambda number: None
        self.most_rows = 5000
        with self._ledger() as other:
            self.read(other, page_size=5000)
            return _desired(other)


def _desired(ledger: Ledger) -> dict[str, bytes]:
    records = stored(ledger).items()
    return {id_: one.desired_hash for id_, one in records if one.desired_hash is not None and not one.out_of_scope}


def _kind(link: str) -> str:
    if "$filter" in link:
        return "by id"
    if "deltatoken" in link:
        return "changes"
    if "skiptoken" in link:
        return "next ids" if "$select=contactid&" in link else "next"
    return "ids" if link.endswith("$select=contactid") else "rows"


@contextmanager
def reading_of_small_pages(home: Path) -> Iterator[Reading]:
    """Open a reading whose pages may shrink to one row, at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture_context, "SMALLEST", 1)
        patch.setattr(capture_context, "backoff", lambda attempt: 0.0)
        one = Reading(home)
        yield one
        one.close()
