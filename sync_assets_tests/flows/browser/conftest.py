"""One `sync-assets dev` and one browser for all tests of the UI; they are skipped where no Chromium is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import sync_assets
from sync_assets_tests.flows.browser.ui import FLAGS, PATIENCE, Ui, chromium, served
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

DEMO = Path(sync_assets.__file__).parent / "sandbox" / "demo.yaml"
BUDGET = 1000


@pytest.fixture(scope="module")
def browser_path() -> str:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium is installed, so nobody looks at the UI: apt-get install chromium")
    pytest.importorskip("playwright", reason="the extra `test` is not installed")
    return path


@pytest.fixture(scope="module")
def sandbox(browser_path: str) -> Iterator[SandboxProcess]:
    with SandboxProcess(contacts=20) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def synchronised(sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The demo's tables after a first `sync`. Campaign refused one contact; its orders wait for it."""
    document = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    contact, *further = document["tables"]
    program = Program(
        sandbox,
        tmp_path_factory.mktemp("ui"),
        table=contact,
        further=further,
        opt_out=document["opt_out"],
        guardrails={"engine_calls_per_day": BUDGET},
        on_disk=True,
    )
    for table, columns in {
        "contact": {"fax": ""},
        "new_order": {"new_quantity": 1},
        "new_orderline": {"new_count": 1},
    }.items():
        # All of today: a run notes each day that it touches, and on disk these take most of its time.
        sandbox.admin.change(table, [row[f"{table}id"] for row in sandbox.admin.dump_d365(table)], **columns)
    sandbox.admin.settings("campaign", bare_data_policy=False)
    [order, *_] = sandbox.admin.dump_d365("new_order")
    sandbox.admin.change("contact", [order["_new_contactid_value"]], emailaddress1="not-an-address")
    assert program.sync().status == 2
    return program


@pytest.fixture(scope="module")
def ui(browser_path: str, synchronised: Program) -> Iterator[Ui]:
    from playwright.sync_api import sync_playwright

    with served(synchronised) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 1400})
        page.set_default_timeout(PATIENCE)
        yield Ui(page, url)
        browser.close()
