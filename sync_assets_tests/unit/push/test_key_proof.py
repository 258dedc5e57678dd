"""Inserts of a table whose key is not proven: one at a time, and a few at once after rejected ones. Time in steps."""

import asyncio
import json
from typing import Any

import pytest

from sync_assets.campaign.addressing import KEY_FOUND, PROOFS, REJECTED
from sync_assets.campaign.dialect import Operation
from sync_assets.campaign.records import Records
from sync_assets.http.transport import Response
from sync_assets.ledger.model import Claimed
from sync_assets.push.delivery import Delivery, deliver
from sync_assets_tests.unit.push.little_campaign import BARE, LittleCampaign

INVALID = Response(500, {}, b"email 'ada@example.org' is not valid")


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
    return await campaign.run([asyncio.create_task(deliver(one, records, lambda: None, works)) for one in claimed])


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
