"""The daily report: which numbers it gathers from the ledger and from what runs noted, and how it reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from sync_assets.definitions import build_definitions
from sync_assets.defs.report import days as days_module
from sync_assets.defs.report.assets import KEPT, REPORT, make_report
from sync_assets.defs.report.days import Day, collect, kept, restored, window
from sync_assets.defs.report.page import page
from sync_assets.defs.resources import systems
from sync_assets.defs.tables.asset_metadata import DAYS
from sync_assets.ledger import Counts
from sync_assets.runtime.context import Runtime

CONTACT, PROFILE = dg.AssetKey(["d365", "contact"]), dg.AssetKey(["campaign", "profile"])
CONFIG = {
    "privacy_acknowledged": True,
    "tables": [{"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}],
}
PUSHED = {"inserted": 3, "updated": 2, "deleted": 1, "failed": 4, "engine_calls": 10}


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


def note(instance: dg.DagsterInstance, key: dg.AssetKey, **numbers: float) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2026-11-24", metadata=numbers))


def test_it_is_of_fourteen_days_the_last_of_which_is_today(now: datetime) -> None:
    days = window(now)
    assert len(days) == DAYS == 14
    assert days == sorted(days)
    assert days[-1] == now.date()


def test_it_adds_up_what_the_runs_of_a_day_noted(runtime: Runtime, instance: dg.DagsterInstance, now: datetime) -> None:
    note(instance, CONTACT, new=5, changed=2, unchanged=100, deleted=1, refused_by_mapping=1)
    note(instance, CONTACT, new=1, changed=0, unchanged=0, deleted=0, refused_by_mapping=0)
    note(instance, CONTACT, **{"dagster/partition_row_count": 6})
    note(instance, PROFILE, **PUSHED, latency_p50_ms=40.0, latency_p95_ms=90.0)
    note(instance, PROFILE, **{**PUSHED, "failed": 0, "engine_calls": 1}, latency_p50_ms=900.0, latency_p95_ms=950.0)
    runtime.ledger.count_calls({("contact", "insert"): 9, ("contact", "read"): 2})
    today = collect(runtime, instance, now, {})[now.date()]
    assert today == Day(
        captured=9,
        pushed=12,
        refused=5,
        waiting=0,
        pending=0,
        calls={"insert": 9, "read": 2},
        latency_p50=40.0,  # of ten calls, not of the single slow one
        latency_p95=90.0,
    )


def test_of_a_run_that_notes_its_numbers_again_and_again_the_last_ones_count(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime
) -> None:
    @dg.asset(key=CONTACT)
    def contact(context):  # Dagster looks at types of its own
        for number in (1, 2):
            context.log_event(dg.AssetMaterialization(CONTACT, metadata={"new": number, "changed": 10 * number}))
        return dg.MaterializeResult(metadata={"new": 3, "changed": 30})

    for _ in range(2):
        assert dg.materialize([contact], instance=instance).success
    assert collect(runtime, instance, now, {})[now.date()].captured == 2 * 33


def test_more_events_than_are_read_at_once_are_all_counted(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days_module, "AT_ONCE", 3)
    for _ in range(10):
        note(instance, CONTACT, new=1, changed=1)
    assert collect(runtime, instance, now, {})[now.date()].captured == 20


def test_days_that_the_last_report_had_whole_are_taken_from_it_and_the_others_counted_anew(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime
) -> None:
    """A report that is made twice a day counts nothing twice, and one after a pause of days misses none."""
    note(instance, CONTACT, new=7, changed=0)
    days = window(now)
    before = {days[-3]: Day(captured=30, waiting=4), days[-2]: Day(captured=20), days[-1]: Day(captured=10)}
    before[days[0] - timedelta(days=1)] = Day(captured=99)
    found = collect(runtime, instance, now, kept(before))
    assert [found[day].captured for day in days[-4:]] == [0, 30, 20, 7]
    assert found[days[-3]].waiting == 4
    assert list(found) == days


def test_what_a_report_keeps_comes_back_and_what_another_version_kept_does_no_harm() -> None:
    days = {date(2026, 11, 24): Day(captured=1, calls={"insert": 2}, latency_p50=3.5)}
    assert restored(kept(days)) == days
    assert restored({"2026-11-24": {"captured": 1, "of_a_later_version": 2}}) == {date(2026, 11, 24): Day(captured=1)}


def test_materialised_twice_it_goes_on_from_the_first(runtime: Runtime, instance: dg.DagsterInstance) -> None:
    asset = next(one for one in build_definitions(runtime).assets or () if REPORT in one.keys)  # pyright: ignore
    assert isinstance(asset, dg.AssetsDefinition)
    note(instance, CONTACT, new=7, changed=0)
    found: list[Any] = []
    for _ in range(2):
        done = dg.materialize([asset], instance=instance, resources={**systems()})
        assert done.success
        [event] = done.asset_materializations_for_node("report__daily_sync")
        found.append(event.metadata[KEPT].value)
    assert found[0] == found[1]
    assert next(reversed(found[0].values()))["captured"] == 7


def test_its_numbers_are_plotted_and_none_is_missing_without_a_single_run(
    runtime: Runtime, instance: dg.DagsterInstance, now: datetime
) -> None:
    numbers = {name: one for name, one in make_report(runtime, instance, now).items() if isinstance(one, int | float)}
    assert numbers == dict.fromkeys(
        (
            "captured_yesterday", "pushed_yesterday", "refusals_yesterday", "opt_outs_to_d365_yesterday",
            "opt_outs_to_campaign_yesterday", "engine_calls_yesterday", "pending_now", "waiting_now", "refused_now",
        ),
        0,
    )  # fmt: skip


def test_the_page_says_it_in_sentences_pictures_and_tables(tmp_path: Path, now: datetime) -> None:
    opt_out = {"direction": "bidirectional", "mappings": {"donotemail": "blackListEmail"}}
    runtime = runtime_of(tmp_path, guardrails={"engine_calls_per_day": 2000}, opt_out=opt_out)
    days = {day: Day() for day in window(now)}
    yesterday = now.date() - timedelta(days=1)
    days[yesterday] = Day(1200, 1100, 3, 7, 0, 12, 5, {"insert": 900, "update": 200}, 41.6, 88.2)
    text = page(runtime.config, days, {"contact": Counts(synced=5000, failed=3)}, now)
    assert (
        "**Yesterday:** 1,200 changes captured, 1,100 records pushed, 3 refused, 12 opt-outs written to Dynamics 365 "
        "and 5 to Campaign, 1,100 engine calls of 2,000 (55%)." in text
    )
    assert f"| {yesterday} | 1,200 | 1,100 | 3 | 7 | 12 | 5 | 42 | 88 | 900 | 200 | 0 | 0 | 1,100 | 55% |" in text
    assert "| contact | profile | 5,000 | 0 | 0 | 3 | 0 |" in text
    assert text.count("](data:image/svg+xml;base64,") == 6


def test_without_opt_outs_and_budget_the_page_says_nothing_of_them(runtime: Runtime, now: datetime) -> None:
    text = page(runtime.config, {day: Day() for day in window(now)}, {}, now)
    assert "opt-out" not in text.casefold()
    assert "budget" not in text
    assert text.count("](data:image/svg+xml;base64,") == 5


def test_a_page_is_small_enough_to_be_kept_with_every_report(runtime: Runtime, now: datetime) -> None:
    busy = Day(
        10**7, 10**7, 10**5, 10**5, 10**5, 10**4, 10**4, dict.fromkeys(("insert", "update", "delete", "read"), 10**6)
    )
    text = page(runtime.config, dict.fromkeys(window(now), busy), {}, now)
    assert len(text) < 60_000
