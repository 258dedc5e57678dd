"""An update of which Campaign refuses an attribute: which one is found out, proven and left out from then on."""

import asyncio
import json
from typing import Any

import pytest

from sync_assets.campaign.addressing import IN_UPDATES, PremiseFinding, refused_in_updates, today
from sync_assets.http.transport import Response
from sync_assets.push import delivery
from sync_assets_tests.unit.push.little_campaign import BARE, absent
from sync_assets_tests.unit.push.one_delivery import ADA, INVALID, TAKEN, Answer, Push, contact


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "backoff", lambda attempt: 0)


V8 = Response(500, {}, b"The 'zipCode' property is not valid for the 'profile' resource")
DONE = Response(200, {}, b'{"PKey": "@ada"}')
TODAY = str(PremiseFinding("yes", today()))
EMAIL, CITY = {"email": "ada@example.org"}, {"location": {"city": "Kyiv"}}
IN_ROME = {"location": {"city": "Rome"}}
HELD = Response(200, {}, json.dumps({"PKey": "@ada", "externalId": ADA, **IN_ROME}).encode())
PROVEN = [V8, DONE, HELD, V8, V8]
"""Refused with `location`, accepted without it, and refused twice with the location that Campaign holds."""
WAYS = [EMAIL | CITY, EMAIL, None, IN_ROME, IN_ROME]


@pytest.mark.parametrize(
    ("answers", "operation", "known", "bodies", "result", "expected"),
    [
        ([DONE], "update", None, [EMAIL | CITY], "done", "yes"),
        ([DONE], "update", "no", [EMAIL], "done", "no"),
        (PROVEN, "update", None, WAYS, "done", "no"),
        (PROVEN, "update", "yes", WAYS, "done", "no"),
        ([BARE, DONE, HELD, BARE, BARE], "update", None, WAYS, "done", "no"),
        # Twice is not thrice, a value is not its attribute, and who refuses everything proves nothing.
        ([BARE, DONE, HELD, BARE, DONE], "update", None, WAYS, "later", TODAY),
        ([V8, DONE, HELD, DONE], "update", None, WAYS[:4], "refused", TODAY),
        ([V8, V8], "update", None, WAYS[:2], "refused", None),
        ([BARE, BARE], "update", None, WAYS[:2], "later", None),
        ([V8], "update", TODAY, [EMAIL | CITY], "refused", TODAY),
        ([BARE], "update", "yes", [EMAIL | CITY], "later", "yes"),
        ([INVALID], "update", None, [EMAIL | CITY], "refused", None),
        ([TAKEN, *PROVEN], "insert", None, [EMAIL | CITY, *WAYS], "done", "no"),
        ([TAKEN, DONE], "insert", "no", [EMAIL | CITY, EMAIL], "done", "no"),
        ([absent(ADA), DONE], "update", "no", [EMAIL, EMAIL | CITY], "done", "no"),
    ],
)
async def test_an_attribute_that_campaign_refuses_in_updates_is_proven_and_left_out(
    answers: list[Answer],
    operation: str,
    known: str | None,
    bodies: list[dict[str, Any] | None],
    result: str,
    expected: str | None,
) -> None:
    push = Push(answers, exists=True)
    if known:
        push.records.addressing.note(f"{IN_UPDATES}location", known)
    delivered = await push.deliver(contact(operation, payload=json.dumps({"externalId": ADA} | EMAIL | CITY)))
    assert delivered.result == result
    sent = [body and {name: value for name, value in body.items() if name != "externalId"} for body in push.bodies]
    assert sent == bodies
    assert push.records.addressing.findings.get(f"{IN_UPDATES}location") == expected


@pytest.mark.parametrize("known", [True, False])
async def test_only_an_update_whose_groups_are_not_known_to_be_taken_waits_for_a_search(known: bool) -> None:
    push = Push([DONE], noted={f"{IN_UPDATES}location": "no"} | ({f"{IN_UPDATES}other": "yes"} if known else {}))
    record = contact("update", payload=json.dumps(CITY | {"other": {}}))
    async with push.records.first.update:
        delivered = asyncio.create_task(push.deliver(record))
        await asyncio.wait([delivered], timeout=0.2)
        assert delivered.done() == known
    await delivered
    assert push.bodies == [{"other": {}}]


