"""Inserts of a table whose key is not proven: one at a time, and a few at once after rejected ones. Time in steps.

The first one is read back.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sync_assets.campaign.addressing import HIDDEN, HIDES, KEY, KEY_FOUND, KEY_IN_URL
from sync_assets.campaign.client import BudgetSpent
from sync_assets.campaign.dialect import Operation
from sync_assets.campaign.first_requests import PROOFS, REJECTED
from sync_assets.campaign.records import Records
from sync_assets.http.transport import NotSent, Response, SignInRefused, Unavailable
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Claimed, State
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.delivery_result import Delivery, outcome
from sync_assets.push.dispatcher import push
from sync_assets.push.target import PushStopped, Target
from sync_assets_tests.support.ledgers import capture, guid, record, row, session_of
from sync_assets_tests.unit.push.little_campaign import BARE, BY_KEY, CONTACT, LittleCampaign, absent
from sync_assets_tests.unit.push.one_delivery import (
    ABSENT,
    ADA,
    BOILERPLATE,
    INSERTED,
    INVALID,
    LOST,
    ORDER,
    TAKEN,
    UPDATED,
    Push,
    contact,
    deliver,
)


class SlowCampaign(LittleCampaign):
    """Answers all requests in flight at the next step. in_flight: the highest number of them."""

    def __init__(self) -> None:
        super().__init__(profile="externalId")
        self.steps = self.in_flight = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def call(self, operation: Operation, path: str, body: bytes | None = None, **more: Any) -> Response:
        self._waiting.append(asked := asyncio.get_running_loop().create_future())
        await asked
        return await super().call(operation, path, body, **more)

    async def run(self, tasks: list[asyncio.Task[Delivery]]) -> list[Delivery]:
        while not all(task.done() for task in tasks):
            for _ in range(len(tasks)):  # let each task send its next request
                await asyncio.sleep(0)
            self.in_flight = max(self.in_flight, len(self._waiting))
            self.steps += bool(self._waiting)
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.set_result(None)
        return [task.result() for task in tasks]


async def deliver_all(campaign: SlowCampaign, records: Records, number: int) -> list[Delivery]:
    """Deliver new records, all at once as far as the delivery lets them."""
    claimed = [
        Claimed(n, f"id-{n}", "insert", json.dumps({"externalId": f"id-{n}"}), None, b"h", 0, False)
        for n in range(number)
    ]
    return await campaign.run([asyncio.create_task(deliver(one, records, works)) for one in claimed])


async def works(records: Records, id_: str) -> bool:
    return False


async def test_rejected_inserts_do_not_go_one_at_a_time_for_ever() -> None:
    campaign = SlowCampaign()
    campaign.answers = lambda operation, path: INVALID
    records = campaign.of("profile", filter=None)
    done = await deliver_all(campaign, records, 200)
    assert {one.result for one in done} == {"refused"}
    assert [operation for operation, _ in campaign.log] == ["insert"] * 200
    assert campaign.in_flight == PROOFS
    assert campaign.steps == REJECTED + -(-(200 - REJECTED) // PROOFS)
    assert records.addressing.needs_proof


@pytest.mark.parametrize("rejected", [0, REJECTED - 1, REJECTED, 50])
async def test_a_key_that_identifies_nothing_costs_few_records_after_rejected_ones(rejected: int) -> None:
    campaign = SlowCampaign()
    campaign.keys_in_urls = set()
    inserts = iter(range(1000))
    campaign.answers = lambda operation, path: INVALID if operation == "insert" and next(inserts) < rejected else None
    done = await deliver_all(campaign, campaign.of("profile", filter=None), 200)
    made = len(campaign.records["profile"])
    assert 1 <= made <= (1 if rejected < REJECTED else PROOFS)
    assert [one.result for one in done].count("refused") == rejected
    assert all(one.stop for one in done if one.result != "refused")


async def test_once_a_record_is_found_all_go_at_once() -> None:
    campaign = SlowCampaign()
    inserts = iter(range(1000))
    campaign.answers = lambda operation, path: INVALID if operation == "insert" and next(inserts) < 50 else None
    records = campaign.of("profile", filter=None)
    done = await deliver_all(campaign, records, 200)
    assert [one.result for one in done].count("done") == 150
    assert not any(one.stop for one in done)
    assert records.addressing.findings[KEY_FOUND] == "yes"
    assert campaign.in_flight > 100
    assert sum(operation == "read" for operation, _ in campaign.log) <= PROOFS


async def test_an_answer_that_names_no_cause_does_not_let_others_go_at_once() -> None:
    """Such an insert may have made its record."""
    campaign = SlowCampaign()
    campaign.answers = lambda operation, path: BARE if operation == "insert" else None
    await deliver_all(campaign, campaign.of("profile", filter=None), 20)
    assert campaign.in_flight == 1


UNPROVEN, NOT_FOUND = {KEY: "externalId"}, {KEY_FOUND: "no"}
NOT_SHOWN = [None, ABSENT, absent("@profile10")]
"""The record is inserted, and found neither by the key nor by its PKey."""
HIDES_ADA = HIDES.format("profile", "a_table", ADA)
WHOLE_LIST = Response(
    200, {}, json.dumps({"content": [{"externalId": id_, "PKey": id_} for id_ in (ADA, ORDER)]}).encode()
)
"""Campaign ignores an unknown parameter of a filter, and answers with all records."""


def not_found(cause: str, sent: str = ADA, others: str = "") -> str:
    return (
        f"Campaign does not find a record of profile by externalId, with which it was sent ({cause}). Make externalId "
        "an identification key of profile and publish, publish a filter on it and name it in `filter`, or name another "
        f"attribute as `key`. The record with {sent} in externalId was sent to find this out{others}; no other is "
        "sent. If `key` becomes another attribute, delete it in Campaign, and run `sync-assets sync --accept-mapping`."
    )


@pytest.mark.parametrize(
    ("push", "operation", "requests", "result", "finding", "stop"),
    [
        (Push(found=UNPROVEN), "insert", "insert read", INSERTED, "yes", None),
        (Push(found={KEY_IN_URL: "yes"}), "insert", "insert read", INSERTED, "yes", None),
        (Push([None, BARE, BARE], found=UNPROVEN), "insert", "insert read read read", INSERTED, "yes", None),
        # Campaign has answered the insert, whatever comes of reading it back; without access to read, no other is sent.
        *(
            (Push([None, failure], found=UNPROVEN), "insert", "insert read", INSERTED, None, None)
            for failure in (LOST, NotSent("no connection", ""), Unavailable("503", "", 503), PushStopped())
        ),
        *(
            (Push([None, failure], found=UNPROVEN), "insert", "insert read", INSERTED, None, str(failure))
            for failure in (BudgetSpent("day"), SignInRefused("Campaign refuses access: 403", "Check CAMPAIGN_URL"))
        ),
        # No proof is needed, or there is nothing to be found.
        (Push([TAKEN], exists=True, found=UNPROVEN), "insert", "insert update", UPDATED, "yes", None),
        (Push(found=UNPROVEN), "update", "update insert", INSERTED, None, None),
        (Push([INVALID], found=UNPROVEN), "insert", "insert", ("refused", None), None, None),
        # Campaign hides the record: no other is sent until it is shown.
        (Push(NOT_SHOWN, found=UNPROVEN), "insert", "insert read read", ("refused", None), None, HIDES_ADA),
        (Push([ABSENT], found={HIDDEN: ADA}), "insert", "read", ("later", None), None, HIDES_ADA),
        (Push(exists=True, found={HIDDEN: ADA}), "insert", "read insert read", INSERTED, "yes", None),
        # The key identifies nothing.
        (
            *(Push([None, *[BARE] * 3], found=UNPROVEN), "insert", "insert read read read", INSERTED, "no"),
            not_found(BOILERPLATE),
        ),
        (
            *(Push([None, ABSENT], found=UNPROVEN), "insert", "insert read read", INSERTED, "no"),
            not_found(f"Unable to find document with path 'x' from key '{ADA}'"),
        ),
        *(
            (
                *(Push([None, INVALID], found=UNPROVEN, rejected=rejected), "insert", "insert read", INSERTED, "no"),
                not_found("email '…' is not valid", others=others),
            )
            for rejected, others in ((2, ""), (3, ", and after rejected records up to 7 others"))
        ),
        (
            *(Push([None, ABSENT, WHOLE_LIST], found=UNPROVEN, filter=BY_KEY), "insert", "insert read read", INSERTED),
            *(
                "no",
                not_found(
                    "The filter byKey of profile finds records of other keys. Check that "
                    "key_parameter is its parameter and that it compares externalId."
                ),
            ),
        ),
        # It did not before: another record is sent only if an earlier one is found now.
        (Push(found=NOT_FOUND), "insert", "insert read", INSERTED, "yes", None),
        *(
            (push, "insert", "", ("later", None), "no", not_found("tried again", "its Dynamics 365 id"))
            for push in (Push(found=NOT_FOUND, key_works=False), Push(found=UNPROVEN, noted=NOT_FOUND))
        ),
    ],
)
@pytest.mark.usefixtures("waits")
async def test_the_first_insert_proves_that_the_key_finds_records(
    push: Push,
    operation: str,
    requests: str,
    result: tuple[str, str | None],
    finding: str | None,
    stop: str | None,
    waits: list[int],
) -> None:
    delivered = await push.deliver(contact(operation))
    assert " ".join(push.requests) == requests
    assert (delivered.result, delivered.operation_done, delivered.stop) == (*result, stop)
    assert push.records.addressing.findings.get(KEY_FOUND) == finding
    hides = delivered.stop == HIDES_ADA
    assert push.records.addressing.findings.get(HIDDEN, "") == (ADA if hides else "")
    assert outcome(contact(operation), delivered).hidden == (hides and delivered.result == "refused")
    assert waits == ([0, 1] if requests.endswith("read read read") else [])


async def test_a_hidden_record_is_updated_and_not_inserted_once_more_when_it_is_shown_again(tmp_path: Path) -> None:
    """Where the key is not unique, Campaign would hold it twice."""
    campaign = LittleCampaign(profile="externalId")
    campaign.answers = lambda operation, path: absent(path.rpartition("/")[2]) if operation == "read" else None
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, row("anna"))
        await push(ClaimedRecords(ledger, Target(CONTACT), session_of(ledger)), campaign)
        assert (record(ledger, "anna").state, record(ledger, "anna").outcome_unknown) == (State.REJECTED, 1)
        [shown] = campaign.records["profile"].values()
        shown["externalId"] = guid("anna")
        campaign.answers = lambda operation, path: None
        ledger.claims.retry("contact")
        await push(ClaimedRecords(ledger, Target(CONTACT), session_of(ledger)), campaign)
        assert record(ledger, "anna").state == State.SYNCED
    assert [operation for operation, _ in campaign.log] == ["insert", "read", "read", "read", "update"]


async def test_an_insert_is_not_read_back_if_another_one_has_proven_the_key_meanwhile() -> None:
    push = Push(found=UNPROVEN)
    push.campaign.answers = lambda operation, path: push.records.addressing.note(KEY_FOUND, "yes")
    assert (await push.deliver(contact())).operation_done == "inserted"
    assert push.requests == ["insert"]
