"""The decision, as a truth table: direction x D365 value x Campaign value x which of the two is newer."""

import itertools
from datetime import UTC, datetime, timedelta, timezone

from sync_assets.config.opt_out import ActiveDirection
from sync_assets.ledger.rules import merged_contacts
from sync_assets.opt_out import decide as rules
from sync_assets.opt_out.decide import AHEAD, Decision, without_value

THEN = datetime(2026, 11, 24, 10, 0, 5, tzinfo=UTC)
LATER = THEN + timedelta(seconds=1)


def decide(
    direction: ActiveDirection,
    d365: bool | None,
    d365_modified: datetime | None,
    campaign: bool | None,
    campaign_changed: datetime | None,
    again: bool = False,
) -> Decision:
    return rules.decide(direction, (d365, d365_modified), (campaign, campaign_changed), LATER, again=again)


TIMES: dict[str, tuple[datetime | None, datetime | None]] = {
    "campaign newer": (THEN, LATER),
    "equal": (THEN, THEN),
    "equal but for a fraction": (THEN, THEN + timedelta(milliseconds=999)),
    "d365 newer": (LATER, THEN),
    "campaign never changed": (THEN, None),
    "d365 without time": (None, THEN),
    "no times": (None, None),
}
"""(record modified in D365, attribute changed in Campaign)."""

# What both hold afterwards and which side is written (d: D365, c: Campaign, -: neither), for each pair of values
# (D365, Campaign): true/true, true/false, false/true, false/false.
TABLE: dict[ActiveDirection, dict[str, str]] = {
    "bidirectional": {
        "campaign newer": "T- Fd Td F-",
        "equal": "T- Tc Td F-",
        "equal but for a fraction": "T- Tc Td F-",
        "d365 newer": "T- Tc Td F-",
        "campaign never changed": "T- Tc Td F-",
        "d365 without time": "T- Tc Td F-",
        "no times": "T- Tc Td F-",
    },
    "campaign_to_d365": {
        "campaign newer": "T- Fd Td F-",
        "equal": "T- Fd Td F-",
        "equal but for a fraction": "T- Fd Td F-",
        "d365 newer": "T- Fd Td F-",
        "campaign never changed": "T- T- Td F-",
        "d365 without time": "T- Fd Td F-",
        "no times": "T- T- Td F-",
    },
    "d365_to_campaign": dict.fromkeys(TIMES, "T- Tc Fc F-"),
}
VALUES = ((True, True), (True, False), (False, True), (False, False))
SIDES = {"d": "d365", "c": "campaign", "-": None}


def _rows() -> list[tuple[ActiveDirection, str, bool, bool, str]]:
    return [
        (direction, when, d365, campaign, expected)
        for direction, by_time in TABLE.items()
        for when, line in by_time.items()
        for (d365, campaign), expected in zip(VALUES, line.split(), strict=True)
    ]


def test_the_table_is_whole() -> None:
    assert all(by_time.keys() == TIMES.keys() for by_time in TABLE.values())
    assert len(_rows()) == 3 * len(TIMES) * 4


def test_truth_table() -> None:
    for direction, when, d365, campaign, expected in _rows():
        decision = decide(direction, d365, TIMES[when][0], campaign, TIMES[when][1])
        case = (direction, when, d365, campaign)
        assert (decision.value, decision.write) == (expected[0] == "T", SIDES[expected[1]]), case


def test_no_value_in_d365_counts_as_not_opted_out() -> None:
    for direction, when, campaign in itertools.product(TABLE, TIMES, (True, False, None)):
        modified, changed = TIMES[when]
        not_opted_out = decide(direction, False, modified, campaign, changed)
        assert decide(direction, None, modified, campaign, changed) == not_opted_out, (direction, when, campaign)


def test_a_missing_answer_of_campaign_changes_nothing_in_d365() -> None:
    for when, d365 in itertools.product(TIMES, (True, False)):
        modified, changed = TIMES[when]
        for direction in ("bidirectional", "campaign_to_d365"):
            assert decide(direction, d365, modified, None, changed) == Decision(d365, None, "Campaign says nothing")
        wanted = "campaign" if d365 else None
        assert decide("d365_to_campaign", d365, modified, None, changed).write == wanted, (when, d365)


def test_no_decision_calls_for_another_one() -> None:
    """Once the side is written both hold the value, whatever the times are by then: nothing is written again."""
    for direction, by_time in TABLE.items():
        for when, (d365, campaign) in itertools.product(by_time, VALUES):
            decided = decide(direction, d365, TIMES[when][0], campaign, TIMES[when][1])
            if decided.write is None:
                continue
            for modified, changed in TIMES.values():
                again = decide(direction, decided.value, modified, decided.value, changed)
                assert again == Decision(decided.value, None, "both sides agree")


def test_bidirectional_never_takes_an_opt_out_from_campaign() -> None:
    """Campaign is what mails: there only opt-outs are written."""
    for when, (d365, campaign) in itertools.product(TIMES, VALUES):
        decided = decide("bidirectional", d365, TIMES[when][0], campaign, TIMES[when][1])
        assert decided.write != "campaign" or decided.value


def test_a_time_counts_whatever_its_zone() -> None:
    elsewhere = LATER.astimezone(timezone(timedelta(hours=-8)))
    assert decide("bidirectional", True, THEN, False, elsewhere) == Decision(False, "d365", "Campaign is newer")


def test_a_time_of_the_future_makes_campaign_not_newer_and_its_opt_in_no_default() -> None:
    """A clock of Campaign that was hours ahead would else win over each opt-out made meanwhile in Dynamics 365."""
    assert decide("bidirectional", True, THEN, False, LATER + AHEAD).write == "d365"
    for ahead in (AHEAD + timedelta(microseconds=1), timedelta(hours=20)):
        assert decide("bidirectional", True, THEN, False, LATER + ahead) == Decision(
            True, "campaign", "an opt-out wins"
        )
        assert decide("campaign_to_d365", True, THEN, False, LATER + ahead).write == "d365"


def test_decided_again_with_campaign_to_d365_an_opt_in_counts_only_if_it_is_newer() -> None:
    for when, (d365, campaign) in itertools.product(TIMES, VALUES):
        times = TIMES[when]
        again = decide("campaign_to_d365", d365, times[0], campaign, times[1], again=True)
        kept = d365 and not campaign and when != "campaign newer"
        wanted = decide("campaign_to_d365", d365, times[0], campaign, times[1]).write
        assert (again.value, again.write) == (d365 if kept else campaign, None if kept else wanted), (when, d365)
        for direction in ("bidirectional", "d365_to_campaign"):
            given = (direction, d365, times[0], campaign, times[1])
            assert decide(*given, again=True) == decide(*given)


def test_the_reason_names_the_cause() -> None:
    assert decide("bidirectional", True, LATER, False, THEN).reason == "an opt-out wins"
    assert decide("bidirectional", True, THEN, False, LATER).reason == "Campaign is newer"
    assert decide("campaign_to_d365", True, LATER, False, THEN).reason == "Campaign decides"
    assert decide("campaign_to_d365", True, LATER, False, None).reason == "never changed in Campaign"
    assert decide("d365_to_campaign", True, None, False, None).reason == "Dynamics 365 decides"


def test_a_reason_that_quotes_the_value_is_replaced() -> None:
    assert without_value("an opt-out wins") == "Campaign is not known to be newer"
    assert without_value("Campaign is newer") == "Campaign is newer"
    assert without_value(merged_contacts.REASON) == merged_contacts.REASON
