"""Findings of `doctor` that need no system: estimates, regions, the age of a position, the ledger's security."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_assets.checks import installation
from sync_assets.checks.dynamics import position
from sync_assets.checks.guardrails import INITIAL_RECORDS, a_day, first_load
from sync_assets.checks.installation import REGIONS, ledger_security
from sync_assets.checks.rules import Finding
from sync_assets.ledger.feed import Feed
from sync_assets.runtime.context import Runtime

PROJECT = Path(installation.__file__).parents[2]
SHIPPED = ("dagster.yaml", "sync_assets/cli/dagster.yaml", "deploy/dagster.yaml", "deploy/compose/dagster.yaml")
THREADS = "sensors: {use_threads: true}"
RETENTION = "retention: {sensor: {purge_after_days: {skipped: 1, success: 7, failure: 30}}}"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def instance_findings(folder: Path, text: str | None) -> dict[str, Finding]:
    if text is not None:
        (folder / "dagster.yaml").write_text(text)
    return {finding.title: finding for finding in installation.dagster_instance(folder)}


@pytest.mark.parametrize("text", ["sensors: {num_workers: 4}", "telemetry: {enabled: false}", "sensors: 4", "", None])
def test_an_instance_whose_sensors_share_a_thread_or_keep_their_ticks_is_named_with_the_missing_lines(
    text: str | None, tmp_path: Path
) -> None:
    (tmp_path / "schedules").mkdir()  # as of an instance that ran, if without a configuration
    of_sensors, of_ticks, of_slots = instance_findings(tmp_path, text).values()
    assert (of_sensors.outcome, f"`{THREADS[:-1]}, num_workers: 4}}`" in of_sensors.message) == ("warn", True)
    assert (of_ticks.outcome, f"`{RETENTION}`" in of_ticks.message) == ("warn", True)
    assert (of_slots.outcome, of_slots.message) == ("ok", "10 runs at a time")  # Dagster's own number
    written = instance_findings(tmp_path, f"{THREADS}\n{RETENTION}\n")
    assert [one.outcome for one in written.values()] == ["ok"] * 3


@pytest.mark.parametrize(("text", "outcome"), [("[", "warn"), (None, "ok")])
def test_an_instance_that_cannot_be_read_or_is_not_there_has_one_finding(
    text: str | None, outcome: str, tmp_path: Path
) -> None:
    [finding] = instance_findings(tmp_path, text).values()
    assert finding.outcome == outcome
    assert ("there is none yet" if text is None else "cannot be read (ParserError)") in finding.message


@pytest.mark.parametrize(
    ("days", "outcome"),
    [
        ("7", "ok"),
        ("{success: 7}", "ok"),
        ("-1", "warn"),
        ("{skipped: 1}", "warn"),
        ("{skipped: -1, success: 7}", "warn"),
    ],
)
def test_ticks_are_deleted_if_neither_skipped_nor_successful_ones_are_kept_for_ever(
    days: str, outcome: str, tmp_path: Path
) -> None:
    found = instance_findings(tmp_path, f"retention: {{sensor: {{purge_after_days: {days}}}}}")
    assert found["ticks in the Dagster instance"].outcome == outcome


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("key", ["concurrency.runs", "run_queue", "run_coordinator.config"])
def test_fewer_than_three_slots_of_the_queue_are_named_with_the_key_that_limits_them(
    key: str, limit: int, tmp_path: Path
) -> None:
    text = f"max_concurrent_runs: {limit}"
    for name in reversed(key.split(".")):
        text = f"{name}: {{{text}}}"
    finding = instance_findings(tmp_path, text)["slots of the run queue"]
    assert finding.outcome == ("warn" if 0 <= limit < 3 else "ok")
    assert (f"Set `{key}.max_concurrent_runs` to 3 or more" in finding.message) == (finding.outcome == "warn")


def test_the_configurations_of_instances_that_we_ship_have_no_finding(tmp_path: Path) -> None:
    for file in (PROJECT / name for name in SHIPPED):
        assert {one.outcome for one in instance_findings(tmp_path, file.read_text("utf-8")).values()} == {"ok"}, file


@pytest.mark.parametrize(
    ("calls", "outcome", "message"),
    [
        (INITIAL_RECORDS, "ok", "about 15,000,000 engine calls"),
        (INITIAL_RECORDS + 1, "warn", "narrow it with `filters`"),
    ],
)
def test_an_initial_sync_beyond_what_campaign_takes_is_a_warning_with_a_way_out(
    calls: int, outcome: str, message: str
) -> None:
    line = first_load(calls)
    assert (line.outcome, message in line.message) == (outcome, True), line


@pytest.mark.parametrize(
    ("calls", "per_day", "outcome", "message"),
    [
        (100, None, "ok", "engine_calls_per_day is not set"),
        (100, 100, "ok", "at least 100, for rows that were modified in the last 24 hours"),
        (101, 100, "warn", "the backlog grows. Raise it"),
    ],
)
def test_a_day_beyond_the_budget_is_a_warning(calls: int, per_day: int | None, outcome: str, message: str) -> None:
    line = a_day(calls, per_day, at_least=True)
    assert (line.outcome, message in line.message) == (outcome, True), line


def region(url: str | None) -> list[str]:
    return [line.message for line in installation.region(url)]


@pytest.mark.parametrize("part", REGIONS)
def test_customers_of_emea_and_apac_read_where_their_data_is_processed(part: str) -> None:
    for url in (f"https://acme.{part}.dynamics.com", f"https://acme.api.{part}.dynamics.com"):
        [notice] = region(url)
        assert notice.startswith(
            f"Dynamics 365 is hosted in {REGIONS[part]}. Data is processed where this program runs"
        )


@pytest.mark.parametrize(
    "url", [None, "https://acme.crm.dynamics.com", "https://localhost:4711", "https://crm4.example.com", "https://crm4"]
)
def test_others_need_no_such_notice(url: str | None) -> None:
    assert region(url) == []


def feed(age: timedelta) -> Feed:
    moment = NOW - age
    return Feed("contact", "https://…", "f", True, 1, False, moment, moment)


@pytest.mark.parametrize(
    ("days", "outcome", "expected"),
    [
        (-0.1, "ok", "last polled 0.0 days ago"),  # by a machine whose clock is ahead
        (3.4, "ok", "last polled 3.4 days ago, valid for 7 days"),
        (3.6, "warn", "it expires without a sync. Run `sync-assets sync`"),
        (7.1, "warn", "it has expired, so the next sync reads the table in full"),
    ],
)
def test_a_position_older_than_half_the_window_is_a_warning(days: float, outcome: str, expected: str) -> None:
    [line] = position(feed(timedelta(days=days)), 7, NOW)
    assert (line.outcome, expected in line.message) == (outcome, True), line


def test_no_position_or_no_window_is_no_question() -> None:
    assert position(None, 7, NOW) == []
    assert position(feed(timedelta(days=3)), None, NOW) == []


ELSEWHERE = "postgresql+psycopg://u:hunter2@ledger.acme.example/l"


@pytest.mark.parametrize(("url", "outcome"), [(ELSEWHERE, "ok"), (f"{ELSEWHERE}?sslmode=require", "warn")])
def test_a_ledger_whose_server_is_not_verified_is_a_warning_with_the_setting(url: str, outcome: str) -> None:
    with closing(Runtime({"SYNC_ASSETS_LEDGER_URL": url})) as runtime:
        payloads, connection = ledger_security(runtime)
    assert connection.outcome == outcome
    assert ("write sslmode=verify-full" in connection.message) == (outcome == "warn")
    assert payloads.outcome == "warn"
    assert "hunter2" not in f"{payloads} {connection}"
