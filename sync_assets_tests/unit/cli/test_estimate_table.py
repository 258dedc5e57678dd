"""People see which numbers of an estimate are bounds, and which are not known; the tables fit 80 columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sync_assets.cli.estimate_table import show_estimate
from sync_assets.dataverse.row_counts import RowCount
from sync_assets.operations.estimate import WINDOW, Limits, Volume
from sync_assets.operations.estimate_report import Question, report

WIDTH = 80
MANY = RowCount(30_000_000)
DAYS = [RowCount(100_000, at_least=True)] * WINDOW
CONTACT = Volume("contact", "profile", MANY, RowCount(5_000, at_least=True), DAYS, DAYS, passes_deletes=True)
ORDER = replace(CONTACT, table="new_orderline", resource="cusOrderLine", in_scope=MANY, passes_deletes=False)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("NO_COLOR", "1")


def shown(capsys: pytest.CaptureFixture[str], *volumes: Volume, other_calls: int = 0, limits: Limits) -> list[str]:
    show_estimate(report(Question(12, other_calls, datetime.now(UTC)), volumes, limits, {"insert": 7}))
    return capsys.readouterr().out.splitlines()


def test_bounds_and_unknown_numbers_have_signs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, CONTACT, ORDER, limits=Limits())
    load, month = (line for line in lines if line.startswith("contact  "))
    assert " ".join(load.split()) == "contact 30,000,000 ≥ 5,000 ≤ 30,000,000 ≤ 1 ≤ 30,000,001"
    assert " ".join(month.split()) == "contact ≥ 3,000,000 ≥ 3,000,000 ? 6,000 ≥ 6,006,000"
    _, order = (line for line in lines if line.startswith("new_orderline  "))
    assert order.split()[-3] == "6,000"
    tables = lines[: lines.index("", lines.index("") + 1)]
    assert max(map(len, tables)) <= WIDTH
    assert "this month so far: 7 (7 insert, 0 update, 0 delete, 0 read)" in lines


def test_other_sources_and_budgets_are_named_only_if_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert not [line for line in shown(capsys, CONTACT, limits=Limits()) if "of other sources" in line]
    lines = shown(capsys, CONTACT, other_calls=50, limits=Limits(per_day=10_000_000))
    assert "a month: 6,006,000 engine calls, 6,006,050 with 50 of other sources; busiest day 200,200" in lines
    assert "first load: 30,000,001 engine calls, 4 days within the budgets" in lines


def test_no_number_is_cut_at_any_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shown(capsys, CONTACT, ORDER, limits=Limits())
    for width in (*range(40, 101), 120, 160, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = shown(capsys, CONTACT, ORDER, limits=Limits())
        for name in ("contact ", "in all "):
            assert [line.split() for line in lines if line.startswith(name)] == [
                line.split() for line in whole if line.startswith(name)
            ], width
