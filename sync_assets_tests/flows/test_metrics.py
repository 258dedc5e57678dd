"""`metrics`, as Prometheus reads them, in each phase of an installation; and which shipped alarms these raise."""

import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from sync_assets_tests.support.loads import by_file
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.prometheus import assert_firing, samples, value


def scrape(program: Program) -> str:
    status, output, errors = program.run("metrics", "--once")
    assert status == 0, errors
    return output


def later(program: Program, minutes: int) -> None:
    """Let what the ledger holds have happened so many minutes earlier."""
    runtime, micros = program.runtime(), minutes * 60_000_000
    for statement in (
        f"UPDATE sync_record SET changed_at = changed_at - {micros}, acked_at = acked_at - {micros}",
        f"UPDATE sync_feed SET polled_at = polled_at - {micros}",
    ):
        runtime.ledger.database.write(lambda connection: connection.exec_driver_sql(statement) and None)  # noqa: B023
    runtime.close()


def thresholds(program: Program) -> set[str]:
    """Return the open incidents of thresholds, by `alerts`."""
    incidents = program.json("alerts")[1]["incidents"]
    return {one["title"] for one in incidents if one["kind"] == "threshold"}


def test_a_first_load_an_outage_and_its_end_show_in_the_metrics_and_raise_the_alarms(
    program: Program, tmp_path: Path
) -> None:
    program.guardrails = {"engine_calls_per_day": 1000}
    program.more["SYNC_ASSETS_ALERT_WEBHOOK"] = "https://chat.example.com/hook"
    limits = {"pending_minutes": 30, "rejected_share": 0.01, "budget_share": 0.05, "audit_differences": 0}
    program.alerts = {"webhook": True, "thresholds": limits}
    status, output, errors = program.run("metrics", "--once")
    assert (status, samples(output)) == (1, {"sync_assets_up": {(): 0}})
    assert "There is no ledger at" in errors
    assert_firing([output], 6, {("SyncAssetsMetricsMissing", "")}, tmp_path)
    loading = program.start("sync")
    scrapes: list[str] = []
    while loading.poll() is None:
        scrapes.append(program.run("metrics", "--once")[1])
    assert loading.wait() == 0
    states = [sum(samples(text).get("sync_assets_records", {}).values()) for text in scrapes]
    assert states == sorted(states), "what a first load has read stays known"
    full = scrape(program)
    assert value(full, "records", table="contact", state="synced") == 50
    assert value(full, "change_seconds_count", table="contact") == 50
    assert value(full, "change_seconds_bucket", table="contact", le="+Inf") == 50
    assert value(full, "change_seconds_sum", table="contact") < 60 * 50
    made = program.sandbox.admin.engine_calls()
    assert {kind: value(full, "engine_calls_total", table="contact", kind=kind) for kind in ("insert", "read")} == {
        kind: made[kind] for kind in ("insert", "read")
    }
    assert value(full, "engine_calls_budget", period="day") == 1000
    assert value(full, "feed_complete", table="contact") == 1
    assert_firing([full], 30, set(), tmp_path)

    program.sandbox.admin.fault("campaign", "status", method="PATCH", status=503, retry_after=1, times=1)
    program.sandbox.admin.fault("campaign", "status", method="PATCH", status=500)
    program.sandbox.admin.change("contact", 3, lastname="Outage")
    assert program.sync().status == 2
    later(program, 40)
    down = scrape(program)
    assert value(down, "records", table="contact", state="pending") == 3
    assert value(down, "oldest_pending_seconds", table="contact") > 39 * 60
    assert value(down, "throttles_total", system="campaign", status="503") >= 1
    of_contact = {("SyncAssetsPendingTooLong", "contact"), ("SyncAssetsFeedNotPolled", "contact")}
    assert_firing([full, down], 10, of_contact, tmp_path)
    spent = "More than 0.05 of the budget of engine calls of this day is spent"
    late = "A change of contact is pending for more than 30 minutes"
    assert thresholds(program) == {spent, late}
    program.json("maintenance", "on", "contact")
    assert thresholds(program) == {spent}
    assert_firing([full, scrape(program)], 10, set(), tmp_path)
    program.json("maintenance", "off", "contact")

    program.sandbox.admin.clear_faults()
    program.pass_horizon()
    assert program.sync().status == 0
    assert thresholds(program) == {spent}
    up = scrape(program)
    assert value(up, "records", table="contact", state="pending") == 0
    assert value(up, "change_seconds_bucket", table="contact", le="900.0") == 50, "it took 40 minutes"
    assert value(up, "change_seconds_count", table="contact") == 53
    program.sandbox.admin.change("contact", 1, lastname="Quick")
    assert program.sync().status == 0
    sums = [value(text, "change_seconds_sum", table="contact") for text in (up, scrape(program))]
    assert sums == sorted({*sums}), "it grows by parts of a second, too"
    assert_firing([full, down, up], 5, set(), tmp_path)


def test_no_text_of_a_record_stands_in_the_metrics(program: Program) -> None:
    program.sync()
    text = scrape(program)
    values = {str(part) for row in program.sandbox.admin.dump_d365() for part in row.values() if len(str(part)) > 3}
    assert [one for one in values if re.search(rf'"[^"]*{re.escape(one)}', text)] == []


@pytest.mark.usefixtures("short_looks")
def test_loads_audits_and_the_sftp_are_shown(program: Program) -> None:
    assert by_file(program).sync().status == 0
    loaded = scrape(program)
    assert value(loaded, "load_records", table="contact", kind="insert", state="done") == 50
    assert sum(samples(loaded)["sync_assets_loads_total"].values()) == 1
    assert value(loaded, "sftp_used_bytes") < value(loaded, "sftp_size_bytes")
    assert "sync_assets_audit_differences" not in samples(loaded)
    pkey = program.sandbox.admin.dump_campaign()[0]["PKey"]
    program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "pkeys": [pkey]})
    program.run("audit")
    assert value(scrape(program), "audit_differences", table="contact") == 1


def test_the_server_listens_on_this_machine_alone_from_before_the_first_sync_until_sigterm(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, _, errors = program.run("metrics", "--port", port)
        assert (status, f"127.0.0.1:{port} cannot be listened on" in errors) == (1, True)
    server = program.start("metrics", "--port", port)

    def scraped() -> str:
        for _ in range(100):
            with suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
            time.sleep(0.1)
        raise AssertionError("it does not answer")

    try:
        assert [value(scraped(), "up") for _ in range(2)] == [0, 0]
        assert httpx.post(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 405
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", int(port)), timeout=5)
        assert program.sync().status == 0
        assert (value(scraped(), "up"), value(scraped(), "change_seconds_count", table="contact")) == (1, 50)
        program.sandbox.admin.change("contact", 1, lastname="Later")
        assert program.sync().status == 0
        assert value(scraped(), "change_seconds_count", table="contact") == 51
    finally:
        server.terminate()
    errors = server.communicate(timeout=20)[1]
    assert (errors.count("until Ctrl-C"), errors.count("There is no ledger at")) == (1, 1), errors
    assert server.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_ends_on_ctrl_c_and_sigterm_also_while_a_client_is_idle(program: Program, number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    server = program.start("metrics", "--port", str(address[1]), fresh=True)  # with the signal handlers of Polars
    try:
        assert server.stderr
        assert "until Ctrl-C" in server.stderr.readline()
        with socket.create_connection(address):
            server.send_signal(number)
            assert server.wait(timeout=20) == 0
    finally:
        server.kill()
        server.communicate()
