"""The delivery of one record as a decision table: which requests are sent, in which order, and the outcome."""

import json
from typing import Any

import pytest

from sync_assets.campaign.addressing import KEY_UNIQUE
from sync_assets.http.transport import OutcomeUnknown, Response, SignInRefused
from sync_assets.ledger.model import Claimed
from sync_assets.push.delivery import MAX_POSTS, StillUnknown
from sync_assets_tests.unit.push.little_campaign import BARE, BY_KEY
from sync_assets_tests.unit.push.one_delivery import (
    ADA,
    BOILERPLATE,
    DELETED,
    INSERTED,
    INVALID,
    KNOWN,
    LOST,
    MISSING,
    NO_ACCESS,
    NOT_IN_URL,
    TAKEN,
    UNIQUE,
    UPDATED,
    Push,
    contact,
)

pytestmark = pytest.mark.usefixtures("waits")


@pytest.mark.parametrize(
    ("push", "record", "requests", "result"),
    [
        (Push(), contact(), "insert", INSERTED),
        # A POST whose key is taken becomes a PATCH; so does one that may have made the record.
        (Push([TAKEN], exists=True), contact(), "insert update", UPDATED),
        (Push([BARE], exists=True), contact(), "insert update", UPDATED),
        (Push([LOST], exists=True), contact(), "insert update", UPDATED),
        (Push([LOST], found=UNIQUE), contact(), "insert update insert", INSERTED),
        (Push([LOST], finds_unique=True), contact(), "insert update insert", INSERTED),
        (Push([LOST, None, TAKEN], found=UNIQUE), contact(), "insert update insert update", ("refused", None)),
        # If an earlier POST may have arrived, the PATCH comes first.
        (Push(exists=True), contact(outcome_unknown=True), "update", UPDATED),
        (Push(found=UNIQUE), contact(outcome_unknown=True), "update insert", INSERTED),
        (Push(finds_unique=True), contact(outcome_unknown=True), "update insert", INSERTED),
        (Push(), contact(outcome_unknown=True, unknown_seconds=None), "update insert", INSERTED),
        # Neither of both: the POST failed for another reason.
        (Push([TAKEN]), contact(), "insert update", ("refused", None)),
        (Push([BARE]), contact(), "insert update", ("later", None)),
        (Push([INVALID]), contact(), "insert", ("refused", None)),
        # A PATCH that finds no record becomes a POST, if the key finds records at all.
        (Push(exists=True), contact("update"), "update", UPDATED),
        (Push(), contact("update"), "update insert", INSERTED),
        (Push(), contact("update", outcome_unknown=True), "update insert", INSERTED),
        (Push(key_works=False), contact("update"), "update", ("refused", None)),
        (Push(key_works=False, confirmed=True), contact("update"), "update insert", INSERTED),
        (Push(key_works=False), contact("update", outcome_unknown=True), "update insert", INSERTED),
        (Push(found=UNIQUE), contact("update", outcome_unknown=True, reinsert_sent=True), "update insert", INSERTED),
        (
            Push(),
            contact("update", outcome_unknown=True, unknown_seconds=None, reinsert_sent=True),
            "update insert",
            INSERTED,
        ),
        (Push([INVALID]), contact("update"), "update", ("refused", None)),
        (Push([BARE]), contact("update"), "update", ("later", None)),
        # Of an update without a member but the key, only whether the record exists is of interest.
        (Push(exists=True), contact("update", payload=f'{{"externalId":"{ADA}"}}'), "read", UPDATED),
        (Push(), contact("update", payload=f'{{"externalId":"{ADA}"}}'), "read insert", INSERTED),
        (Push([BARE]), contact("update", payload=f'{{"externalId":"{ADA}"}}'), "read", ("later", None)),
        (Push(), contact("update", payload=None), "read", MISSING),
        (Push(), contact("update", payload=None, outcome_unknown=True), "read", MISSING),
        (Push(), contact("insert", payload=None), "", ("refused", None)),
        # Campaign may hide a record that requires a parent, and take a second one.
        (Push(requires_parent=True), contact("update"), "update", ("refused", None)),
        (Push(requires_parent=True), contact("update", resend=True), "update", ("refused", None)),
        (Push(requires_parent=True, unique=False), contact("update", payload=None), "read", ("refused", None)),
        (Push(requires_parent=True, found=UNIQUE), contact("update"), "update insert", INSERTED),
        (Push(requires_parent=True, finds_unique=True), contact("update"), "update insert", INSERTED),
        # A delete without an answer may have taken effect.
        (Push(requires_parent=True), contact("update", outcome_unknown=True), "update insert", INSERTED),
        (Push(requires_parent=True), contact("update", payload=None, outcome_unknown=True), "read", MISSING),
        # A delete of a record that is missing is done, if the key finds records at all.
        (Push(found=KNOWN, exists=True), contact("delete"), "delete read", DELETED),
        (Push(found=KNOWN), contact("delete"), "delete read", DELETED),
        (Push(found=KNOWN, key_works=False), contact("delete"), "delete read", ("refused", None)),
        (Push(found=KNOWN, key_works=False, confirmed=True), contact("delete"), "delete read", DELETED),
        (Push([BARE], found=KNOWN, exists=True), contact("delete"), "delete read delete read", DELETED),
        (Push([None, BARE], found=KNOWN), contact("delete"), "delete read", ("later", None)),
        # While nothing shows that the key identifies records, none is deleted by it before it was looked up.
        (Push(exists=True), contact("delete"), "read delete read", DELETED),
        (Push(), contact("delete"), "read", DELETED),
        (Push([BARE]), contact("delete"), "read", ("later", None)),
    ],
)
async def test_the_requests_of_a_delivery(
    push: Push, record: Claimed, requests: str, result: tuple[str, str], waits: list[int]
) -> None:
    delivered = await push.deliver(record)
    assert waits == [0] * push.answers.count(LOST)
    assert " ".join(push.requests) == requests
    assert (delivered.result, delivered.operation_done) == result
    written = [stored["PKey"] for stored in push.campaign.by_key("profile", ADA)]
    assert [delivered.pkey] == (written if result in (INSERTED, UPDATED) else [""])
    assert len(written) == (1 if result in (INSERTED, UPDATED) else 0)


