"""The links of a delivery: how they are sent, and the read-back of the first one, which may fail or come late."""

import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_assets.campaign.addressing import KEY, KEY_FOUND
from sync_assets.campaign.client import BudgetSpent
from sync_assets.config.models import LinkConfig, TableConfig
from sync_assets.http.transport import NotSent, OutcomeUnknown, Response
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Claimed, LinkTo
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.delivery_result import Delivery
from sync_assets.push.dispatcher import push
from sync_assets.push.record_links import KEY_IN_LINK, Links, LinkTarget
from sync_assets.push.target import Target
from sync_assets.runtime.pkeys import ParentKeys
from sync_assets_tests.support.ledgers import capture, guid, record, row, session_of
from sync_assets_tests.unit.ledger.linking import OPTIONAL, order, sent
from sync_assets_tests.unit.push.little_campaign import BARE, CONTACT, LittleCampaign
from sync_assets_tests.unit.push.one_delivery import INSERTED, INVALID, KNOWN, ORDER, TAKEN, UPDATED, deliver

ADA = "11111111-1111-1111-1111-111111111111"
TO_CONTACT = LinkConfig(field="new_contactid", to="cusContact", table="contact")
LINK = LinkTarget(TO_CONTACT, CONTACT, required=False)
ORDERS = TableConfig(table="order", resource="cusOrder", key="cusId")
KEYED = LinkTo("cusContact", ADA, keyed=True, parent=(1, 1))


@pytest.fixture
def campaign() -> LittleCampaign:
    return LittleCampaign(profile="externalId", cusOrder="cusId")


async def key_works(*_: object) -> bool:
    return True


class LinkedPush:
    """An order whose contact stands in Campaign under `pkey`.

    again: links that were not kept, for which earlier records are sent again. fails: raised in place of that.
    """

    def __init__(self, answers: Sequence[Response] = (), *, links_by_key: str = "resolved") -> None:
        self.campaign = LittleCampaign(profile="externalId", cusOrder="cusId")
        self.campaign.links_by_key = links_by_key
        self.pkey = self.campaign.holds("profile", ADA)
        remaining = iter(answers)
        self.campaign.answers = lambda operation, path: next(remaining, None)
        self.parents = self.campaign.of("profile", KNOWN, filter=None)
        self.orders = self.campaign.of("cusOrder", KNOWN, filter=None)
        if links_by_key == "empty":
            self.parents.addressing.note(KEY_IN_LINK, "empty")
        self.again: list[str] = []
        self.fails: Exception | None = None
        links = [LINK, replace(LINK, link=TO_CONTACT.model_copy(update={"to": "cusOther"}))]
        self.known = ParentKeys()
        self.links = Links(links, {"profile": self.parents}, self.known, self.send_again)

    async def send_again(self, attribute: str) -> None:
        if self.fails:
            raise self.fails
        self.again.append(attribute)

    async def deliver(self, operation: str = "insert", *links: LinkTo) -> Delivery:
        payload, sent = f'{{"cusId":"{ORDER}","n":1}}', links or (KEYED,)
        record = Claimed(1, ORDER, operation, payload, None, b"h", 0, False, sent)  # pyright: ignore[reportArgumentType]
        return await deliver(record, self.orders, key_works, self.links)

    @property
    def finding(self) -> str | None:
        return self.parents.addressing.findings.get(KEY_IN_LINK)

    def linked(self) -> dict[str, str] | None:
        [order] = self.campaign.by_key("cusOrder", ORDER)
        return order["cusContact"]

    @property
    def requests(self) -> str:
        return " ".join(f"{operation} {path.split('/')[1]}" for operation, path in self.campaign.log)


REFUSED_LINK = Response(404, {}, f"Unable to find document with path 'profile' from key '{ADA}'".encode())


HELD_LINK = KEYED._replace(acknowledged=True)
DEADLOCK = Response(500, {}, f"deadlock detected {ADA}".encode())
ONCE, TWICE = "insert cusOrder", "insert cusOrder read profile insert cusOrder read cusOrder"


@pytest.mark.parametrize(
    ("push", "operation", "link", "result", "requests"),
    [
        # A record whose link by the parent's key is refused is sent once more by the PKey.
        (LinkedPush([REFUSED_LINK]), "insert", KEYED, INSERTED, TWICE),
        (LinkedPush([INVALID]), "insert", KEYED, ("refused", None), ONCE),
        # One that Campaign may take later is neither sent once more nor read back.
        (LinkedPush([DEADLOCK] * 2), "update", KEYED, ("later", None), "update cusOrder"),
        (LinkedPush(), "update", HELD_LINK, UPDATED, "update cusOrder"),
        # The PKey is looked up where Campaign does not resolve keys.
        (LinkedPush(links_by_key="empty"), "update", KEYED, UPDATED, "read profile update cusOrder read cusOrder"),
    ],
)
async def test_the_requests_of_a_delivery_with_a_link(
    push: LinkedPush, operation: str, link: LinkTo, result: tuple[str, str | None], requests: str
) -> None:
    if operation == "update":
        push.campaign.holds("cusOrder", ORDER)
    delivered = await push.deliver(operation, link)
    assert (delivered.result, delivered.operation_done) == result
    assert push.requests == requests
    assert "read" not in requests or push.linked() == {"PKey": push.pkey}


