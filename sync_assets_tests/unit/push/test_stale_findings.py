"""What was found out of Campaign and holds no more, or was concluded from an answer that proves nothing."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sync_assets.campaign.addressing import (
    DELETE_ANSWER,
    KEY,
    KEY_FOUND,
    KEY_IN_DELETE,
    KEY_IN_URL,
    KEY_UNIQUE,
    today,
)
from sync_assets.campaign.first_requests import DELETES_TRUSTED
from sync_assets.http.transport import OutcomeUnknown, Response
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Claimed
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.dispatcher import push
from sync_assets.push.target import Target
from sync_assets_tests.support.ledgers import capture, guid, row, session_of
from sync_assets_tests.unit.ledger.linking import sent
from sync_assets_tests.unit.push.little_campaign import BARE, CONTACT, Answers, LittleCampaign
from sync_assets_tests.unit.push.little_campaign import BY_KEY as BY_FILTER
from sync_assets_tests.unit.push.one_delivery import deliver

ADA = "11111111-1111-1111-1111-111111111111"
BERT = "22222222-2222-2222-2222-222222222222"
BY_KEY = {KEY_IN_URL: "yes", KEY_IN_DELETE: "yes"}


@pytest.fixture
def campaign() -> LittleCampaign:
    return LittleCampaign(profile="externalId")


async def key_works(*_: object) -> bool:
    return True


def ignores_keys(*keys: str) -> Answers:
    """Return answers of a Campaign that accepts a DELETE by these keys and does nothing."""
    return lambda operation, path: (
        Response(204, {}, b"") if operation == "delete" and path.rpartition("/")[2] in keys else None
    )


def claimed(operation: str, id_: str = ADA) -> Claimed:
    payload = None if operation == "delete" else f'{{"externalId":"{id_}","n":1}}'
    return Claimed(1, id_, operation, payload, None, b"h", 0, False)  # pyright: ignore[reportArgumentType]


async def test_a_delete_by_a_key_that_is_taken_no_more_goes_by_the_filter(campaign: LittleCampaign) -> None:
    """As after a move to Campaign v8, which answers 404: it must not count as gone already."""
    campaign.holds("profile", ADA)
    campaign.holds("profile", BERT)
    campaign.keys_in_urls = set()
    records = campaign.of("profile", BY_KEY)
    delivery = await deliver(claimed("delete"), records, key_works)
    assert (delivery.result, delivery.operation_done) == ("done", "deleted")
    assert not campaign.by_key("profile", ADA)
    assert campaign.by_key("profile", BERT)
    assert (records.addressing.key_in_url, records.addressing.key_in_delete) == (False, False)


async def test_deletes_alone_may_take_no_key_any_more(campaign: LittleCampaign) -> None:
    campaign.holds("profile", ADA)
    campaign.keys_in_urls = {"read", "update"}
    records = campaign.of("profile", BY_KEY)
    records.addressing.found_by_key()
    delivery = await deliver(claimed("delete"), records, key_works)
    assert delivery.result == "done"
    assert not campaign.by_key("profile", ADA)
    assert (records.addressing.key_in_url, records.addressing.key_in_delete) == (True, False)


async def test_the_first_delete_by_a_key_is_verified_whatever_its_answer_is_like(campaign: LittleCampaign) -> None:
    """That form of an answer was seen to be true of a delete by the PKey."""
    campaign.holds("profile", ADA)
    campaign.answers = lambda operation, path: Response(204, {}, b"") if operation == "delete" else None
    records = campaign.of("profile", {KEY_IN_URL: "yes", DELETE_ANSWER: "204 -"})
    with pytest.raises(OutcomeUnknown):
        await records.delete(ADA)
    assert records.addressing.key_in_delete is None


async def test_a_delete_is_verified_again_on_another_day(campaign: LittleCampaign) -> None:
    """A gateway that answers every DELETE with 204 may have come between."""
    known = {KEY_IN_URL: "yes", KEY_IN_DELETE: "yes", DELETE_ANSWER: "204 - 2026-11-01"}
    records = campaign.of("profile", known, filter=None)
    for id_ in (ADA, BERT):
        campaign.holds("profile", id_)
        assert (await records.delete(id_)).kind == "done"
    assert [operation for operation, _ in campaign.log] == ["delete", "read", "delete"]
    campaign.holds("profile", ADA)
    campaign.answers = lambda operation, path: Response(204, {}, b"") if operation == "delete" else None
    with pytest.raises(OutcomeUnknown):
        await campaign.of("profile", known).delete(ADA)


async def test_all_deletes_of_a_push_count_until_the_next_one_is_verified(campaign: LittleCampaign) -> None:
    records = campaign.of("profile", BY_KEY, filter=None)
    for n in range(DELETES_TRUSTED + 2):
        campaign.holds("profile", f"{n:08d}-1111-1111-1111-111111111111")
    for n in range(DELETES_TRUSTED + 2):
        worker = replace(records)
        assert (await worker.delete(f"{n:08d}-1111-1111-1111-111111111111")).kind == "done"
    assert Counter(operation for operation, _ in campaign.log) == {"delete": DELETES_TRUSTED + 2, "read": 2}


@pytest.mark.parametrize("known", [{}, {KEY_IN_DELETE: "yes", DELETE_ANSWER: "204 -"}])
async def test_a_record_that_outlives_a_delete_by_the_key_is_deleted_by_its_pkey_like_all_after_it(
    campaign: LittleCampaign, known: dict[str, str]
) -> None:
    """Whether it is the first delete of all or the first of a day: Campaign accepts the key, and deletes nothing."""
    campaign.answers = ignores_keys(ADA, BERT)
    records = campaign.of("profile", {KEY_IN_URL: "yes", **known}, filter=None)
    for id_ in (ADA, BERT):
        campaign.holds("profile", id_)
        assert (await records.delete(id_)).kind == "done"
        assert not campaign.by_key("profile", id_)
    asked = [operation for operation, _ in campaign.log]
    assert asked == ["delete", "read", "read", "delete", "read", "read", "delete"], "two calls again, one verified"
    assert records.addressing.news[KEY_IN_DELETE] == "no", "for other workers, too"


async def test_the_first_survivor_has_the_deletes_before_it_verified(campaign: LittleCampaign) -> None:
    """Campaign took the key in the morning. An upgrade later it accepts a DELETE by it, and deletes nothing."""
    ids = [f"{n:08d}-1111-1111-1111-111111111111" for n in range(DELETES_TRUSTED + 3)]
    records = campaign.of("profile", BY_KEY, filter=None)
    for id_ in ids:
        campaign.holds("profile", id_)
    for n, id_ in enumerate(ids):
        if n == 10:
            campaign.answers = ignores_keys(*ids)
        if n == DELETES_TRUSTED:  # a row came back: its profile is a new one
            records.first.settle_delete(ids[20])
            assert campaign.by_key("profile", ids[20])
        assert (await records.delete(id_)).kind == "done"
    left = [id_ for id_ in ids if campaign.by_key("profile", id_)]
    assert left == [ids[20]]
    assert Counter(operation for operation, _ in campaign.log) == {
        "delete": DELETES_TRUSTED + 3 + 41 + 1,  # by the key; by the PKeys of those before, and of the survivor
        "read": 2 + DELETES_TRUSTED + 41 + 1,  # samples, those before, again after each DELETE, the survivor
    }


async def test_a_survivor_is_remembered_even_if_its_delete_by_the_pkey_fails(campaign: LittleCampaign) -> None:
    campaign.holds("profile", ADA)
    campaign.answers = lambda operation, path: Response(204, {}, b"") if operation == "delete" else None
    records = campaign.of("profile", {**BY_KEY, DELETE_ANSWER: f"204 - {today()}"})
    records.first.trusted = ["x"] * DELETES_TRUSTED
    with pytest.raises(OutcomeUnknown):
        await records.delete(ADA)
    assert records.addressing.news == {DELETE_ANSWER: "204 -"}, "another worker verifies its next delete"
    assert not records.addressing.deletes_known


async def test_a_delete_by_key_that_fails_twice_without_a_reason_is_not_tried_again(campaign: LittleCampaign) -> None:
    """The first failure may have passed by the time of the DELETE by the PKey."""
    campaign.answers = lambda operation, path: (
        BARE if operation == "delete" and path.rpartition("/")[2] in (ADA, BERT) else None
    )
    result = {KEY_IN_URL: "yes"}
    calls: list[int] = []
    for _ in range(4):
        campaign.holds("profile", ADA)
        records = campaign.of("profile", result)
        before = len(campaign.log)
        assert (await records.delete(ADA)).kind == "done"
        calls.append(sum(operation == "delete" for operation, _ in campaign.log[before:]))
        result = dict(records.addressing.findings)
    assert calls == [2, 2, 1, 1]


async def test_a_record_that_campaign_refuses_to_delete_proves_nothing_about_keys(campaign: LittleCampaign) -> None:
    campaign.holds("profile", ADA)
    violated = Response(500, {}, b"RST-360011\nviolates foreign key constraint")
    campaign.answers = lambda operation, path: violated if operation == "delete" else None
    records = campaign.of("profile", {KEY_IN_URL: "yes"})
    assert (await records.delete(ADA)).kind == "refused"
    assert records.addressing.key_in_delete is None


async def test_a_bare_error_may_be_the_answer_to_a_key_in_the_url(campaign: LittleCampaign) -> None:
    """Campaign v8 says no more; the filter finds the record, and after some of them the key is not tried any more."""
    campaign.holds("profile", ADA)
    campaign.keys_in_urls, campaign.untaken = set(), lambda name: BARE
    records = campaign.of("profile")
    for _ in range(4):
        assert (await deliver(claimed("update"), records, key_works)).result == "done"
    assert campaign.by_key("profile", ADA)[0]["n"] == 1
    assert [operation for operation, _ in campaign.log] == [*["update", "read", "update"] * 3, "read", "update"]
    assert (await deliver(claimed("delete"), records, key_works)).result == "done"
    assert not campaign.by_key("profile", ADA)


async def test_one_bare_error_that_passes_is_no_finding(campaign: LittleCampaign) -> None:
    campaign.holds("profile", ADA)
    errors = iter([BARE])
    campaign.answers = lambda operation, path: next(errors, None)
    records = campaign.of("profile")
    for _ in range(2):
        assert (await deliver(claimed("update"), records, key_works)).result == "done"
    assert records.addressing.key_in_url is True


async def test_a_post_that_fails_without_a_reason_and_makes_the_record_does_not_prove_the_key_unique(
    campaign: LittleCampaign,
) -> None:
    def answers(operation: str, path: str) -> Response | None:
        if operation == "insert":
            campaign.holds("profile", ADA)
            return BARE
        return None

    campaign.answers = answers
    records = campaign.of("profile")
    assert (await deliver(claimed("insert"), records, key_works)).result == "done"
    assert KEY_UNIQUE not in records.addressing.findings


async def test_whether_the_key_works_is_asked_again_after_a_question_without_an_answer(
    campaign: LittleCampaign, tmp_path: Path
) -> None:
    """Else every record that Campaign does not find would be refused."""
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, row("anna"), row("bert"), row("carl"))
        sent(ledger)
        campaign.holds("profile", guid("carl"))
        capture(ledger, deleted=["anna", "bert"], complete=True)
        lost = iter([OutcomeUnknown("the connection was cut", "")])

        def answers(operation: str, path: str) -> Exception | None:
            return next(lost, None) if guid("carl") in path else None

        campaign.answers = answers
        target = Target(CONTACT.model_copy(update={"filter": BY_FILTER}))
        result = await push(ClaimedRecords(ledger, target, session_of(ledger, "one")), campaign, concurrency=1)
        assert (result.rejected, list(ledger.reports.rejects())) == (0, [])
        assert result.deleted == 2


@pytest.mark.parametrize("answer", [BARE, Response(200, {}, b'{"PKey": "@9", "externalId": "of another"}')])
async def test_no_further_record_proves_a_key_by_which_campaign_finds_none(
    campaign: LittleCampaign, tmp_path: Path, answer: Response
) -> None:
    """The second answer is that of a key in place of which another attribute identifies records, with the same id."""
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, row("anna"))
        sent(ledger)
        ledger.dialect.note("profile", {KEY: "externalId", KEY_FOUND: "no"})
        capture(ledger, row("bert"))
        campaign.answers = lambda operation, path: answer if operation == "read" else None
        result = await push(ClaimedRecords(ledger, Target(CONTACT), session_of(ledger, "one")), campaign)
        assert (result.inserted, result.stopped is None) == (0, False)
