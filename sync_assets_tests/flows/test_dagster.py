"""Sensors, runs, checks and metadata on a real Dagster instance: who asks for what when, and what a run shows."""

import threading
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from sync_assets.capture import feed_polling
from sync_assets.checks import guardrails
from sync_assets.defs.follower import follower, reports
from sync_assets.defs.partitions import FOLLOWS_TAG, TABLE_TAG, today
from sync_assets.defs.tables import sensors
from sync_assets.defs.tables.asset_metadata import LINEAGE
from sync_assets.defs.tables.checks import table_checks
from sync_assets.defs.tables.table_work import NUMBERS
from sync_assets.http import aiohttp_transport
from sync_assets_tests.support.orchestra import AUDIT, CONTACT, PROFILE, RANGE_END, RANGE_START, Orchestra, shown

N = 50


def days_before(number: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=number)).isoformat()


@pytest.fixture
def captured(orchestra: Orchestra) -> Orchestra:
    """All contacts are in the ledger, none is in Campaign, whatever day they were modified on."""
    orchestra.capture()
    assert orchestra.pending == N
    return orchestra


@pytest.fixture
def in_step(orchestra: Orchestra) -> Orchestra:
    orchestra.capture()
    orchestra.push()
    orchestra.program.assert_in_step()
    return orchestra


def test_nothing_new_is_looked_at_all_the_while_and_noted_as_polled_and_a_defect_keeps_the_cursor(
    in_step: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "HOLD_SECONDS", 1.2)
    monkeypatch.setattr(feed_polling, "NOTE_POLL", timedelta(0))
    followed(in_step)
    before, since = in_step.feed, in_step.program.sandbox.admin.last()
    data = in_step.tick("d365_changes")
    assert not data.run_requests
    looks = [entry for entry in in_step.program.sandbox.admin.journal("d365", since) if "/contacts" in entry["path"]]
    assert 2 <= len(looks) <= 3
    # A tick that overruns its hold makes the daemon skip a round.
    began, ended = (datetime.fromisoformat(looks[at]["at"]) for at in (0, -1))
    assert ended - began < timedelta(seconds=1.2)
    assert in_step.feed.polled_at > before.polled_at
    assert in_step.feed.link == before.link
    assert in_step.feed.saved_at == before.saved_at

    in_step.program.sandbox.admin.fault("d365", "forbidden")
    cursor = in_step._cursors.get("d365_changes")
    message = in_step.failure("d365_changes")
    assert message.startswith("The application user lacks a privilege in Dynamics 365")
    assert "example" not in message
    assert in_step._cursors.get("d365_changes") == cursor
    in_step.program.sandbox.admin.clear_faults()
    assert in_step.tick("d365_changes").skip_message == "contact: no change"


def followed(orchestra: Orchestra) -> None:
    """Execute the follower that confirms the partitions once an hour."""
    [request] = orchestra.asked("d365_changes")
    assert request.job_name == "follow"
    assert orchestra.execute(request).success


