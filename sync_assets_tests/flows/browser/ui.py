"""Dagster's UI as a person has it: `sync-assets dev` on a synchronised sandbox, looked at in a headless Chromium."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from sync_assets_tests.support.dagster_dev import GUARDED, DagsterDev, dagster_dev
from sync_assets_tests.support.program import Program

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
START_SECONDS = 90.0
PATIENCE = 30_000.0
"""Milliseconds that something may take to appear."""


def chromium() -> str | None:
    """The installed browser, None if there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def served(program: Program) -> Iterator[str]:
    """Serves the program's assets, sensors off; yields the URL."""
    with dagster_dev(program.home, program.env, GUARDED) as running:
        _wait_until_loaded(running)
        yield running.url


def _wait_until_loaded(running: DagsterDev) -> None:
    """Until the code location is there: the server answers before that, with empty pages."""
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        try:
            answer = httpx.post(f"{running.url}/graphql", json={"query": "{assetNodes {id}}"}, timeout=5)
            if answer.is_success and (answer.json().get("data") or {}).get("assetNodes"):
                return
        except httpx.TransportError:
            pass
        if running.process.poll() is not None or time.monotonic() > give_up_at:
            raise AssertionError(f"sync-assets dev did not start:\n{running.said}")
        time.sleep(0.2)


@dataclass
class Ui:
    """A page of the browser."""

    page: Page
    url: str

    def open(self, path: str) -> None:
        self.page.goto(self.url + path, wait_until="domcontentloaded")

    def text(self, text: str, *, exact: bool = True) -> Locator:
        return self.page.get_by_text(text, exact=exact).first

    def reads(self, *texts: str, exact: bool = True) -> None:
        """All of them are to be seen, now or soon."""
        from playwright.sync_api import expect

        for text in texts:
            expect(self.text(text, exact=exact)).to_be_visible(timeout=PATIENCE)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Send GraphQL as a program does, which is no browser."""
        asked = {"query": query, "variables": variables}
        return self.page.request.post(f"{self.url}/graphql", data=asked).json()["data"]

    def wait_for_materialization(self, *path: str) -> None:
        """Until Dagster has noted one of the asset."""
        key = ", ".join(f'"{part}"' for part in path)
        noted = "... on AssetNode {assetMaterializations(limit: 1) {runId}}"
        query = f"{{assetNodeOrError(assetKey: {{path: [{key}]}}) {{{noted}}}}}"
        give_up_at = time.monotonic() + PATIENCE / 1000
        while True:
            answer = self.page.request.post(f"{self.url}/graphql", data={"query": query}).json()
            if answer["data"]["assetNodeOrError"]["assetMaterializations"]:
                return
            assert time.monotonic() < give_up_at, f"{key} was not materialised"
            time.sleep(0.2)

    def row(self, *texts: str) -> Locator:
        """The first row of a table that holds all the texts."""
        rows = self.page.get_by_role("row")
        for text in texts:
            rows = rows.filter(has_text=text)
        return rows.first