@pytest.mark.parametrize(("operation", "exists"), [("insert", False), ("update", True), ("insert", True)])
async def test_the_links_of_the_first_record_are_read_back_and_of_the_second_not(operation: str, exists: bool) -> None:
    push = LinkedPush([TAKEN] if operation == "insert" and exists else [])
    if exists:
        push.campaign.holds("cusOrder", ORDER)
    assert (await push.deliver(operation)).result == "done"
    assert push.requests.endswith("read cusOrder read profile") or push.requests.endswith("read cusOrder")
    push.campaign.log.clear()
    assert (await push.deliver("update")).result == "done"
    assert push.requests == "update cusOrder"


async def test_a_record_that_is_made_again_is_read_back_only_if_its_links_were_not_verified() -> None:
    push = LinkedPush()
    await push.deliver()
    push.campaign.records["cusOrder"].clear()
    push.campaign.log.clear()
    assert (await push.deliver("update", HELD_LINK)).operation_done == "inserted"
    assert push.requests == "update cusOrder insert cusOrder"


async def test_an_unverified_link_that_is_not_sent_is_not_read_back() -> None:
    push = LinkedPush()
    await push.deliver()
    push.campaign.log.clear()
    await push.deliver("update", KEYED, LinkTo("cusOther", ADA, keyed=True, acknowledged=True))
    assert push.requests == "update cusOrder"


async def test_a_link_whose_parent_campaign_lost_is_not_sent() -> None:
    push = LinkedPush(links_by_key="empty")
    push.campaign.records["profile"].clear()
    delivered = await push.deliver()
    assert delivered.result == "refused"
    assert (delivered.reason or "").startswith(f"Campaign no longer holds contact {ADA}, to which cusContact leads. ")
    assert push.requests == "read profile"


@pytest.mark.parametrize("resource", ["cusOrder", "profile"])
async def test_a_read_back_that_fails_is_no_finding(resource: str) -> None:
    """The record was taken, so its outcome is unknown: it must not count as never sent."""
    push, failing = LinkedPush(), f"{CONTACT.api}/{resource}/"
    push.campaign.answers = lambda operation, path: BARE if operation == "read" and path.startswith(failing) else None
    with pytest.raises(OutcomeUnknown):
        await push.deliver()
    assert (push.finding, push.again) == (None, [])
    assert len(push.campaign.by_key("cusOrder", ORDER)) == 1


async def test_a_link_that_is_empty_is_noted_after_the_earlier_ones_are_to_be_sent_again() -> None:
    """Else they stay empty for ever if the ledger fails in between."""
    push = LinkedPush()
    push.campaign.links_by_key = "empty"
    push.fails = RuntimeError("the ledger is locked")
    with pytest.raises(RuntimeError):
        await push.deliver()
    assert push.finding is None
    push.fails = None
    assert (await push.deliver("update")).result == "done"
    assert (push.finding, push.again) == ("empty", ["cusContact"])


async def test_a_parent_that_campaign_lost_is_no_finding() -> None:
    push = LinkedPush([REFUSED_LINK])
    push.campaign.records["profile"].clear()
    push.parents.addressing.note(KEY_IN_LINK, "resolved")
    delivered = await push.deliver()
    assert (delivered.result, push.finding) == ("refused", "resolved")
    assert (delivered.reason or "").startswith("Campaign no longer holds contact ")


@pytest.mark.parametrize("parent", ["has another one", "has it", "is gone"])
async def test_a_pkey_in_memory_that_campaign_refuses_is_looked_up(parent: str) -> None:
    push = LinkedPush([Response(404, {}, b"Unable to find document from key '@FORMER'")], links_by_key="empty")
    push.known.remember((1, 1), "@former")
    [profile] = push.campaign.records["profile"].values()
    profile |= {"PKey": "@former"} if parent == "has it" else {}
    if parent == "is gone":
        push.campaign.records["profile"].clear()
    delivered = await push.deliver()
    again = parent == "has another one"
    assert delivered.result == ("done" if again else "refused")
    assert ("no longer holds" in (delivered.reason or "")) == (parent == "is gone")
    assert push.requests == (TWICE if again else "insert cusOrder read profile")
    assert push.finding == "empty"