@pytest.mark.parametrize(
    ("push", "record", "asked"),
    [
        (Push(), contact("update"), 1),
        (Push(confirmed=True), contact("update"), 0),
        (Push(), contact("update", outcome_unknown=True), 0),
        (Push(found=UNIQUE), contact(outcome_unknown=True), 0),
        (Push(finds_unique=True), contact(outcome_unknown=True), 1),
        (Push(), contact(outcome_unknown=True, unknown_seconds=None), 0),
        (Push(found=KNOWN), contact("delete"), 1),
        (Push(found=KNOWN, confirmed=True), contact("delete"), 0),
    ],
)
async def test_whether_the_key_works_is_asked_only_where_it_is_not_shown(
    push: Push, record: Claimed, asked: int
) -> None:
    await push.deliver(record)
    assert push.asked == asked


@pytest.mark.parametrize(
    ("push", "attempts", "seconds", "wait"),
    [
        (Push([LOST]), 0, None, 10.0),
        (Push([LOST], unique=False), 0, None, 10.0),
        # Lost before, and the insert can still take effect for `seconds`.
        (Push(), 0, 5000.0, 10.0),
        (Push(), 2, 5000.0, 90.0),
        (Push(), 9, 5000.0, 810.0),
        (Push(), 4, 600.0, 600.0),
        # If no other record can show that the key is unique, it is looked up once only.
        (Push(unique=False), 0, 600.0, 600.0),
        (Push(found=NOT_IN_URL, filter=BY_KEY), 0, 600.0, 600.0),
    ],
)
async def test_no_second_insert_is_sent_if_the_key_is_not_known_to_be_unique(
    push: Push, attempts: int, seconds: float | None, wait: float
) -> None:
    """The first one may arrive late, and would be a duplicate."""
    with pytest.raises(StillUnknown) as raised:
        await push.deliver(contact(outcome_unknown=seconds is not None, attempts=attempts, unknown_seconds=seconds))
    assert raised.value.wait == wait
    assert str(raised.value) == (
        "The answer to an insert was lost; the record is looked for once more before another one is sent."
    )
    assert "insert" not in push.requests[1:]
    assert push.asked == 1