def test_a_tick_leaves_no_connection_behind(orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else aiohttp prints "Unclosed client session" when the process ends, or loads the definitions anew."""
    opened: list[aiohttp.ClientSession] = []
    make = aiohttp_transport.AiohttpTransport._open

    def noted(client: aiohttp_transport.AiohttpTransport) -> aiohttp.ClientSession:
        opened.append(session := make(client))
        return session

    monkeypatch.setattr(aiohttp_transport.AiohttpTransport, "_open", noted)
    orchestra.capture()
    orchestra.asked("d365_changes")
    orchestra.program.sandbox.admin.fault("d365", "forbidden")
    orchestra.failure("d365_changes")
    assert opened
    assert [session for session in opened if not session.closed] == []


def test_a_change_is_asked_for_long_before_the_tick_would_end(
    in_step: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed(in_step)
    monkeypatch.setattr(sensors, "HOLD_SECONDS", 9.5)
    changed_at: list[float] = []

    def change() -> None:
        time.sleep(0.7)
        in_step.program.sandbox.admin.change("contact", 1, jobtitle="Just now")
        changed_at.append(time.monotonic())

    thread = threading.Thread(target=change)
    thread.start()
    [request] = in_step.asked("d365_changes")
    asked_at = time.monotonic()
    thread.join()
    assert asked_at - changed_at[0] < 5.0
    assert in_step.execute(request).metadata(PROFILE, today())["updated"] == 1
    in_step.program.assert_in_step()


def test_a_tick_watches_the_only_follower_and_requests_the_next_one_at_its_end(
    in_step: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_step.program.runs = {"linger_seconds": "always"}
    in_step.reload()
    monkeypatch.setattr(sensors, "HOLD_SECONDS", 9.5)
    run = in_step.under_way({FOLLOWS_TAG: "yes"})
    ended: list[float] = []

    def end() -> None:
        time.sleep(1)
        in_step.instance.report_run_failed(run)
        ended.append(time.monotonic())

    thread = threading.Thread(target=end)
    thread.start()
    [request] = in_step.asked("d365_changes")
    assert request.job_name == "follow"
    assert time.monotonic() - ended[0] < 2.0
    thread.join()


def test_a_tick_beside_followers_of_several_installations_polls_nothing_and_returns_at_once(
    in_step: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "HOLD_SECONDS", 9.5)
    in_step.under_way({FOLLOWS_TAG: "yes"})
    in_step.under_way({FOLLOWS_TAG: "yes"}, ledger="that of another installation")
    began, since = time.monotonic(), in_step.program.sandbox.admin.last()
    assert in_step.tick("d365_changes").skip_message == "contact: a run follows it"
    assert time.monotonic() - began < 2.0
    assert in_step.program.sandbox.admin.journal("d365", since) == []


def test_while_a_run_is_under_way_no_other_is_requested(orchestra: Orchestra) -> None:
    for status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED):
        run = orchestra.under_way({TABLE_TAG: "contact"}, status)
        assert orchestra.tick("d365_changes").skip_message == "contact: a run is under way"
        orchestra.instance.delete_run(run.run_id)
    orchestra.capture()
    for status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED):
        run = orchestra.under_way({FOLLOWS_TAG: "yes"}, status, orchestra.location)
        assert not [*orchestra.asked("d365_changes"), *orchestra.asked("backlog")]
        orchestra.instance.delete_run(run.run_id)
    assert orchestra.asked("d365_changes")
    assert orchestra.asked("backlog")


def test_a_follower_that_fails_at_once_is_requested_again_with_a_backoff(
    in_step: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guardrails, "check_configuration", lambda *_: None)
    in_step.program.runs = {"linger_seconds": "always"}
    in_step.reload()
    for requested in (1, 1, 0):
        requests = in_step.asked("d365_changes")
        assert len(requests) == requested
        for request in requests:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(follower.Follower, "follow", None)
                assert not in_step.execute(request).success
    in_step.later("d365_changes", seconds=11)
    assert in_step.asked("d365_changes")


def test_an_audit_is_not_out_of_date_since_rows_changed(orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch) -> None:
    orchestra.settle()
    assert orchestra.job("audit").success
    assert orchestra.instance.get_runs()[0].tags[TABLE_TAG] == "contact"
    monkeypatch.setattr(reports, "CONFIRM", timedelta(0))
    assert orchestra.job("follow").days(PROFILE)
    orchestra.program.sandbox.admin.change("contact", 2, fax="+1 555 0100")  # is not mapped
    orchestra.settle()
    assert orchestra.stale(AUDIT) == StaleStatus.FRESH
    orchestra.program.sandbox.admin.change("contact", 1, jobtitle="Changed")
    orchestra.settle()
    assert orchestra.stale(AUDIT) == StaleStatus.FRESH


def test_past_days_are_one_run_that_reads_their_rows_again_and_sends_differences(in_step: Orchestra) -> None:
    in_step.program.runs["start_date"] = days_before(60)
    in_step.reload()
    admin, rows = in_step.program.sandbox.admin, in_step.program.sandbox.admin.dump_d365()
    first, last = days_before(40), days_before(1)
    modified = [row for row in rows if first <= row["modifiedon"][:10] <= last]
    assert modified
    [lost, *_] = [p["PKey"] for p in admin.dump_campaign() if p["externalId"] == modified[0]["contactid"]]
    admin.post("/campaign/change", {"resource": "profile", "pkeys": [lost], "set": {"lastName": "By hand"}})
    run = in_step.materialize_all(CONTACT, PROFILE, tags={RANGE_START: first, RANGE_END: last})
    assert run.success
    assert len(run.days(CONTACT)) == 40
    metadata = run.metadata(CONTACT, last)
    assert metadata["this_run"]["rows_captured"] == len(modified)
    # none of them was captured on that day
    assert (metadata["rows_captured"], metadata["dagster/partition_row_count"]) == (0, 0)
    assert run.metadata(PROFILE, last)["this_run"]["updated"] == 0  # what the ledger knows Campaign to hold is not sent
    run = in_step.materialize_all(CONTACT, PROFILE, force=True, tags={RANGE_START: first, RANGE_END: last})
    assert run.metadata(PROFILE, last)["this_run"]["updated"] == len(modified)
    metadata = run.metadata(PROFILE, first)
    assert metadata == {**dict.fromkeys(NUMBERS["campaign"], 0), "counted_with": last}
    in_step.program.assert_in_step()


def test_a_quiet_table_is_confirmed_hourly_so_that_it_stays_fresh_which_hides_no_check(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestra.program.sandbox.admin.settings("campaign", bare_data_policy=False)
    orchestra.program.sandbox.admin.change("contact", 1, emailaddress1="not-an-address")
    orchestra.settle()
    checks = [one.key for one in table_checks(orchestra.runtime.config.tables[0], orchestra.runtime)]
    before = {key: shown(orchestra.instance, key) for key in checks}
    assert sorted(before.values()) == ["FAILED", *["SUCCEEDED"] * 7]
    assert not orchestra.asked("d365_changes")
    orchestra.later("d365_changes", hours=1)
    monkeypatch.setattr(reports, "CONFIRM", timedelta(0))
    [request] = orchestra.asked("d365_changes")
    run = orchestra.execute(request)
    assert run.days(CONTACT) == run.days(PROFILE) == [today()]
    assert LINEAGE in run.metadata(PROFILE, today())  # the UI shows that of the last materialisation
    assert {key: shown(orchestra.instance, key) for key in checks} == before


def test_a_run_shows_its_numbers(in_step: Orchestra) -> None:
    admin = in_step.program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)
    admin.change("contact", [row["contactid"] for row in admin.dump_d365()[:4]], jobtitle="Mapped")
    admin.change("contact", [row["contactid"] for row in admin.dump_d365()[4:6]], fax="+1 555 0100")
    admin.change("contact", [admin.dump_d365()[6]["contactid"]], emailaddress1="not-an-address")
    admin.create("contact", {"lastname": "New", "emailaddress1": "new@example.org"})
    [request] = in_step.asked("d365_changes")
    run = in_step.execute(request)

    metadata = run.metadata(CONTACT, today())
    zeros = dict.fromkeys(("validation_errors", "deleted", "backlog"), 0)
    assert metadata.items() >= {"rows_captured": 8, "new": 1, "changed": 5, "unchanged": 2, **zeros}.items()
    assert metadata["dagster/partition_row_count"] == N + 8
    assert metadata["this_run"]["rows_per_second"] > 0
    assert metadata["dynamics_365"].startswith(in_step.program.sandbox.env["D365_URL"])

    metadata = run.metadata(PROFILE, today())
    zeros = dict.fromkeys(("deleted", "put_off", "backlog"), 0)
    made = {"inserted": 1, "updated": 4, "rejected": 1, "engine_calls": 6, "engine_calls_update": 5}
    assert metadata.items() >= {**made, **zeros}.items()
    own = metadata["this_run"]
    assert not {"records_per_second", "seconds", "latency_p50_ms"} & metadata.keys()  # they would be plotted
    assert own["records_per_second"] > 0
    assert own["latency_p95_ms"] >= own["latency_p50_ms"] > 0
    assert metadata["dagster/column_lineage"].deps_by_column["email"] == [dg.TableColumnDep(CONTACT, "emailaddress1")]
    assert metadata["dynamics_365"].startswith(in_step.program.sandbox.env["D365_URL"])
    [refused] = metadata["rejected_by_reason"].records
    assert refused.data["records"] == 1
    assert "not-an-address" not in refused.data["reason"]
    [today_s] = metadata["engine_calls_by_day"].records
    assert today_s.data == {"day": today(), "insert": N + 1, "update": 5, "delete": 0, "read": 2, "all": N + 8}
    assert (
        metadata["campaign"] == in_step.program.sandbox.env["CAMPAIGN_URL"] + "/campaign/profileAndServicesExt/profile"
    )


def test_a_quiet_feed_keeps_its_place_by_its_newest_link(in_step: Orchestra, monkeypatch: pytest.MonkeyPatch) -> None:
    followed(in_step)
    monkeypatch.setattr(feed_polling, "KEEP_LINK", timedelta(0))
    before = in_step.feed
    in_step.tick("d365_changes")
    assert in_step.feed.saved_at > before.saved_at
    assert in_step.feed.version > before.version
    in_step.program.sandbox.admin.change("contact", 1, jobtitle="After the quiet")
    in_step.settle()
    in_step.program.assert_in_step()
