"""Do both sides agree? The judgement as a truth table; the comparison against a real sandbox."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from sync_assets.config.opt_out import ActiveDirection, Export, OptOutConfig
from sync_assets.opt_out.decide import decide
from sync_assets.opt_out.parity import allowed, judge

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DIRECTIONS: list[ActiveDirection] = ["d365_to_campaign", "campaign_to_d365", "bidirectional"]


def opt_out(direction: ActiveDirection, poll: int | None = None, hours: float = 24) -> OptOutConfig:
    export = Export(expected_every_hours=hours)
    return OptOutConfig(direction=direction, poll_profiles_minutes=poll, export=export)


@pytest.mark.parametrize(
    ("side", "poll", "hours", "time"),
    [
        ("d365", None, 24, 15 * MINUTE),
        ("d365", 5, 24, 15 * MINUTE),
        ("campaign", None, 24, 25 * HOUR),
        ("campaign", None, 0.5, 90 * MINUTE),
        ("campaign", 5, 24, 25 * MINUTE),
    ],
)
def test_how_long_a_change_may_take_to_the_other_side(
    side: str, poll: int | None, hours: float, time: timedelta
) -> None:
    assert allowed(opt_out("bidirectional", poll, hours), side) == time


YES, NO = True, False
Case = tuple[bool, timedelta | None, bool, timedelta | None, timedelta | None, str]
"""(D365's value, its age, Campaign's value, its age, the age of what was carried last, what is said)"""

FROM_D365: list[Case] = [
    (YES, 16 * MINUTE, NO, 2 * DAY, None, "differ"),  # an opt-out that Campaign lost or never got
    (YES, 15 * MINUTE, NO, 2 * DAY, None, "on the way"),
    (YES, None, NO, None, None, "differ"),  # without a time it is not known to be young
    (YES, 2 * DAY, NO, MINUTE, None, "differ"),  # somebody took it back in Campaign
    (NO, 2 * DAY, YES, 3 * DAY, None, "agree"),  # who unsubscribes in Campaign is no concern of Dynamics 365
    (NO, MINUTE, YES, None, None, "agree"),
]
FROM_CAMPAIGN: list[Case] = [
    (NO, 3 * DAY, YES, 25 * HOUR, None, "on the way"),
    (NO, 3 * DAY, YES, 26 * HOUR, None, "differ"),
    (YES, 3 * DAY, NO, 26 * HOUR, None, "differ"),
    (NO, MINUTE, YES, 26 * HOUR, 26 * HOUR, "on the way"),  # it was carried; Dynamics 365 has changed it since
    (NO, 26 * HOUR, YES, 3 * DAY, 3 * DAY, "differ"),  # and no file brought it again
    (NO, None, YES, 3 * DAY, 3 * DAY, "differ"),
    (YES, HOUR, NO, 26 * HOUR, 26 * HOUR, "agree"),  # an opt-out in Dynamics 365 that this direction does not carry
    (YES, 3 * DAY, NO, 26 * HOUR, 26 * HOUR, "differ"),  # an older one, as of a restored backup
    (NO, 3 * DAY, YES, 26 * HOUR, 27 * HOUR, "differ"),  # what was carried is older
    (NO, 3 * DAY, YES, HOUR, 27 * HOUR, "on the way"),
    (YES, 3 * DAY, NO, None, None, "agree"),  # never changed in Campaign
    (NO, 3 * DAY, YES, None, None, "differ"),
    (NO, 3 * DAY, YES, None, HOUR, "differ"),
]
BOTH_WAYS: list[Case] = [
    (YES, 15 * MINUTE, NO, 2 * DAY, None, "on the way"),  # D365 is newer: its opt-out wins
    (YES, 16 * MINUTE, NO, 2 * DAY, None, "differ"),
    (NO, 2 * DAY, YES, 25 * HOUR, None, "on the way"),  # Campaign is newer
    (NO, 2 * DAY, YES, 26 * HOUR, None, "differ"),
    (YES, 2 * DAY, NO, 26 * HOUR, None, "differ"),
    (NO, MINUTE, YES, 25 * HOUR, None, "on the way"),  # Campaign's wins though older, and came a day ago
    (NO, MINUTE, YES, 26 * HOUR, None, "differ"),  # a change for another reason makes it no younger
    (NO, MINUTE, YES, 26 * HOUR, 26 * HOUR, "differ"),  # both ways it does not count that it was carried once
    (YES, None, NO, 2 * DAY, None, "differ"),
    (NO, 2 * DAY, YES, None, None, "differ"),
]
CASES = [
    pytest.param(direction, *case, id=f"{direction}-{number}")
    for direction, cases in zip(DIRECTIONS, (FROM_D365, FROM_CAMPAIGN, BOTH_WAYS), strict=True)
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(("direction", "d365", "d365_age", "campaign", "campaign_age", "applied_age", "text"), CASES)
def test_the_finding_about_two_values_that_differ(
    direction: ActiveDirection,
    d365: bool,
    d365_age: timedelta | None,
    campaign: bool,
    campaign_age: timedelta | None,
    applied_age: timedelta | None,
    text: str,
) -> None:
    d365_at, campaign_at, applied = (
        None if age is None else NOW - age for age in (d365_age, campaign_age, applied_age)
    )
    assert judge(opt_out(direction), direction, (d365, d365_at), (campaign, campaign_at), applied, NOW) == text


AGES = (None, timedelta(0), 10 * MINUTE, 20 * MINUTE, HOUR, 25 * HOUR, 26 * HOUR, 30 * DAY)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_values_that_need_no_decision_agree(direction: ActiveDirection) -> None:
    """For each pair of values and times: nothing that needs no write is found wrong, and what was wrong once is so an
    hour later."""
    wrong = 0
    for d365, campaign, d365_age, campaign_age, age in itertools.product(
        (True, False, None), (True, False, None), AGES, AGES, AGES
    ):
        d365_at, campaign_at, applied = (None if one is None else NOW - one for one in (d365_age, campaign_age, age))
        result = judge(opt_out(direction), direction, (d365, d365_at), (campaign, campaign_at), applied, NOW)
        later = judge(opt_out(direction), direction, (d365, d365_at), (campaign, campaign_at), applied, NOW + HOUR)
        carried = campaign_at is not None and applied is not None and campaign_at <= applied
        if decide(direction, (d365, d365_at), (campaign, campaign_at), NOW, again=carried).write is None:
            assert result == "agree"
        assert (result, later) in {(result, result), ("on the way", "differ")}
        wrong += result == "differ"
    assert wrong