async def test_no_second_insert_is_sent_in_place_of_an_update_either() -> None:
    push = Push()
    with pytest.raises(StillUnknown):
        await push.deliver(contact("update", outcome_unknown=True, reinsert_sent=True))
    assert push.requests == ["update"]


@pytest.mark.parametrize(
    ("push", "record", "after"),
    [
        (Push(), contact("update"), 1),
        (Push(exists=True), contact("update"), None),
        (Push([TAKEN], exists=True), contact(), None),
        (Push([LOST], found=UNIQUE), contact(), None),
    ],
)
async def test_the_insert_of_a_record_that_campaign_had_is_stored_before_it_is_sent(
    push: Push, record: Claimed, after: int | None
) -> None:
    await push.deliver(record)
    assert push.reinsert_sent == after


async def test_after_two_lost_answers_the_outcome_stays_unknown() -> None:
    push = Push([LOST, None, LOST], found=UNIQUE)
    with pytest.raises(OutcomeUnknown):
        await push.deliver(contact())
    assert push.requests.count("insert") == MAX_POSTS == 2


async def test_refused_access_ends_the_push_and_quotes_no_payload() -> None:
    quoting = Response(403, {}, b'{"error_code": "1", "message": "not for ada@example.org"}')
    for answer in (NO_ACCESS, quoting):
        with pytest.raises(SignInRefused) as raised:
            await Push([answer]).deliver(contact())
        assert raised.value.cause.startswith("Campaign refuses access: ")
        assert raised.value.remedy.startswith("Check CAMPAIGN_URL, CAMPAIGN_CLIENT_ID")
        assert "ada@" not in str(raised.value)


@pytest.mark.parametrize("taken", [True, False])
async def test_only_a_key_that_campaign_names_as_taken_shows_that_keys_are_unique(taken: bool) -> None:
    push = Push([TAKEN if taken else BARE], exists=True)
    await push.deliver(contact())
    assert push.records.addressing.findings.get(KEY_UNIQUE) == ("yes" if taken else None)


async def test_a_key_that_is_taken_and_not_found_does_not_show_that_keys_are_unique() -> None:
    push = Push([TAKEN, INVALID])
    assert (await push.deliver(contact())).reason == "email '…' is not valid"
    assert KEY_UNIQUE not in push.records.addressing.findings


@pytest.mark.parametrize(
    ("attempts", "wait"), [(0, 1.0), (1, 3.0), (2, 9.0), (6, 729.0), (9, 14_400.0), (999, 14_400.0)]
)
async def test_an_answer_that_names_no_cause_is_followed_by_another_attempt_after_a_growing_wait(
    attempts: int, wait: float
) -> None:
    delivered = await Push([BARE]).deliver(contact("update", attempts=attempts))
    assert (delivered.result, delivered.wait) == ("later", wait)
    assert delivered.reason == (
        f"{BOILERPLATE} Campaign named no cause; open the record in Campaign, check e-mail and lengths."
    )
    named = await Push([Response(500, {}, b"deadlock detected")]).deliver(contact("update", attempts=attempts))
    assert (named.result, named.reason, named.wait) == ("later", "deadlock detected", wait)


