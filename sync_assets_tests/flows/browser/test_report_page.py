"""`report --html` as its reader has it: in a browser without a network, in light and dark, and printed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sync_assets.commands import report
from sync_assets.config.files import CONFIG
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import times
from sync_assets.ledger.report_values import Counts
from sync_assets.ledger.repositories.reports import Reports
from sync_assets.runtime.context import Runtime
from sync_assets_tests.flows.browser.ui import FLAGS
from sync_assets_tests.support.nightly import by_default

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REASON = "<img src=https://x.example/p onerror=alert(1)></table> & 'more' than <n> characters"
TABLE = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}
OPT_OUT = {"direction": "bidirectional", "mappings": {"donotemail": "blackListEmail"}}
TITLES = [
    "Records changed, by day",
    "Time from a change to Campaign: share of each day's changes",
    "Engine calls of Campaign, by day",
    "Opt-outs written, by day",
    "Records not in step, by state",
    "Rejected records, by reason",
    "Records that differ, by the last audit",
]


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    config = tmp_path / "config.yaml"
    guardrails = {"engine_calls_per_day": 100}
    config.write_text(
        yaml.safe_dump({"privacy_acknowledged": True, "tables": [TABLE], "opt_out": OPT_OUT, "guardrails": guardrails})
    )
    monkeypatch.setenv(CONFIG, str(config))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    made = Runtime({CONFIG: str(config), "DAGSTER_HOME": str(tmp_path)})
    yield made
    made.close()


def fill(runtime: Runtime, days: int) -> None:
    """Add numbers of the last days to the ledger, up to today."""
    counts = runtime.ledger.counts
    for kind, numbers in {
        "d365": {"new": 5, "changed": 1200},
        "campaign": {"inserted": 5, "updated": 1100},
        "seconds": {"5": 90, "900": 10},
        "engine_calls": {"insert": 5, "update": 75},
        "opt_outs": {"to_d365": 2, "to_campaign": 1},
    }.items():
        counts.add(kind, "contact", numbers)  # pyright: ignore[reportArgumentType]
    today = times.to_day_number(datetime.now(UTC).date())
    for age in range(1, days):
        again = f"SELECT kind, {today - age}, table_name, name, number FROM sync_day_count WHERE day = {today}"
        runtime.ledger.database.write(
            lambda connection, again=again: connection.exec_driver_sql(f"INSERT INTO sync_day_count {again}") and None
        )


@by_default("days scheme", product([0, 1, 40], ["light", "dark"]), (0, "light"), (1, "light"), (40, "dark"))
def test_the_page_shows_all_numbers_in_a_browser_that_reaches_no_network(
    browser: Browser, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, scheme: Any
) -> None:
    if days:
        fill(runtime, days)
        states = {"contact": Counts(synced=9_999, rejected=1, excluded=50)}
        monkeypatch.setattr(Reports, "counts", lambda _: states)
        monkeypatch.setattr(Reports, "reject_reasons", lambda *_: [(REASON, 1)])
    report.command(tmp_path / "page.html")
    context = browser.new_context(color_scheme=scheme, offline=True, viewport={"width": 1000, "height": 800})
    page, asked, said = context.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"file://{tmp_path}/page.html")
    assert (asked, said) == ([f"file://{tmp_path}/page.html"], [])
    assert page.locator("h2").all_inner_texts() == TITLES
    assert page.locator("img, script, a").count() == 0
    tiles = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd b").all_inner_texts(), strict=True))
    shown = min(days, 30)
    assert tiles == {
        "Records in step": "99.9 %" if days else "–",
        "Changes sent": f"{shown * 1105:,}",
        "95 % in Campaign within": "15 min" if days else "–",
        "Rejected now": "1" if days else "0",
        "Engine calls": f"{shown * 80:,}",
        "Opt-outs written": f"{shown * 3:,}",
    }
    plots = page.get_by_role("img")
    assert plots.count() == (6 if days else 0)
    if days:
        captured = [title for title in page.locator("svg title").all_text_contents() if "captured" in title]
        window = [str(datetime.now(UTC).date() - timedelta(days=age)) for age in range(shown)]
        assert captured == [f"{day}, captured: 1,205" for day in window]
        colour = "e => getComputedStyle(e).fill"
        labels = plots.first.locator("text")
        assert labels.first.evaluate(colour) == page.locator("h1").evaluate("e => getComputedStyle(e).color")
        assert labels.first.evaluate("e => getComputedStyle(e).color") != page.locator("section").first.evaluate(
            "e => getComputedStyle(e).backgroundColor"
        )
        inside = "e => { const a = e.getBoundingClientRect(), b = e.closest('svg').getBoundingClientRect();"
        assert all(labels.evaluate_all(f"all => all.map({inside} return a.left >= b.left && a.right <= b.right; }})"))
        page.get_by_text("Values").nth(5).click()
        cells = page.locator("details[open] td").all_inner_texts()
        assert cells == ["contact", REASON, "1"]
        page.emulate_media(media="print")
        assert page.locator("details:visible").count() == 1
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    context.close()


def test_without_its_libraries_the_command_says_what_to_install(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "vl_convert", None)
        patch.delitem(sys.modules, "sync_assets.results.report_page", raising=False)
        with pytest.raises(SyncAssetsError, match=r"pip install 'sync_assets\[report\]'"):
            report.command(tmp_path / "page.html")
    with pytest.raises(SyncAssetsError, match="can't be written"):
        report.command(tmp_path / "none" / "page.html")