@pytest.mark.parametrize("stands", [True, False])
async def test_a_key_that_campaign_refuses_is_not_replaced_by_the_pkey_if_the_style_is_key(stands: bool) -> None:
    push = LinkedPush([REFUSED_LINK])
    by_key = replace(LINK, link=TO_CONTACT.model_copy(update={"style": "key"}))
    push.links = Links([by_key], {"profile": push.parents}, push.known, push.send_again)
    if not stands:
        push.campaign.records["profile"].clear()
    delivered = await push.deliver()
    assert (delivered.result, "no longer holds" in (delivered.reason or "")) == ("refused", not stands)
    assert push.requests == "insert cusOrder read profile"


async def test_a_record_that_is_made_again_is_read_back() -> None:
    """Its links count as held, as they were in the record that Campaign lost."""
    push = LinkedPush()
    push.campaign.links_by_key = "empty"
    assert (await push.deliver("update", HELD_LINK)).operation_done == "inserted"
    assert push.linked() == {"PKey": push.pkey}


ENDS = [BudgetSpent("day"), NotSent("no connection", "")]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
async def test_a_push_that_ends_between_a_post_and_its_read_back_does_not_forget_the_post(
    campaign: LittleCampaign, tmp_path: Path, end: Exception
) -> None:
    """Where the key identifies nothing, a record that counts as never sent would be made a second time."""
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, row("anna"))
        sent(ledger)
        order(ledger, "anna", link=OPTIONAL)
        campaign.holds("profile", guid("anna"))
        campaign.answers = lambda operation, path: end if operation == "read" else None
        await push(
            ClaimedRecords(ledger, Target(ORDERS, links=(LINK,)), session_of(ledger, uuid.uuid4().hex)), campaign
        )
        assert len(campaign.records["cusOrder"]) == 1
        assert record(ledger, "order").outcome_unknown == 1


async def test_a_link_whose_parent_could_not_be_read_is_sent_once_more_and_then_verified(
    campaign: LittleCampaign, tmp_path: Path
) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, row("anna"))
        order(ledger, None, link=OPTIONAL)
        sent(ledger)
        sent(ledger, "order")
        campaign.holds("profile", guid("anna"))
        campaign.holds("cusOrder", guid("order"))
        order(ledger, "anna", link=OPTIONAL)
        requests: list[str] = []
        for refused in (NotSent("no token", ""), None, None):
            parent = f"{CONTACT.api}/profile/"
            campaign.answers = lambda _, path, end=refused, of=parent: end if path.startswith(of) else None
            campaign.log.clear()
            await push(ClaimedRecords(ledger, Target(ORDERS, links=(LINK,)), session_of(ledger)), campaign)
            requests.append(" ".join(f"{operation} {path.split('/')[1]}" for operation, path in campaign.log))
        assert requests == ["update cusOrder read cusOrder read profile"] * 2 + [""]


async def test_findings_about_another_key_are_forgotten(campaign: LittleCampaign, tmp_path: Path) -> None:
    """Else some of them would be taken for the new key's once one of that is stored."""
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.dialect.note("profile", {KEY: "cusOldId", "key_unique": "yes", "key_in_delete": "yes"})
        await push(ClaimedRecords(ledger, Target(CONTACT), session_of(ledger, uuid.uuid4().hex)), campaign)
        assert ledger.dialect.facts("profile") == {}


async def test_a_killed_push_does_not_send_the_links_that_it_had_mended_again(
    campaign: LittleCampaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finding is stored before the outcomes that rely on it, else the next push finds it out at their expense."""
    killed = tmp_path / "killed.db"
    campaign.holds("profile", guid("anna"))
    campaign.links_by_key = "empty"
    target = Target(ORDERS, links=(LINK,))
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, row("anna"))
        sent(ledger)
        ledger.dialect.note("cusOrder", {KEY: "cusId", KEY_FOUND: "yes"})
        order(ledger, "anna", link=OPTIONAL)
        stored = ledger.claims.acknowledge

        def stored_then_killed(session: int, outcomes: Any, calls: Any) -> object:
            result = stored(session, outcomes, calls)
            if outcomes and not killed.exists():
                with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
                    connection.execute(f"VACUUM INTO '{killed}'")
            return result

        monkeypatch.setattr(ledger.claims, "acknowledge", stored_then_killed)
        await push(ClaimedRecords(ledger, target, session_of(ledger)), campaign)
    before = len(campaign.log)
    with Ledger.open(f"sqlite:///{killed}") as ledger:
        order(ledger, "anna", link=OPTIONAL, name="second")
        await push(ClaimedRecords(ledger, target, session_of(ledger, uuid.uuid4().hex)), campaign)
    assert "update" not in [operation for operation, _ in campaign.log[before:]]
