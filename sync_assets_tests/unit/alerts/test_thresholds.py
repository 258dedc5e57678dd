"""Thresholds: an incident above a number, by severity; which channel gets it, and when."""

from datetime import UTC, datetime, timedelta

import pytest

from sync_assets.alerts.channels import Channel, notify_all
from sync_assets.alerts.incidents import Incident, Memory, failed_check
from sync_assets.alerts.thresholds import Measured, exceeded
from sync_assets.config.runs import QuietHours, Thresholds

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
LIMITS = Thresholds.model_validate({"pending_minutes": 30, "budget_share": 0.8, "audit_differences": 0})
BROKEN = failed_check("campaign/profile", "ready", "r1", NOW, "cusVip is gone.", warns=False)


def pending(minutes: float) -> Measured:
    return Measured("pending_minutes", "contact", minutes, NOW, "3 records pending.", "campaign/profile")


def found(*measured: Measured, notified: frozenset[str] = frozenset()) -> list[str]:
    """Return the ids of the incidents, which are warnings."""
    incidents = exceeded(LIMITS, measured, notified)
    assert all(one.warns for one in incidents)
    return [one.id for one in incidents]


def test_a_number_above_its_threshold_is_a_warning() -> None:
    assert found(pending(30)) == []
    assert found(pending(30.1)) == ["threshold pending_minutes contact"]
    assert found(Measured("budget_share", "day", 0.81, NOW, "")) == ["threshold budget_share day"]
    assert found(Measured("audit_differences", "contact", 1, NOW, "")) == ["threshold audit_differences contact"]
    assert found(Measured("audit_differences", "contact", 0, NOW, "")) == []
    assert found(Measured("rejected_share", "contact", 1, NOW, "")) == [], "no threshold is configured"


def test_a_notified_incident_ends_below_nine_tenths_of_its_threshold() -> None:
    notified = frozenset({"threshold pending_minutes contact"})
    assert found(pending(27.1), notified=notified) == ["threshold pending_minutes contact"]
    assert found(pending(27), notified=notified) == []


def test_the_title_has_no_number_that_changes_and_the_remedy_names_a_command() -> None:
    [incident] = exceeded(LIMITS, [pending(95)], ())
    assert incident.title == "A change of contact is pending for more than 30 minutes"
    assert (incident.detail, incident.path) == ("3 records pending.", "assets/campaign/profile")
    assert "`sync-assets doctor`" in incident.remedy


@pytest.mark.parametrize(
    ("begin", "end", "quiet"),
    [("22:00", "06:00", {22, 23, 0, 1, 2, 3, 4, 5}), ("01:00", "03:00", {1, 2}), ("05:00", "05:00", set[int]())],
)
def test_quiet_hours_may_pass_midnight(begin: str, end: str, quiet: set[int]) -> None:
    hours = QuietHours.model_validate({"from": begin, "to": end})
    assert {hour for hour in range(24) if hours.include(NOW.replace(hour=hour))} == quiet


def test_quiet_hours_are_those_of_a_place_in_summer_and_winter() -> None:
    hours = QuietHours.model_validate({"from": "22:00", "to": "06:00", "time_zone": "Europe/Berlin"})
    assert [hours.include(datetime(2026, 1, 15, hour, 30, tzinfo=UTC)) for hour in (20, 21, 4, 5)] == [
        False,
        True,
        True,
        False,
    ]
    assert [hours.include(datetime(2026, 7, 15, hour, 30, tzinfo=UTC)) for hour in (19, 20, 3, 4)] == [
        False,
        True,
        True,
        False,
    ]


class Night:
    """A channel whose messages are kept; `at` is a tick."""

    def __init__(self, *, errors_only: bool = False) -> None:
        self.sent: list[str] = []
        self.errors_only = errors_only
        self.memory: dict[str, Memory] = {}

    def at(self, hours: float, *incidents: Incident, quiet: bool = False) -> list[str]:
        """Return the first lines of what is sent at a tick, `hours` after NOW."""
        self.sent.clear()
        channel = Channel(lambda _, body: self.sent.append(body.split("\n")[1][2:10]), self.errors_only, quiet)
        moment = NOW + timedelta(hours=hours)
        self.memory, _ = notify_all({"webhook": channel}, incidents, {}, self.memory, moment, "")
        return [*self.sent]


def test_in_quiet_hours_errors_are_sent_and_warnings_and_their_ends_wait() -> None:
    night, [old, other] = (
        Night(),
        exceeded(LIMITS, [pending(40), Measured("audit_differences", "contact", 1, NOW, "")], ()),
    )
    assert night.at(0, old) == ["A change"]
    assert night.at(1, old, other, quiet=True) == []
    assert night.at(1.5, old, other, BROKEN, quiet=True) == ["Check re"]
    assert night.at(2, other, quiet=True) == ["Check re"], "the end of an error is sent, that of a warning waits"
    assert night.at(30, other, quiet=True) == []
    assert night.at(31, other) == ["The audi"], "with the end of the first one, in one message"
    assert night.at(31.1, other) == []


def test_a_warning_that_becomes_an_error_in_quiet_hours_is_sent() -> None:
    night, error = Night(), BROKEN
    warning = failed_check("campaign/profile", "ready", "r1", NOW, "", warns=True)
    assert night.at(0, warning) == ["Check (a"]
    assert night.at(1, warning, quiet=True) == []
    assert night.at(2, error, quiet=True) == ["Check re"]
    assert night.at(3, error, quiet=True) == []
    assert night.at(4, error) == []
    assert night.at(5, quiet=True) == ["Check re"]


def test_a_channel_from_errors_on_gets_no_warning_and_no_end_of_one() -> None:
    pager, [warning] = Night(errors_only=True), exceeded(LIMITS, [pending(40)], ())
    assert pager.at(0, warning) == []
    assert pager.at(1, warning, BROKEN) == ["Check re"]
    assert pager.at(2) == ["Check re"]
