"""`report --html`: write the numbers of 30 days as one page with plots, from the ledger: results/report_page.py."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sync_assets.commands.terminal import open_runtime, say
from sync_assets.errors import SyncAssetsError


def command(
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="The page to write or replace.")],
) -> None:
    """Write one page of the last 30 days with plots, from the ledger. Asks neither system."""
    try:
        from sync_assets.results.report_page import report_page  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"altair", "vl_convert"}:
            raise
        raise SyncAssetsError(
            f"The page needs {error.name}, which is not installed.", "Run `pip install 'sync_assets[report]'`."
        ) from None
    runtime = open_runtime(any_ledger=True)
    page = report_page(runtime.config, runtime.ledger, datetime.now(UTC))
    try:
        html.write_text(page, "utf-8")
    except OSError as error:
        raise SyncAssetsError(f"{html} can't be written ({error.strerror}).", "Name another folder.") from None
    say(
        f"{html}: the last 30 days, without personal data. Open it in a browser, print or send it: it needs no network."
    )
