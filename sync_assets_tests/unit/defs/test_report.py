"""The daily report: which numbers it gathers from the ledger and from what runs noted, and how it reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from sync_assets.defs import report
from sync_assets.defs.asset_keys import REPORT
from sync_assets.defs.build import build_definitions
from sync_assets.defs.report import KEPT, collect, make_report, page, window
from sync_assets.defs.resources import systems
from sync_assets.defs.tables.asset_metadata import DAYS
from sync_assets.defs.tables.table_work import THIS_RUN
from sync_assets.ledger import Counts
from sync_assets.runtime.context import Runtime

PROFILE = dg.AssetKey(["campaign", "profile"])
CONFIG = {
    "privacy_acknowledged": True,
    "tables": [{"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}],
}


NOTHING: dict[str, float] = dict.fromkeys(
    (
        "captured", "pushed", "refusals", "opt_outs_to_d365", "opt_outs_to_campaign", "engine_calls_insert",
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


def latency(p50: float, p95: float, calls: int) -> dict[str, dg.MetadataValue]:
    """Return the metadata that a run reports, as far as the report reads it."""
    own = {"latency_p50_ms": p50, "latency_p95_ms": p95, "engine_calls": calls}
    return {THIS_RUN: dg.MetadataValue.json(own)}


def note(instance: dg.DagsterInstance, p50: float, p95: float, calls: int) -> None:
    metadata = latency(p50, p95, calls)
    instance.report_runless_asset_event(dg.AssetMaterialization(PROFILE, partition="2026-11-24", metadata=metadata))


def test_it_is_of_fourteen_days_the_last_of_which_is_today(now: datetime) -> None:
    days = window(now)
    assert len(days) == DAYS == 14
    assert days == sorted(days)
    assert days[-1] == now.date()


def test_it_adds_up_what_the_runs_of_a_day_did(runtime: Runtime, instance: dg.DagsterInstance, now: datetime) -> None:
    counted = runtime.ledger.runs.add_day_counts
    counted("contact", "d365", {"new": 5, "changed": 2, "unchanged": 100, "deleted": 1, "refused_by_mapping": 1})
    counted("contact", "d365", {"new": 1})
    for failed in (4, 0):
        counted("contact", "campaign", {"inserted": 3, "updated": 2, "deleted": 1, "failed": failed})
    note(instance, 40.0, 90.0, 10)
    note(instance, 900.0, 950.0, 1)
    runtime.ledger.claims.count_calls({("contact", "insert"): 9, ("contact", "read"): 2})
    today = collect(runtime, instance, now, {})[now.date()]
    assert {name: number for name, number in today.items() if number} == {
        "captured": 9,
        "pushed": 12,
        "refusals": 5,
        "engine_calls_insert": 9,
        "engine_calls_read": 2,
        "engine_calls": 11,
        "latency_p50_ms": 40.0,  # of ten calls, not of the single slow one
        "latency_p95_ms": 90.0,
    }


def test_of_a_run_that_notes_its_numbers_again_and_again_the_last_ones_count(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime
) -> None:
    @dg.asset(key=PROFILE)
    def profile(context):  # Dagster looks at types of its own
        context.log_event(dg.AssetMaterialization(PROFILE, metadata=latency(1.0, 1.0, 100)))
        return dg.MaterializeResult(metadata=latency(3.0, 4.0, 101))

    assert dg.materialize([profile], instance=instance).success
    assert collect(runtime, instance, now, {})[now.date()]["latency_p50_ms"] == 3.0


def test_more_events_than_are_read_at_once_are_all_counted(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "AT_ONCE", 3)
    for number in range(10):
        note(instance, 1.0 + number, 1.0, 1 if number else 100)
    assert collect(runtime, instance, now, {})[now.date()]["latency_p50_ms"] == 1.0


def test_latencies_of_days_that_the_last_report_had_whole_are_taken_from_it_and_the_others_computed_anew(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime
) -> None:
    note(instance, 7.0, 7.0, 1)
    days = window(now)
    values = {days[-3]: 30.0, days[-2]: 20.0, days[-1]: 1.0, days[0] - timedelta(days=1): 99.0}
    before: dict[str, Any] = {day.isoformat(): {"latency_p50_ms": value} for day, value in values.items()}
    before[days[-3].isoformat()]["waiting"] = 4
    found = collect(runtime, instance, now, before)
    assert [found[day].get("latency_p50_ms") for day in days[-4:]] == [None, 30.0, 20.0, 7.0]
    assert found[days[-3]]["waiting"] == 4
    assert list(found) == days


def test_materialised_twice_it_goes_on_from_the_first(runtime: Runtime, instance: dg.DagsterInstance) -> None:
    asset = next(one for one in build_definitions(runtime).assets or () if REPORT in one.keys)  # pyright: ignore
    assert isinstance(asset, dg.AssetsDefinition)
    runtime.ledger.runs.add_day_counts("contact", "d365", {"new": 7})
    found: list[Any] = []
    for _ in range(2):
        done = dg.materialize([asset], instance=instance, resources={**systems()})
        assert done.success
        [event] = done.asset_materializations_for_node("report__daily_sync")
        found.append(event.metadata[KEPT].value)
    assert found[0] == found[1]
    assert next(reversed(found[0].values())) == {"waiting": 0, "pending": 0}


def test_its_numbers_are_plotted_and_none_is_missing_without_a_single_run(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime
) -> None:
    numbers = {name: one for name, one in make_report(runtime, instance, now).items() if isinstance(one, int | float)}
    assert numbers == dict.fromkeys(
        (
            "captured_yesterday", "pushed_yesterday", "refusals_yesterday", "opt_outs_to_d365_yesterday",
            "opt_outs_to_campaign_yesterday", "engine_calls_insert_yesterday", "engine_calls_update_yesterday",
            "engine_calls_delete_yesterday", "engine_calls_read_yesterday", "engine_calls_yesterday", "pending_now",
            "waiting_now", "refused_now",
        ),
        0,
    )  # fmt: skip


def test_the_page_says_it_in_sentences_and_tables(tmp_path: Path, now: datetime) -> None:
    opt_out = {"direction": "bidirectional", "mappings": {"donotemail": "blackListEmail"}}
    runtime = runtime_of(tmp_path, guardrails={"engine_calls_per_day": 2000}, opt_out=opt_out)
    days = dict.fromkeys(window(now), NOTHING)
    yesterday = now.date() - timedelta(days=1)
    days[yesterday] = NOTHING | {
        "captured": 1200, "pushed": 1100, "refusals": 3, "waiting": 7, "opt_outs_to_d365": 12,
        "opt_outs_to_campaign": 5, "engine_calls_insert": 900, "engine_calls_update": 200, "engine_calls": 1100,
        "latency_p50_ms": 41.6, "latency_p95_ms": 88.2,
    }  # fmt: skip
    text = page(runtime.config, days, {"contact": Counts(synced=5000, failed=3)}, now)
    assert (
        "**Yesterday:** 1,200 changes captured, 1,100 records pushed, 3 refused, 12 opt-outs written to Dynamics 365 "
        "and 5 to Campaign, 1,100 engine calls of 2,000 (55%)." in text
    )
    assert f"| {yesterday} | 1,200 | 1,100 | 3 | 7 | 12 | 5 | 42 | 88 | 900 | 200 | 0 | 0 | 1,100 | 55% |" in text
    assert "| contact | profile | 5,000 | 0 | 0 | 3 | 0 |" in text


def test_without_opt_outs_and_budget_the_page_says_nothing_of_them(runtime: Runtime, now: datetime) -> None:
    text = page(runtime.config, dict.fromkeys(window(now), NOTHING), {}, now)
    assert "opt-out" not in text.casefold()
    assert "budget" not in text