async def test_an_update_that_was_refused_is_sent_again_without_an_attribute_that_was_found_meanwhile() -> None:
    push = Push(exists=True, noted={f"{IN_UPDATES}location": "yes"})

    def refused(operation: str, path: str) -> Response | None:
        push.records.addressing.note(f"{IN_UPDATES}location", "no")
        return V8 if "location" in push.bodies[-1] else None

    push.campaign.answers = refused
    assert (await push.deliver(contact("update", payload=json.dumps(EMAIL | CITY)))).operation_done == "updated"
    assert push.bodies == [EMAIL | CITY, EMAIL]


@pytest.mark.parametrize("refuses", [{"b"}, {"c", "f"}, {"a", "b", "c", "d", "e", "f", "g"}])
async def test_before_a_record_is_rejected_without_a_reason_the_attributes_are_searched_by_halves(
    refuses: set[str],
) -> None:
    """Campaign that refuses all updates is not one that refuses their attributes."""
    values = dict.fromkeys("abcdefg", "x")
    push = Push(exists=True)
    push.campaign.by_key("profile", ADA)[0].update(values)
    push.campaign.answers = lambda operation, path: (
        BARE if operation == "update" and push.bodies[-1].keys() & refuses else None
    )
    delivered = await push.deliver(contact("update", payload=json.dumps(values), attempts=3))
    all_refused = refuses == values.keys()
    assert delivered.result == ("later" if all_refused else "done")
    assert refused_in_updates(push.records.addressing.findings) == (() if all_refused else tuple(sorted(refuses)))
    assert len(push.bodies) < 20


SCORE = Response(500, {}, b"Cannot update the 'score' property that is read-only")


@pytest.mark.parametrize(
    ("answers", "attempts", "result"),
    [
        ({"location": V8, "score": SCORE}, 0, "done"),
        ({"score": SCORE, "location": V8}, 0, "done"),
        ({"location": V8, "score": BARE}, 0, "later"),
        ({"location": V8, "score": BARE}, 3, "done"),
        ({"score": BARE, "location": V8}, 3, "done"),
        ({"score": BARE, "location": BARE}, 3, "done"),
        ({"location": V8, "email": INVALID}, 0, "refused"),
    ],
)
async def test_several_attributes_that_campaign_refuses_are_found_though_it_names_one_at_a_time(
    answers: dict[str, Response], attempts: int, result: str
) -> None:
    push = Push(exists=True)
    push.campaign.by_key("profile", ADA)[0].update(EMAIL | IN_ROME | {"score": 1})

    def first_refused(operation: str, path: str) -> Response | None:
        body = push.bodies[-1] or {}
        return next((answer for name, answer in answers.items() if name in body), None)

    push.campaign.answers = first_refused
    payload = json.dumps(EMAIL | CITY | {"score": 2})
    assert (await push.deliver(contact("update", payload=payload, attempts=attempts))).result == result
    refused = refused_in_updates(push.records.addressing.findings)
    assert refused == (("location", "score") if result == "done" else ())
    assert len(push.bodies) < 16


@pytest.mark.parametrize("attempts", range(7))
async def test_the_attributes_are_searched_at_every_third_failed_attempt(attempts: int) -> None:
    """Each `sync` is a process of its own, which does not know that an earlier one searched in vain."""
    values = dict.fromkeys("ab", "x")
    push = Push(exists=True)
    push.campaign.by_key("profile", ADA)[0].update(values)
    push.campaign.answers = lambda operation, path: BARE if operation == "update" else None
    delivered = await push.deliver(contact("update", payload=json.dumps(values), attempts=attempts))
    assert delivered.result == "later"
    assert (len(push.bodies) > 1) == (attempts in (3, 6))


@pytest.mark.parametrize("opted_out", [True, False])
async def test_a_search_writes_no_opt_out_that_campaign_held_a_moment_ago(opted_out: bool) -> None:
    values = {"firstName": "Ada", "blackListEmail": opted_out}
    push = Push(exists=True)
    push.campaign.by_key("profile", ADA)[0].update(firstName="Eva", blackListEmail=not opted_out)
    push.campaign.answers = lambda operation, path: BARE if operation == "update" else None
    await push.deliver(contact("update", payload=json.dumps(values), attempts=3))
    assert [body["blackListEmail"] for body in push.bodies if body and "blackListEmail" in body] == [opted_out] * 4
    assert {"firstName": "Eva"} in push.bodies
