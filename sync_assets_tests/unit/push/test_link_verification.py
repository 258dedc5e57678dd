"""The read-back of a link that fails, or comes at another moment than usual: no conclusion, no record made twice."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sync_assets.campaign.addressing import KEY, KEY_FOUND, KEY_IN_URL
from sync_assets.campaign.client import BudgetSpent
from sync_assets.http.transport import NotSent, OutcomeUnknown, Response
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Claimed, LinkTo
from sync_assets.push.delivery import deliver
from sync_assets.push.dispatcher import Target, push
from sync_assets.push.record_links import KEY_IN_LINK, Links, LinkTarget
from sync_assets.runtime.parent_keys import ParentKeys
from sync_assets_tests.support.ledgers import capture, guid, record, row, session_of
from sync_assets_tests.unit.ledger.linking import OPTIONAL, order, sent
from sync_assets_tests.unit.push.little_campaign import API, BARE, LittleCampaign

ADA = "11111111-1111-1111-1111-111111111111"
ORDER = "22222222-2222-2222-2222-222222222222"
LINK = LinkTarget("cusContact", "contact", "profile", API, "externalId", required=False)


@pytest.fixture
def campaign() -> LittleCampaign:
    return LittleCampaign(profile="externalId", cusOrder="cusId")


def no_guard() -> None: ...


async def key_works(*_: object) -> bool:
    return True


class Sent:
    """The links of one push; `again`: links that were not kept, for which earlier records are sent again."""

    def __init__(self, campaign: LittleCampaign, key_in_link: str | None = None) -> None:
        self.again: list[str] = []
        found = {KEY_IN_URL: "yes"} | ({KEY_IN_LINK: key_in_link} if key_in_link else {})
        self.parents, self.orders = campaign.of("profile", found), campaign.of("cusOrder", {KEY_IN_URL: "yes"})
        self.fails: Exception | None = None
        self.links = Links([LINK], {"profile": self.parents}, ParentKeys(), self._send_again)

    async def _send_again(self, attribute: str) -> None:
        if self.fails:
            raise self.fails
        self.again.append(attribute)

    async def deliver(self, operation: str = "insert", *, held: bool = False) -> Any:
        link = LinkTo("cusContact", ADA, keyed=True, acknowledged=held, parent=(1, 1))
        payload = f'{{"cusId":"{ORDER}"}}'
        record = Claimed(1, ORDER, operation, payload, None, b"h", 0, False, (link,))  # pyright: ignore[reportArgumentType]
        return await deliver(record, self.orders, no_guard, key_works, self.links)

    @property
    def finding(self) -> str | None:
        return self.parents.addressing.findings.get(KEY_IN_LINK)


@pytest.mark.parametrize("resource", ["cusOrder", "profile"])
async def test_a_read_back_that_fails_is_no_finding(campaign: LittleCampaign, resource: str) -> None:
    """The record was taken, so its outcome is unknown: it must not count as never sent."""
    campaign.holds("profile", ADA)
    failing = f"{API}/{resource}/"
    campaign.answers = lambda operation, path: BARE if operation == "read" and path.startswith(failing) else None
    push = Sent(campaign)
    with pytest.raises(OutcomeUnknown):
        await push.deliver()
    assert (push.finding, push.again) == (None, [])
    assert len(campaign.by_key("cusOrder", ORDER)) == 1


async def test_a_link_that_is_empty_is_noted_after_the_earlier_ones_are_to_be_sent_again(
    campaign: LittleCampaign,
) -> None:
    """Else they stay empty for ever if the ledger fails in between."""
    campaign.holds("profile", ADA)
    campaign.links_by_key = "empty"
    push = Sent(campaign)
    push.fails = RuntimeError("the ledger is locked")
    with pytest.raises(RuntimeError):
        await push.deliver()
    assert push.finding is None
    push.fails = None
    assert (await push.deliver("update")).result == "done"
    assert (push.finding, push.again) == ("empty", ["cusContact"])


async def test_a_parent_that_campaign_lost_is_no_finding(campaign: LittleCampaign) -> None:
    refused = Response(404, {}, f"Unable to find document with path 'profile' from key '{ADA}'".encode())
    campaign.answers = lambda operation, path: refused if operation == "insert" else None
    push = Sent(campaign, "resolved")
    assert (await push.deliver()).result == "refused"
    assert push.finding == "resolved"


async def test_a_record_that_is_made_again_is_read_back(campaign: LittleCampaign) -> None:
    """Its links count as held, as they were in the record that Campaign lost."""
    pkey = campaign.holds("profile", ADA)
    campaign.links_by_key = "empty"
    push = Sent(campaign)
    assert (await push.deliver("update", held=True)).operation_done == "inserted"
    [made] = campaign.by_key("cusOrder", ORDER)
    assert made["cusContact"] == {"PKey": pkey}


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
        parent = Target("contact", "profile")
        target = Target("order", "cusOrder", key="cusId", links=(LINK,), parents=(parent,))
        await push(ledger, campaign, target, session=session_of(ledger, uuid.uuid4().hex))
        assert len(campaign.records["cusOrder"]) == 1
        assert record(ledger, "order").outcome_unknown == 1


async def test_findings_about_another_key_are_forgotten(campaign: LittleCampaign, tmp_path: Path) -> None:
    """Else some of them would be taken for the new key's once one of that is stored."""
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.dialect.note("profile", {KEY: "cusOldId", "key_unique": "yes", "key_in_delete": "yes"})
        await push(ledger, campaign, Target("contact", "profile"), session=session_of(ledger, uuid.uuid4().hex))
        assert ledger.dialect.findings("profile") == {}


async def test_a_killed_push_does_not_send_the_links_that_it_had_mended_again(
    campaign: LittleCampaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finding is stored before the outcomes that rely on it, else the next push finds it out at their expense."""
    killed = tmp_path / "killed.db"
    campaign.holds("profile", guid("anna"))
    campaign.links_by_key = "empty"
    target = Target("order", "cusOrder", key="cusId", links=(LINK,), parents=(Target("contact", "profile"),))
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
        await push(ledger, campaign, target, session=session_of(ledger))
    before = len(campaign.log)
    with Ledger.open(f"sqlite:///{killed}") as ledger:
        order(ledger, "anna", link=OPTIONAL, name="second")
        await push(ledger, campaign, target, session=session_of(ledger, uuid.uuid4().hex))
    assert "update" not in [operation for operation, _ in campaign.log[before:]]
