"""A push rehearsed on a scratch ledger: what it would do and cost if Campaign held what it acknowledged and took all.

The claims, the deliveries and the rules of what follows from them are those of a real push (delivery.py, ledger). Only
the client is another one: it sends nothing and says yes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import msgspec

from sync_assets.campaign.client import CallCounter, CampaignClient
from sync_assets.campaign.dialect import Operation
from sync_assets.campaign.records import Records, counted
from sync_assets.http import Answer, Guard, Observer
from sync_assets.ingress.delivery import Delivery, deliver, outcome
from sync_assets.ingress.target import Target
from sync_assets.ingress.workers import worker_id
from sync_assets.ledger import Claimed, Ledger, Outcome

BATCH = 1000
LEASE_SECONDS = 3600.0


class Marks:
    """A set of record numbers in a bit each: a first load may have thirty million."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def __len__(self) -> int:
        return int.from_bytes(self._bits, "little").bit_count()

    def set(self, number: int, marked: bool) -> None:
        at, bit = number >> 3, 1 << (number & 7)
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1 - len(self._bits)))
        self._bits[at] = self._bits[at] | bit if marked else self._bits[at] & ~bit


@dataclass(slots=True)
class Rehearsal:
    """What the pushes of one table would do: records by deed, engine calls by kind.

    uncertain: records whose last request went unanswered. What Campaign made of it is not known, so each of them may
    cost a call more or less than counted here. `settled` tells which records came to rest here.
    """

    target: Target
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    refused: int = 0
    uncertain: int = 0
    calls: Counter[str] = field(default_factory=Counter[str])
    settled: Marks = field(default_factory=Marks)

    async def push(
        self, ledger: Ledger, days: tuple[date, date] | None = None, progress: Callable[[int], None] | None = None
    ) -> int:
        """Plays a push on a ledger that is a copy: its records are settled, nothing is sent. How many were claimed.

        days: only records of these days, both included.
        """
        owner, calls, total = worker_id(), CallCounter(), 0
        client = _SaysYes(self.target.key)
        target = self.target
        records = Records(client, target.api, target.resource, target.key, target.filter, counted(calls))
        while claimed := await asyncio.to_thread(
            ledger.claim,
            target.table,
            owner=owner,
            limit=BATCH,
            lease_seconds=LEASE_SECONDS,
            days=days,
            opt_outs=target.opt_outs,
        ):
            outcomes: list[Outcome] = []
            for record in claimed:
                client.held = record.id
                delivery = await deliver(record, records, _unguarded, _key_works)
                self._note(record, delivery)
                outcomes.append(outcome(record, delivery))
            await asyncio.to_thread(ledger.settle, owner, outcomes)
            total += len(claimed)
            if progress:
                progress(self.done)
        self.calls.update(calls.take())
        return total

    @property
    def done(self) -> int:
        return self.inserted + self.updated + self.deleted

    def _note(self, record: Claimed, delivery: Delivery) -> None:
        if delivery.deed:
            setattr(self, delivery.deed, getattr(self, delivery.deed) + 1)
        else:
            self.refused += 1
        self.uncertain += record.uncertain
        self.settled.set(record.seq, delivery.deed in ("inserted", "updated"))


async def _key_works(records: Records, id: str) -> bool:
    return True


class _SaysYes(CampaignClient):
    """In the place of Campaign. `held`: the id of the record that it is asked about next, and says to hold."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.held = ""

    async def call(
        self,
        operation: Operation,
        path: str,
        body: bytes | None = None,
        *,
        guard: Guard | None = None,
        observer: Observer | None = None,
    ) -> Answer:
        if observer:
            observer(operation, 200, 0.0)
        record = {"PKey": self.held, self._key: self.held}
        told = {**record, "content": [record]} if operation == "read" else {}
        return Answer(200, {}, msgspec.json.encode(told))


def _unguarded() -> None: ...
