"""Findings of `doctor` that need no system: estimates, regions, the age of a position, the ledger's security."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_assets.checks import installation
from sync_assets.checks.dynamics import position
from sync_assets.checks.guardrails import INITIAL_RECORDS, a_day, first_load
from sync_assets.checks.installation import REGIONS, ledger_security
from sync_assets.ledger.model import Feed
from sync_assets.runtime.context import Runtime

THREADS = "sensors: {use_threads: true}"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "outcome", "message"),
    [
        (THREADS, "ok", "they run in threads"),
        ("sensors: {num_workers: 4}", "warn", THREADS[:-1]),
        ("telemetry: {enabled: false}", "warn", THREADS[:-1]),
        ("", "warn", THREADS[:-1]),
        ("[", "warn", "cannot be read (ParserError)"),
        (None, "ok", "there is no instance yet"),
    ],
)
def test_an_instance_whose_sensors_share_a_thread_is_named_with_the_line_that_is_missing(
    text: str | None, outcome: str, message: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "dagster.yaml").write_text(text)
    finding = installation.sensor_threads(tmp_path)
    assert (finding.outcome, message in finding.message) == (outcome, True), finding.message


def test_an_instance_that_ran_without_a_configuration_is_named_as_well(tmp_path: Path) -> None:
    (tmp_path / "schedules").mkdir()
    assert installation.sensor_threads(tmp_path).outcome == "warn"


# --- Estimates ------------------------------------------------------------------------------------------------------


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


# --- Regions --------------------------------------------------------------------------------------------------------


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
    "url",
    [None, "https://acme.crm.dynamics.com", "https://localhost:4711", "https://crm4.example.com", "https://crm4"],
)
def test_others_need_no_such_notice(url: str | None) -> None:
    assert region(url) == []


# --- The age of a position ------------------------------------------------------------------------------------------


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