@pytest.mark.parametrize(
    ("push", "record", "reason"),
    [
        (Push([INVALID]), contact(), "email '…' is not valid"),
        (
            Push([INVALID]),
            contact("update", payload="{}", update_payload='{"email":"ada@example.org"}'),
            "email '…' is not valid",
        ),
        (Push([TAKEN]), contact(), "A record with this key already exists"),
        (
            Push(),
            contact(payload=None),
            "The ledger holds nothing to send for this record: replay the table with --force.",
        ),
        *(
            (
                Push(key_works=False),
                contact(operation),
                "Campaign finds neither this record of profile nor others that it took before by externalId. Is it the "
                "identification key? `sync-assets doctor` asks; then `sync-assets retry`. If the records were deleted "
                "there, begin with a new ledger.",
            )
            for operation in ("update", "delete")
        ),
    ],
)
async def test_a_rejection_names_its_reason_without_values(push: Push, record: Claimed, reason: str) -> None:
    delivered = await push.deliver(record)
    assert (delivered.result, delivered.reason) == ("refused", reason)


@pytest.mark.parametrize(
    ("answer", "requires_parent", "hidden"),
    [
        (TAKEN, True, True),
        (Response(500, {}, TAKEN.body + b" in the table" * 40), True, True),  # too long to be stored whole
        (TAKEN, False, False),
        (BARE, True, False),
    ],
)
async def test_a_record_whose_key_is_taken_and_not_found_is_perhaps_hidden_if_it_requires_a_parent(
    answer: Response, requires_parent: bool, hidden: bool
) -> None:
    delivered = await Push([answer], requires_parent=requires_parent).deliver(contact())
    assert (delivered.reason or "").startswith(
        "Perhaps Campaign hides this record, since its link led to a record that is gone: publish the link with "
        "cardinality 0 or 1, or delete the record in Campaign; then `sync-assets retry`."
    ) == hidden


@pytest.mark.parametrize("value", ["1", "record", "hides"])
async def test_a_sentence_of_ours_is_not_masked_where_it_has_a_value_of_the_record(value: str) -> None:
    record = contact(payload=json.dumps({"externalId": ADA, "count": value}))
    answer = Response(500, {}, TAKEN.body + f" {value}".encode())
    reason = (await Push([answer], requires_parent=True).deliver(record)).reason or ""
    ours, _, campaigns = reason.partition("`sync-assets retry`. ")
    assert ours.startswith("Perhaps Campaign hides this record, since its link")
    assert "with cardinality 0 or 1, or delete the record" in ours
    assert campaigns.endswith("…")


async def test_a_record_that_is_found_without_a_pkey_has_none() -> None:
    listed = Response(200, {}, json.dumps({"content": [{"externalId": ADA, "href": "profile/1"}]}).encode())
    delivered = await Push([listed], found=NOT_IN_URL, filter=BY_KEY).deliver(contact("update", payload="{}"))
    assert (delivered.operation_done, delivered.pkey) == ("updated", "")


@pytest.mark.parametrize(
    ("push", "record", "sent"),
    [
        (Push(exists=True), contact("update", update_payload='{"email":"u"}'), [{"email": "u"}]),
        (Push(exists=True), contact("update"), [{"email": "ada@example.org"}]),
        # What turns out to be an update is the first load of the record all the same.
        (
            Push(exists=True),
            contact(outcome_unknown=True, update_payload='{"city":"u"}'),
            [{"email": "ada@example.org"}],
        ),
        # What turns out to be an insert needs all fields.
        (
            Push(),
            contact("update", update_payload='{"email":"u"}'),
            [{"email": "u"}, {"externalId": ADA, "email": "ada@example.org"}],
        ),
    ],
)
async def test_the_content_of_a_request_follows_from_the_claim(push: Push, record: Claimed, sent: list[Any]) -> None:
    await push.deliver(record)
    assert push.bodies == sent
