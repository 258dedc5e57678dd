"""The arithmetic of an estimate: what counts, costs and limits add up to."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest

from sync_assets.checks.guardrails import INITIAL_RECORDS
from sync_assets.commands.estimate import report, show
from sync_assets.commands.estimate_calls import (
    LEAST_HISTORY,
    WINDOW,
    Cost,
    Volume,
    calls_a_day,
    divided,
    first_load,
    hours,
    month,
    pace,
    usual_calls,
)
from sync_assets.commands.terminal import print_parts
from sync_assets.config.models import Guardrails
from sync_assets.dataverse.row_counts import RowCount
from sync_assets.ledger import Ledger

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NO_LIMITS = Guardrails()


def a_month(updates: int, deletes: int) -> dict[str, int]:
    return {"update": updates, "delete": deletes}


class _Counts:
    """The engine calls of so many days before NOW."""

    def __init__(self, days: int) -> None:
        self.days, self.counts = days, self

    def first_day(self, kind: str, table: str) -> date:
        return NOW.date() - timedelta(days=self.days)

    def numbers(self, kind: str, first: date, last: date, table: str) -> dict[str, int]:
        assert (last - first).days + 1 == min(self.days, WINDOW)
        return {"update": 20, "delete": 1, "read": 7}


@pytest.mark.parametrize(
    ("days", "rate"),
    [(LEAST_HISTORY - 1, None), (10, a_month(60, 3)), (LEAST_HISTORY, a_month(86, 4)), (90, a_month(20, 1))],
)
def test_the_rate_of_a_month_needs_a_week_of_calls(days: int, rate: dict[str, int] | None) -> None:
    assert usual_calls(cast(Ledger, _Counts(days)), "contact", NOW) == rate


def volume(size: int | None = 0, **more: Any) -> Volume:
    rows = None if size is None else RowCount(size)
    given: dict[str, Any] = {
        "rows": rows,
        "in_scope": rows,
        "created": RowCount(0),
        "modified": RowCount(0),
        "audited": 0,
    }
    return Volume("contact", "profile", **(given | more))


# --- First load -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "calls", "bound"),
    [
        (volume(100), {"insert": 100, "read": 1}, "exact"),
        (volume(0), {}, "exact"),
        (volume(100, listed=True), {"insert": 100}, "exact"),
        (volume(100, synced=40, listed=True), {"insert": 60}, "exact"),
        (volume(100, synced=140), {}, "exact"),
        (volume(100, missing=7, listed=True), {"insert": 7}, "exact"),
        (volume(100, missing=0), {}, "exact"),
        (volume(100, cost=Cost(verified=True)), {"insert": 100, "read": 2}, "exact"),
        (volume(1000, poll_minutes=5), {"insert": 1000, "read": 4}, "exact"),
        (volume(100, in_scope=RowCount(30)), {"insert": 30, "read": 1}, "exact"),
        (volume(100, in_scope=None), {"insert": 100, "read": 1}, "at most"),
        (volume(100, in_scope=RowCount(30, at_least=True)), {"insert": 100, "read": 1}, "at most"),
        (
            volume(rows=RowCount(90, at_least=True), in_scope=RowCount(30, at_least=True)),
            {"insert": 30, "read": 1},
            "at least",
        ),
    ],
)
def test_a_first_load_is_an_insert_for_each_record_and_the_reads_that_it_needs(
    given: Volume, calls: dict[str, int], bound: str
) -> None:
    load = first_load(given, {}, NO_LIMITS)
    assert (+Counter(load["engine_calls"]), load["bound"]) == (calls, bound)
    assert load["total"] == sum(calls.values())


def test_a_first_load_of_unknown_size_has_no_number() -> None:
    load = first_load(volume(None), {}, NO_LIMITS)
    assert (load["engine_calls"], load["total"]) == (None, None)


@pytest.mark.parametrize(
    ("parents", "synced", "children", "limits", "look_ups"),
    [
        (1_000, 0, 5_000, NO_LIMITS, 0),  # sent by the same run, and in memory
        (1_000, 1_000, 5_000, NO_LIMITS, 1_000),  # sent long ago: each once
        (9_000, 9_000, 5_000, NO_LIMITS, 5_000),  # never more than children
        (1_000, 400, 5_000, NO_LIMITS, 400),
        (300_000, 0, 500_000, NO_LIMITS, 300_000),  # more than the memory takes
        (1_000, 0, 5_000, Guardrails(calls_per_second=1), 1_000),  # sent more than a quarter of an hour ago
    ],
)
def test_parents_that_are_not_in_memory_cost_a_read_each(
    parents: int, synced: int, children: int, limits: Guardrails, look_ups: int
) -> None:
    contact = volume(parents, synced=synced)
    order = replace(volume(children, cost=Cost(looked_up=("contact",), verified=True)), table="new_order")
    load = first_load(order, {"contact": contact}, limits)
    assert +Counter(load["engine_calls"]) == {"insert": children, "read": look_ups + 2}
    assert load["bound"] == ("at most" if look_ups else "exact")


# --- Month ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        (volume(created=RowCount(5), modified=RowCount(7)), {"insert": 5, "update": 7}),
        (volume(created=None, modified=RowCount(7)), {"update": 7}),
        (volume(modified=RowCount(7), cost=Cost(update=2)), {"update": 7, "read": 7}),
        (volume(created=RowCount(4), cost=Cost(looked_up=("a", "b"))), {"insert": 4, "read": 8}),
        (volume(created=RowCount(4), cost=Cost(verified=True)), {"insert": 4}),
        (volume(1000, audited=200), {"read": 60}),
        (volume(1_000_000, audited=200), {"read": 6_000}),
        (volume(poll_minutes=60), {"read": 720}),
        (volume(poll_minutes=60, modified=RowCount(1_000)), {"update": 1_000, "read": 722}),
        (volume(passes_deletes=True, a_month=a_month(0, 30)), {"delete": 30, "read": 30}),
        (volume(passes_deletes=True, a_month=a_month(0, 30), cost=Cost(delete=1)), {"delete": 30}),
        (volume(passes_deletes=False, a_month=a_month(0, 30)), {}),
    ],
)
def test_a_month_is_the_last_thirty_days_at_the_cost_of_each_change(given: Volume, calls: dict[str, int]) -> None:
    usual = month(given)
    assert +Counter(usual["engine_calls"]) == calls
    assert usual["engine_calls"]["read"] == sum(usual["reads"].values())


def test_the_pages_of_the_daily_audit_are_those_of_all_tables_together() -> None:
    tables = [volume(1_000_000), replace(volume(1_000_000), table="new_order")]
    assert [one.audited for one in divided(200, tables, {"contact": 0, "line": 2_000_000})] == [50, 50]
    assert sum(month(one)["reads"]["daily audit"] for one in divided(200, tables, {})) == 6_000


@pytest.mark.parametrize(
    ("history", "updates", "source"),
    [(None, 100, "d365"), (a_month(60, 0), 100, "d365"), (a_month(150, 0), 150, "ledger")],
)
def test_updates_are_those_of_the_ledger_if_it_made_more(
    history: dict[str, int] | None, updates: int, source: str
) -> None:
    usual = month(volume(modified=RowCount(100), a_month=history))
    assert (usual["updates"], usual["updates_from"]) == (updates, source)


def test_deletions_without_a_week_of_calls_are_unknown() -> None:
    assert month(volume(passes_deletes=True))["deletes"] is None
    assert month(volume(passes_deletes=False))["deletes"] == 0


def test_a_count_that_was_cut_makes_the_month_a_lower_bound() -> None:
    cut = RowCount(5000, at_least=True)
    assert month(volume(modified=cut))["at_least"]
    assert month(volume(created=cut))["at_least"]
    assert not month(volume(modified=RowCount(5000)))["at_least"]


# --- Limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "an_hour", "a_day"),
    [
        (Guardrails(), 2_304_000, None),
        (Guardrails(concurrency=1), 36_000, None),
        (Guardrails(calls_per_second=10), 36_000, None),
        (Guardrails(engine_calls_per_hour=1_000), 1_000, 24_000),
        (Guardrails(engine_calls_per_hour=1_000, engine_calls_per_day=5_000), 1_000, 5_000),
        (Guardrails(engine_calls_per_day=100_000), 2_304_000, 100_000),
    ],
)
def test_the_assumed_pace_is_never_beyond_a_limit(limits: Guardrails, an_hour: int, a_day: int | None) -> None:
    assert (pace(limits), calls_a_day(limits)) == (an_hour, a_day)


@pytest.mark.parametrize(
    ("calls", "limits", "expected"),
    [
        (0, Guardrails(engine_calls_per_hour=100), 0),
        (250, Guardrails(engine_calls_per_hour=100), 2.5),
        (500, Guardrails(engine_calls_per_hour=100, engine_calls_per_day=500), 5),
        (700, Guardrails(engine_calls_per_hour=100, engine_calls_per_day=500), 26),
        (1_000, Guardrails(engine_calls_per_hour=100, engine_calls_per_day=500), 29),
    ],
)
def test_a_load_takes_the_days_of_the_budget_and_the_hours_of_the_last_one(
    calls: int, limits: Guardrails, expected: float
) -> None:
    assert hours(calls, limits) == pytest.approx(expected)


# --- Document ---------------------------------------------------------------------------------------------------------


def test_the_sums_are_those_of_the_tables_and_the_other_sources() -> None:
    contact = volume(100, created=RowCount(3), modified=RowCount(7))
    order = replace(volume(50, created=RowCount(1)), table="new_order", resource="cusOrder")
    estimate_document = report(
        [contact, order],
        Guardrails(engine_calls_per_day=80),
        {"insert": 4, "read": 1},
        months=6,
        other_calls=1_000,
        now=NOW,
    )
    assert estimate_document["first_load"]["total"] == 152
    assert estimate_document["first_load"]["days"] == 2
    assert estimate_document["month"]["total"] == 11
    assert estimate_document["month"]["with_other_calls"] == 1_011
    assert estimate_document["sum"] == {"usual": 66, "other_calls": 6_000, "with_first_load": 152 + 6 * 1_011}
    assert estimate_document["month_so_far"]["total"] == 5
    assert estimate_document["budget"]["most_in_a_month"] == 2_400


def said(*volumes: Volume, limits: Guardrails = NO_LIMITS) -> str:
    return "\n".join(report(volumes, limits, {}, months=1, other_calls=0, now=NOW)["notes"])


def test_each_assumption_is_a_sentence_where_it_is_made() -> None:
    assert "nothing is left to be sent" in said(volume(0))
    assert "rows of contact are not known" in said(volume(None))
    assert "100 ms for an answer" in said(volume(1))
    assert "no query can express its filter" in said(volume(9, in_scope=None))
    assert "at least 3 rows pass the filter" in said(volume(9, in_scope=RowCount(3, at_least=True)))
    assert "has no `createdon`" in said(volume(9, created=None))
    assert "snapshot, up to a day old" in said(volume(5_001))
    assert "contact: deletions are not known" in said(volume(9, passes_deletes=True))
    assert "updates are those of the ledger" in said(volume(9, a_month=a_month(5, 0)))
    assert "the month is a lower bound" in said(volume(9, modified=RowCount(5000, at_least=True)))
    assert "no request has shown yet" in said(volume(9, cost=Cost(found_out=False)))
    assert "its link to a is sent with the parent's PKey" in said(
        volume(9, cost=Cost(looked_up=("a",))), replace(volume(9), table="a")
    )
    assert "decisions on opt-outs" in said(volume(9, opt_outs=True))
    assert "daily audit of Dagster's schedule" in said(volume(9, audited=200))
    assert f"{INITIAL_RECORDS:,} records as the most" in said(volume(INITIAL_RECORDS))
    assert "Campaign's own processes" in said(volume(500_000))
    assert "Campaign's own processes" not in said(volume(499_000))
    assert "No budget is set" in said(volume(9))
    assert "the backlog grows" in said(volume(9, modified=RowCount(99)), limits=Guardrails(engine_calls_per_day=3))


# --- For people -------------------------------------------------------------------------------------------------------

MANY = RowCount(30_000_000)
BUSY = RowCount(3_000_000, at_least=True)
PEOPLE = Volume(
    "contact", "profile", MANY, RowCount(5_000, at_least=True), BUSY, BUSY, passes_deletes=True, audited=200
)
LINES = replace(PEOPLE, table="new_orderline", resource="cusOrderLine", in_scope=MANY, passes_deletes=False)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


def shown(capsys: pytest.CaptureFixture[str], *volumes: Volume, other_calls: int = 0, limits: Guardrails) -> list[str]:
    print_parts(show(report(volumes, limits, {"insert": 7}, months=12, other_calls=other_calls, now=NOW)))
    return capsys.readouterr().out.splitlines()


def test_bounds_and_unknown_numbers_have_signs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, PEOPLE, LINES, limits=Guardrails())
    load, month = (line for line in lines if line.startswith("contact  "))
    assert " ".join(load.split()) == "contact 30,000,000 ≥ 5,000 ≤ 30,000,000 ≤ 1 ≤ 30,000,001"
    assert " ".join(month.split()) == "contact ≥ 3,000,000 ≥ 3,000,000 ? 6,000 ≥ 6,006,000"
    _, order = (line for line in lines if line.startswith("new_orderline  "))
    assert order.split()[-3] == "6,000"
    tables = lines[: lines.index("", lines.index("") + 1)]
    assert max(map(len, tables)) <= 80
    assert "this month so far: 7 (7 insert, 0 update, 0 delete, 0 read)" in lines


def test_other_sources_and_budgets_are_named_only_if_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert not [line for line in shown(capsys, PEOPLE, limits=Guardrails()) if "of other sources" in line]
    lines = shown(capsys, PEOPLE, other_calls=50, limits=Guardrails(engine_calls_per_day=10_000_000))
    assert "a month: 6,006,000 engine calls, 6,006,050 with 50 of other sources" in lines
    assert "first load: 30,000,001 engine calls, 4 days within the budgets" in lines


def test_no_number_is_cut_at_any_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shown(capsys, PEOPLE, LINES, limits=Guardrails())
    for width in (*range(40, 101), 120, 160, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = shown(capsys, PEOPLE, LINES, limits=Guardrails())
        for name in ("contact ", "in all "):
            assert [line.split() for line in lines if line.startswith(name)] == [
                line.split() for line in whole if line.startswith(name)
            ], width
