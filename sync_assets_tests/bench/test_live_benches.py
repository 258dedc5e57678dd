"""That the benchmarks of a running system measure what they claim to, on numbers too small to say anything about speed.

One `dagster dev` serves all of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from sync_assets.commands.demo import CONFIG
from sync_assets_tests.bench.__main__ import rates
from sync_assets_tests.bench.disturbances import DISTURBANCES
from sync_assets_tests.bench.history import history
from sync_assets_tests.bench.latency import latency
from sync_assets_tests.bench.live import Live, System, live
from sync_assets_tests.bench.load import load
from sync_assets_tests.bench.processes import by_role, processor_seconds
from sync_assets_tests.bench.soak import soak, verdicts
from sync_assets_tests.bench.stage import Settings
from sync_assets_tests.bench.test_bench import sane
from sync_assets_tests.bench.traffic import TABLES, Traffic
from sync_assets_tests.bench.trend import trend
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.signed_in import campaign, dataverse
from sync_assets_tests.support.waiting import until

QUICK = Settings(minutes=0.1, linger=1.0)


@pytest.fixture(scope="module")
def shared() -> Iterator[Live]:
    with live(50, {"linger_seconds": 1.0}, CONFIG) as running:
        yield running


@pytest.fixture
def system(shared: Live) -> System:
    """One `dagster dev` for all benchmarks, whatever settings they ask for."""
    if not shared.started:
        shared.start()
    return lambda *_, **__: nullcontext(shared)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (replace(QUICK, changes=1), 1),
        (replace(QUICK, every=2.0), 3),
        (replace(QUICK, changes=2, silence=True), 2),
    ],
    ids=["at odd moments", "at a pace", "after silences"],
)
def test_changes_are_followed_into_campaign(settings: Settings, changes: int, system: System) -> None:
    report = latency(settings, system)
    sane(report)
    told = report.results[0].told
    assert told["changes"] == changes
    assert 0 < told["median_seconds"] < 60
    assert told["runs_meanwhile"] >= 1
    assert 1 <= told["rows_sent"] <= changes


@pytest.mark.slow
def test_what_changes_add_to_the_history_is_counted(system: System) -> None:
    report = history(replace(QUICK, every=2.0), system)
    sane(report)
    told = report.results[0].told
    assert told["runs"] >= 1
    assert told["event_rows"] > told["check_rows"] > 0
    assert told["bytes"] > 100_000
    assert report.notes


@pytest.mark.slow
def test_a_soak_shows_each_series_with_its_growth_and_ends_in_step(system: System, tmp_path: Path) -> None:
    report = soak(replace(QUICK, plot=tmp_path / "soak.svg"), system)
    sane(report)
    samples, growth = report.tables.values()
    assert len(samples) == 12
    assert {sample["event"] for sample in samples} == set(DISTURBANCES)
    assert all(sample[f"{role} MB"] > 10 for sample in samples for role in ("daemon", "code server", "web server"))
    assert {row["series"] for row in growth} >= {"daemon MB", "runs MB", "daemon files", "dagster MB", "ledger MB"}
    assert all(target.met for target in report.targets)
    assert (tmp_path / "soak.svg").read_text().count("<polyline") == len(growth)


@pytest.mark.slow
def test_each_rate_is_measured_and_beside_it_dlt_each_minute(system: System) -> None:
    report = load(replace(QUICK, rates=(5.0, 20.0)), system)
    sane(report)
    [rows] = report.tables.values()
    assert [(row["by"], row["rate"]) for row in rows] == [
        ("sync_assets", 5.0), ("sync_assets", 20.0), ("dlt each 3 s", 5.0), ("dlt each 3 s", 20.0)
    ]  # fmt: skip
    for row in rows:
        assert row["changes"] == row["rate"] * 6
        assert 0 < row["median_s"] <= row["p95_s"] <= row["p99_s"] < 60
        assert row["lost"] == row["differing"] == 0
    assert all(row["needless"] == 0 for row in rows[:2])
    assert all(row["sandbox_alone"] > 20 for row in rows[:2])


@pytest.fixture
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(1) as process:
        yield process


def test_a_change_counts_with_the_first_call_that_was_sent_after_its_table_had_been_read(
    sandbox: SandboxProcess,
) -> None:
    [contact] = sandbox.admin.change("contact", 1, jobtitle="before")
    sandbox.admin.add_profiles({"externalId": contact})
    records = {"contact": [contact], "new_order": [], "new_orderline": []}
    with dataverse(sandbox.env) as d365, campaign(sandbox.env) as adobe:

        def send() -> None:
            sent = adobe.patch(f"/profileAndServicesExt/profile/{contact}", json={"cusJobTitle": "a title"})
            assert sent.is_success

        traffic = Traffic(sandbox.admin, records)
        traffic.make(1)
        send()  # of what was read before
        traffic.look()
        assert (traffic.outstanding, traffic.calls, traffic.needless) == (1, 1, 1)
        for _ in TABLES:  # once more for the contact; the other tables have no rows
            traffic.make(1)
        assert d365.get("/contacts?$select=jobtitle").is_success
        send()
        assert traffic.catch_up() < 60
        assert (traffic.outstanding, traffic.made, traffic.calls, traffic.needless) == (0, 2, 2, 1)
        assert traffic.seconds[0] > traffic.seconds[1] > 0
        assert traffic.differing() == 1  # the title that was sent is not the row's


def test_processes_are_counted_by_their_role_with_what_they_use() -> None:
    daemon = "[sys.executable, '-c', 'import sys; sys.stdin.read()', 'dagster.' + '_daemon']"
    sleeper = f"import subprocess, sys; subprocess.Popen({daemon}).wait()"
    with subprocess.Popen([sys.executable, "-c", sleeper], stdin=subprocess.PIPE) as leader:
        until(lambda: by_role(leader.pid)["daemon"].processes == 1)
        use = by_role(leader.pid)
        assert use["daemon"].rss > 1_000_000
        assert use["daemon"].files >= 3
        assert (use["other"].processes, use["runs"].processes) == (1, 0)
        assert processor_seconds(leader.pid) > 0


def test_a_series_grows_only_if_its_slope_is_beyond_its_bound() -> None:
    rising = [(x, 3 * x + (-1) ** x) for x in range(20)]
    level = [(x, 100 + (-1) ** x) for x in range(20)]
    assert trend(rising).slope == pytest.approx(3, abs=0.1)
    assert (trend(rising).verdict(1), trend(level).verdict(1)) == ("grows", "does not grow")
    assert trend(rising[:6]).verdict(3) == "undecided"
    assert trend(rising[:4]).verdict(1) == "undecided"


@pytest.mark.parametrize(
    ("minutes", "full", "verdict"),
    [(120, 50, "does not grow"), (120, 1000, "grows"), (20, 1000, "undecided")],
    ids=["full in the first half", "all the time", "too short to tell"],
)
def test_growth_is_that_of_the_second_half_in_an_hour(minutes: int, full: int, verdict: str) -> None:
    samples = [
        {"minute": minute, "event": "", "MB": min(minute, full) + 100, "outstanding": 9} for minute in range(minutes)
    ]
    [row] = verdicts(samples)
    assert (row["series"], row["first"], row["last"]) == ("MB", 100, 100 + min(minutes - 1, full))
    assert (row["growth_an_hour"], row["verdict"]) == (0 if verdict == "does not grow" else 60, verdict)


def test_rates_are_a_list() -> None:
    assert rates("1,10,0.5") == (1.0, 10.0, 0.5)
