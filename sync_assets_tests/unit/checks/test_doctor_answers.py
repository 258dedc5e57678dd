"""Findings of `doctor` that need no system: estimates, regions, the age of a position, the ledger's security."""

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.checks import installation
from sync_assets.checks.dynamics import position
from sync_assets.checks.installation import REGIONS, ledger_security
from sync_assets.checks.volume import INITIAL_RECORDS, a_day, first_load
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


def test_the_first_load_is_a_call_for_each_row_that_campaign_does_not_hold() -> None:
    line = first_load({"contact": 1000, "new_order": 500}, {"contact": 200}, None)
    assert line.outcome == "ok"
    assert line.message == (
        "at most 1,300 engine calls (contact 800, new_order 500), one for each row that is not synced"
    )


@pytest.mark.parametrize(("per_day", "days"), [(1000, "1 day"), (999, "2 days"), (100, "10 days")])
def test_a_budget_says_how_many_days_the_first_load_takes(per_day: int, days: str) -> None:
    line = first_load({"contact": 1000}, {}, per_day)
    assert line.message.endswith(f"at {per_day:,} calls a day (engine_calls_per_day) that takes {days}")


def test_an_initial_sync_beyond_what_campaign_takes_is_a_warning_with_a_way_out() -> None:
    assert first_load({"contact": INITIAL_RECORDS}, {}, None).outcome == "ok"
    line = first_load({"contact": INITIAL_RECORDS, "new_order": 1}, {}, None)
    assert line.outcome == "warn"
    assert "narrow it with `filters`" in line.message


def test_what_dynamics_does_not_count_is_said_and_never_guessed() -> None:
    line = first_load({"contact": 10, "new_order": None}, {}, None)
    assert "at most 10 engine calls (contact 10)" in line.message
    assert line.message.endswith("Dynamics 365 gives no count for new_order")
    assert first_load({"contact": None}, {}, None).message == "not known; Dynamics 365 gives no count for contact"


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.none() | st.integers(0, 10**8)),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 10**8)),
)
def test_nothing_is_left_once_all_is_synced(rows: Mapping[str, int | None], synced: Mapping[str, int]) -> None:
    missing = any(number is not None and number > synced.get(table, 0) for table, number in rows.items())
    assert first_load(rows, synced, None).message.startswith("at most") == missing


def test_a_day_beyond_the_budget_is_a_warning() -> None:
    assert a_day({"contact": 60, "new_order": 40}, [], 100).outcome == "ok"
    line = a_day({"contact": 60, "new_order": 41}, [], 100)
    assert line.outcome == "warn"
    assert "about 101, for rows that were modified in the last 24 hours (contact 60, new_order 41)" in line.message
    assert "the backlog grows. Raise it" in line.message


def test_a_count_that_was_cut_is_a_lower_limit() -> None:
    line = a_day({"contact": 5000}, ["contact"], None)
    assert line.message.startswith("at least 5,000")
    assert "more were modified of contact" in line.message


# --- Regions --------------------------------------------------------------------------------------------------------


def region(url: str | None) -> list[str]:
    return [line.message for line in installation.region(url)]


@pytest.mark.parametrize("part", REGIONS)
def test_customers_of_emea_and_apac_are_told_where_their_data_is_processed(part: str) -> None:
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
    return Feed("contact", "https://…", "delta", "f", True, 1, 1, False, moment, moment)


@pytest.mark.parametrize(
    ("days", "outcome", "says"),
    [
        (-0.1, "ok", "last polled 0.0 days ago"),  # by a machine whose clock is ahead
        (3.4, "ok", "last polled 3.4 days ago, valid for 7 days"),
        (3.6, "warn", "it expires without a sync. Run `sync-assets sync`"),
        (7.1, "warn", "it has expired, so the next sync reads the table in full"),
    ],
)
def test_a_position_older_than_half_the_window_is_a_warning(days: float, outcome: str, says: str) -> None:
    [line] = position(feed(timedelta(days=days)), 7, NOW)
    assert (line.outcome, says in line.message) == (outcome, True), line


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
