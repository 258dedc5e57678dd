"""Progress names the total, the rate and the remaining time as far as they are known."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sync_assets.cli.progress import progress_on_terminal, progress_text
from sync_assets.runtime.context import Runtime


@pytest.mark.parametrize(
    ("done", "total", "rate", "text"),
    [
        (7, None, None, "7 records"),
        (1200, None, 400.0, "1,200 records, 400/s"),
        (1200, 30_000, 400.0, "1,200 of 30,000 records, 400/s, 1:12 left"),
        (1200, 30_000_000, 400.0, "1,200 of 30,000,000 records, 400/s, 20:49:57 left"),
        (5, 5, 400.0, "5 of 5 records, 400/s"),
        (0, 5, None, "0 of 5 records"),
    ],
)
def test_text(done: float, total: float | None, rate: float | None, text: str) -> None:
    assert progress_text(done, total, rate) == text


def test_an_activity_shows_its_total_and_more_records_than_that_raise_it() -> None:
    runtime, shown = Runtime({}), io.StringIO()
    runtime.totals["sending contact"] = 10
    with progress_on_terminal(runtime, Console(file=shown, force_terminal=True, width=100)):
        runtime.progress("sending contact", 4)
        runtime.progress("capturing contact", 9)
        runtime.progress("sending contact", 12)
    assert "12 of 12 records" in shown.getvalue()
    assert "capturing contact 9 records" in shown.getvalue()
