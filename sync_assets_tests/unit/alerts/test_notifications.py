"""Who is told what: each trouble once, again after a day, and when it is over; each channel for itself."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync_assets.alerts.channels import Channel, ChannelError, NoAnswer, Send, notify_all
from sync_assets.alerts.incidents import (
    MOST_SHOWN,
    Incident,
    Memory,
    Notifications,
    failed_check,
    failed_step,
    killed_run,
    notifications,
    open_incidents,
    stale_asset,
    subject,
    text,
)
from sync_assets.runtime.workers import KilledRun

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
DAY = timedelta(days=1)
BROKEN = failed_check("campaign/profile", "mapped_attributes_exist", "r1", NOW, "cusVip is gone.", warns=False)
FAILED = failed_step("d365__contact", "d365/contact", "0123456789", NOW, "Dynamics 365 cannot be reached.")
OLD = stale_asset("d365/contact", NOW, warns=False)


def wrong(*incidents: Incident, paused: frozenset[str] = frozenset()) -> list[Incident]:
    return open_incidents(incidents, paused)


def tell(now_wrong: list[Incident], told: Memory, now: datetime, **good: datetime) -> tuple[Notifications, Memory]:
    return notifications(now_wrong, good, told, now)


def test_a_notification_names_incident_beginning_remedy_and_link() -> None:
    result, _ = tell(wrong(FAILED, BROKEN, OLD), {}, NOW)
    reported = text(result, "https://dagster.example.com")
    for part in (
        "mapped_attributes_exist of campaign/profile",
        "cusVip is gone.",
        "https://dagster.example.com/assets/campaign/profile?view=checks",
        "The run 01234567 of d365/contact failed, since 2026-11-25 10:00 UTC. Dynamics 365 cannot be reached.",
        "https://dagster.example.com/runs/0123456789",
        "d365/contact is stale, since 2026-11-25 10:00 UTC",
        "Start its sensor",
    ):
        assert part in reported
    assert reported.count("Remedy:") == 3
    assert "http" not in text(result, "")
    assert subject(result).startswith("sync_assets: 3 new: Check mapped_attributes_exist of campaign/profile")


def test_a_killed_run_is_reported_with_the_remedy_until_a_run_succeeds() -> None:
    run = killed_run(KilledRun("0123456789", NOW))
    result, reported = tell(wrong(run), {}, NOW)
    stated = text(result, "https://dagster.example.com")
    assert "• The process of run 01234567 was killed, since 2026-11-25 10:00 UTC. The run still counts as" in stated
    assert "Remedy: Nothing is lost. The sensor `d365_changes` marks the run failed" in stated
    assert "https://dagster.example.com/runs/0123456789" in stated
    result, reported = tell([], reported, NOW + timedelta(seconds=30))
    assert [one.title for one in result.resolved] == ["The process of run 01234567 was killed"]
    assert reported == {}


def test_a_run_that_failed_because_of_a_check_is_reported_as_that_check() -> None:
    step = failed_step("campaign__profile", "campaign/profile", "r1", NOW, "the same words")
    assert [trouble.kind for trouble in wrong(step, BROKEN)] == ["check"]
    other = failed_step("campaign__profile", "campaign/profile", "r2", NOW, "")
    assert {trouble.kind for trouble in wrong(other, BROKEN)} == {"check", "run"}
    capture = failed_step("d365__contact", "d365/contact", "r2", NOW, "contact was not synchronised: cusVip is gone.")
    assert [trouble.kind for trouble in wrong(capture, BROKEN)] == ["check"]


def test_data_of_a_table_in_maintenance_may_be_old() -> None:
    assert wrong(OLD, paused=frozenset({"d365/contact"})) == []


def test_an_incident_is_notified_once_and_again_after_a_day_with_its_beginning() -> None:
    result, reported = tell(wrong(BROKEN), {}, NOW)
    assert len(result.new) == 1
    later = failed_check(BROKEN.asset, BROKEN.check, "r2", NOW + timedelta(hours=5), "the same", warns=False)
    result, reported = tell(wrong(later), reported, NOW + timedelta(hours=23, minutes=59))
    assert not result
    result, reported = tell(wrong(later), reported, NOW + DAY)
    assert [(one.since, result.new) for one in result.lasting] == [(NOW, [])]
    result, reported = tell(wrong(later), reported, NOW + DAY * 1.5)
    assert not result


def test_the_end_of_an_incident_is_notified_once() -> None:
    _, reported = tell(wrong(BROKEN, OLD), {}, NOW)
    result, reported = tell([], reported, NOW + timedelta(hours=1))
    assert {one.title for one in result.resolved} == {
        "Check mapped_attributes_exist of campaign/profile does not hold",
        "d365/contact is stale",
    }
    assert text(result, "").startswith("Resolved:")
    assert subject(result).startswith("sync_assets: 2 resolved: ")
    assert not tell([], reported, NOW + timedelta(hours=2))[0]


def test_a_failed_run_is_over_when_its_step_did_its_work_and_not_when_it_is_out_of_sight() -> None:
    _, reported = tell(wrong(FAILED), {}, NOW)
    result, kept = tell([], reported, NOW + DAY * 2)
    assert not result
    assert kept == reported
    result, _ = tell([], reported, NOW + DAY * 2, d365__contact=NOW + timedelta(minutes=1))
    assert [one.title for one in result.resolved] == ["The run 01234567 of d365/contact failed"]
    result, kept = tell([], reported, NOW + DAY * 8)
    assert not result
    assert kept == {}


def test_a_long_list_is_cut_and_counts_the_missing_entries() -> None:
    many = [
        failed_check(f"campaign/r{n}", "no_record_is_rejected", "r", NOW, "x" * 5000, warns=False) for n in range(30)
    ]
    result = text(tell(wrong(*many), {}, NOW)[0], "")
    assert result.count("\n• ") == MOST_SHOWN
    assert "and 10 more" in result
    assert len(result) < 20_000


IDS = ("a", "b", "c")


@given(
    ticks=st.lists(
        st.tuples(st.sets(st.sampled_from(IDS)), st.booleans(), st.booleans(), st.integers(1, 30)), max_size=25
    )
)
def test_each_channel_gets_each_notification_once_whichever_channels_fail(
    ticks: list[tuple[set[str], bool, bool, int]],
) -> None:
    """At each tick: what is wrong, which channels are down, hours until then. In the end both are up."""
    heard: dict[str, list[str]] = {"webhook": [], "email": []}
    down: set[str] = set()

    def sender(name: str) -> Send:
        def send(_: str, body: str) -> None:
            if name in down:
                raise ChannelError("down")
            heard[name].append(body)

        return send

    channels = {name: Channel(sender(name)) for name in heard}
    memory: dict[str, Memory] = {}
    now = NOW
    for wrong_now, no_webhook, no_email, hours in [*ticks, (set(ticks[-1][0]) if ticks else set(), False, False, 1)]:
        now += timedelta(hours=hours)
        down.clear()
        down |= ({"webhook"} if no_webhook else set()) | ({"email"} if no_email else set())
        result = [Incident(f"check {one}", "check", f"<{one}>", now, "", "", "") for one in sorted(wrong_now)]
        before = {name: len(bodies) for name, bodies in heard.items()}
        known = {name: set(memory.get(name, {})) for name in heard}
        memory, _ = notify_all(channels, result, {}, memory, now, "")
        for name, bodies in heard.items():
            stated = "".join(bodies[before[name] :])
            for one in IDS:
                news = (f"check {one}" in known[name]) != (one in wrong_now) and name not in down
                assert (f"<{one}>" in stated) or not news
                if f"check {one}" in known[name] and one in wrong_now and f"<{one}>" in stated:
                    assert stated.startswith(("Lasting incidents", "New incidents"))
    last = ticks[-1][0] if ticks else set()
    assert {name: set(known) for name, known in memory.items()} == {
        name: {f"check {one}" for one in last} for name in heard
    }


def test_a_notice_without_an_answer_is_sent_again_after_an_hour_and_not_at_each_tick() -> None:
    sent: list[datetime] = []
    silent = True

    def send(_: str, body: str) -> None:
        sent.append(now)
        if silent:
            raise NoAnswer("silent")

    memory: dict[str, Memory] = {}
    for tick in range(3 * 120):
        now = NOW + tick * timedelta(seconds=30)
        memory, _ = notify_all({"webhook": Channel(send)}, wrong(BROKEN), {}, memory, now, "")
    assert [(at - NOW) / timedelta(hours=1) for at in sent] == [0, 1, 2]
    silent = False
    for hours in (4, 5, 27, 28):
        now = NOW + timedelta(hours=hours)
        memory, _ = notify_all({"webhook": Channel(send)}, wrong(BROKEN), {}, memory, now, "")
    assert [(at - NOW) / timedelta(hours=1) for at in sent[3:]] == [4, 28], "the first answer makes it usual again"
    silent = True
    now += timedelta(seconds=30)
    memory, _ = notify_all({"webhook": Channel(send)}, [], {}, memory, now, "")
    assert (len(sent), memory) == (6, {"webhook": {}}), "that it is over is sent once"
