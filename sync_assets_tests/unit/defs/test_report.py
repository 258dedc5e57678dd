"""The daily report: which numbers it gathers from the ledger, and how it reads."""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from sync_assets.audit import daily_report
from sync_assets.audit.audit_result import AuditResult, SomeRecords
from sync_assets.audit.daily_report import DAYS, collect, page, sections_now, speed, window, within
from sync_assets.defs.asset_keys import REPORT
from sync_assets.defs.build import build_definitions
from sync_assets.defs.report import DAYS_KEY, make_report
from sync_assets.defs.resources import systems
from sync_assets.ledger.report_values import Counts
from sync_assets.ledger.repositories.reports import Reports
from sync_assets.runtime.context import Runtime

CONFIG = {
    "privacy_acknowledged": True,
    "tables": [{"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}],
}


NOTHING: dict[str, float] = dict.fromkeys(
    (
        "captured", "pushed", "rejected", "opt_outs_to_d365", "opt_outs_to_campaign", "engine_calls_insert",
        "engine_calls_update", "engine_calls_delete", "engine_calls_read", "engine_calls",
    ),
    0,
)  # fmt: skip
"""The numbers of a day on which nothing happened."""


@pytest.fixture
def now() -> datetime:
    """Noted events bear the time of the test, so the report is of now."""
    return datetime.now(UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def runtime_of(folder: Path, **more: Any) -> Runtime:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIG | more))
    return Runtime({"SYNC_ASSETS_CONFIG": str(file), "DAGSTER_HOME": str(folder)})


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    made = runtime_of(tmp_path)
    yield made
    made.close()


def test_it_is_of_fourteen_days_the_last_of_which_is_today(now: datetime) -> None:
    days = window(now)
    assert len(days) == DAYS == 14
    assert days == sorted(days)
    assert days[-1] == now.date()


def test_it_adds_up_the_numbers_of_a_days_runs(runtime: Runtime, now: datetime) -> None:
    counted = runtime.ledger.counts.add
    counted("d365", "contact", {"new": 5, "changed": 2, "unchanged": 100, "deleted": 1, "validation_errors": 1})
    counted("d365", "contact", {"new": 1})
    for failed in (4, 0):
        counted("campaign", "contact", {"inserted": 3, "updated": 2, "deleted": 1, "rejected": failed})
    for p50, p95, calls in (("40", "90", 10), ("900", "950", 1), ("1.5e+03", "2e+03", 1)):
        counted("campaign", "contact", {f"latency_p50_ms/{p50}": calls, f"latency_p95_ms/{p95}": calls})
    runtime.ledger.counts.add("engine_calls", "contact", {"insert": 9, "read": 2})
    today = collect(runtime.ledger, now, {})[now.date()]
    assert {name: number for name, number in today.items() if number} == {
        "captured": 9,
        "pushed": 12,
        "rejected": 5,
        "engine_calls_insert": 9,
        "engine_calls_read": 2,
        "engine_calls": 11,
        "latency_p50_ms": 40.0,  # of ten calls, not of the slow ones
        "latency_p95_ms": 90.0,
    }


def test_states_at_the_end_of_a_day_are_taken_from_the_last_report(runtime: Runtime, now: datetime) -> None:
    days = window(now)
    before = {str(days[-3]): {"waiting": 4}, str(days[-1]): {"waiting": 9}, str(days[0] - timedelta(days=1)): {}}
    result = collect(runtime.ledger, now, before)
    assert [result[day].get("waiting") for day in days[-3:]] == [4, None, 0]
    assert list(result) == days


def test_materialised_twice_it_goes_on_from_the_first(runtime: Runtime, instance: dg.DagsterInstance) -> None:
    asset = next(one for one in build_definitions(runtime).assets or () if REPORT in one.keys)  # pyright: ignore
    assert isinstance(asset, dg.AssetsDefinition)
    runtime.ledger.counts.add("d365", "contact", {"new": 7})
    result: list[Any] = []
    for _ in range(2):
        done = dg.materialize([asset], instance=instance, resources={**systems({})})
        assert done.success
        [event] = done.asset_materializations_for_node("report__daily_sync")
        result.append(event.metadata[DAYS_KEY].value)
    assert result[0] == result[1]
    assert next(reversed(result[0].values())) == {"waiting": 0, "pending": 0}


def test_its_numbers_are_plotted_and_none_is_missing_without_a_single_run(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime
) -> None:
    report = make_report(runtime, runtime.ledger, instance, now)
    numbers = {name: one for name, one in report.items() if isinstance(one, int | float)}
    assert numbers == dict.fromkeys(
        (
            "captured_yesterday", "pushed_yesterday", "rejected_yesterday", "opt_outs_to_d365_yesterday",
            "opt_outs_to_campaign_yesterday", "engine_calls_insert_yesterday", "engine_calls_update_yesterday",
            "engine_calls_delete_yesterday", "engine_calls_read_yesterday", "engine_calls_yesterday", "pending_now",
            "waiting_now", "rejected_now",
        ),
        0,
    )  # fmt: skip


def test_the_page_has_sentences_and_tables(tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    opt_out = {"direction": "bidirectional", "mappings": {"donotemail": "blackListEmail"}}
    runtime = runtime_of(tmp_path, guardrails={"engine_calls_per_day": 2000}, opt_out=opt_out)
    days = dict.fromkeys(window(now), NOTHING)
    yesterday = now.date() - timedelta(days=1)
    days[yesterday] = NOTHING | {
        "captured": 1200, "pushed": 1100, "rejected": 3, "waiting": 7, "opt_outs_to_d365": 12,
        "opt_outs_to_campaign": 5, "engine_calls_insert": 900, "engine_calls_update": 200, "engine_calls": 1100,
        "latency_p50_ms": 41.6, "latency_p95_ms": 88.2,
    }  # fmt: skip
    counts = {"contact": Counts(synced=5000, rejected=3)}
    reasons = {"contact": [("a | b <b>[x](https://x.example)", 3)]}
    monkeypatch.setattr(Reports, "reject_reasons", lambda _, table: reasons[table])
    audit = AuditResult(
        began_at="2026-12-01T05:00:00Z", done=True, equal=9, differing=2, missing=SomeRecords(1, ["id"])
    )
    monkeypatch.setattr(daily_report, "last_result", lambda *_: audit)
    text = page(runtime.config, days, sections_now(runtime.config, runtime.ledger, counts), now)
    assert (
        "**Yesterday:** 1,200 changes captured, 1,100 records pushed, 3 rejected, 12 opt-outs written to Dynamics 365 "
        "and 5 to Campaign, 1,100 engine calls of 2,000 (55%)." in text
    )
    assert f"| {yesterday} | 1,200 | 1,100 | 3 | 7 | 12 | 5 | 42 | 88 | 900 | 200 | 0 | 0 | 1,100 | 55% |" in text
    assert "| contact | profile | 0 | 0 | 3 | 0 | 0 | 5,000 |" in text
    assert "| contact | 2026-12-01 | 100% listed | 0 | 2 | 1 | 0 | 9 |" in text
    shown = text.replace("\u200b", "")
    assert r"| contact | a \| b <b>[x](https://x.example) | 3 |" in shown
    assert not re.search(r"<b|\]\(|https:/", text), "a reason is no markup"


def test_without_opt_outs_and_budget_the_page_has_no_such_lines(runtime: Runtime, now: datetime) -> None:
    sections = [speed(runtime.ledger, now), *sections_now(runtime.config, runtime.ledger, defaultdict(Counts))]
    text = page(runtime.config, dict.fromkeys(window(now), NOTHING), sections, now)
    assert "opt-out" not in text.casefold()
    assert "budget" not in text


@pytest.mark.parametrize(
    ("buckets", "columns", "most", "half"),
    [
        ({}, None, "–", "–"),
        ({"sum": 0}, None, "–", "–"),
        ({"1": 1}, [1, 0, 0, 0, 0], "1 s", "1 s"),
        ({"10": 95, "30": 4, "60": 1}, [95, 5, 0, 0, 0], "10 s", "10 s"),
        ({"10": 94, "30": 5, "300": 1, "sum": 4711}, [94, 5, 1, 0, 0], "30 s", "10 s"),
        ({"60": 1, "900": 8, "21600": 1, "86400": 1}, [0, 1, 0, 8, 2], "24 h", "15 min"),
        ({"3600": 1, "inf": 1}, [0, 0, 0, 1, 1], "more than 24 h", "1 h"),
    ],
)
def test_the_time_to_campaign_is_that_of_the_bucket_in_which_the_share_is_reached(
    runtime: Runtime, now: datetime, buckets: dict[str, int], columns: list[int] | None, most: str, half: str
) -> None:
    runtime.ledger.counts.add("seconds", "contact", buckets)
    rows = speed(runtime.ledger, now).rows.rows
    assert rows == ([(str(now.date()), *columns, most)] if columns else [])
    assert (within(buckets, 0.95), within(buckets, 0.5)) == (most, half)
