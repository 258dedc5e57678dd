"""The delivery of one record to a Campaign in memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_assets.campaign.addressing import KEY, KEY_FOUND, KEY_IN_URL, KEY_UNIQUE
from sync_assets.campaign.dialect import Operation
from sync_assets.campaign.records import Records
from sync_assets.config.models import AddressFilter
from sync_assets.http.transport import OutcomeUnknown, Response
from sync_assets.ledger.model import Claimed
from sync_assets.push.delivery import KeyWorks, Sender
from sync_assets.push.delivery_result import Delivery
from sync_assets.push.record_links import Links
from sync_assets_tests.unit.push.little_campaign import LittleCampaign, absent

BOILERPLATE = "RST-360011 An error has occurred - please contact your administrator."

ADA = "11111111-1111-1111-1111-111111111111"
ORDER = "22222222-2222-2222-2222-222222222222"
TAKEN = Response(500, {}, b"A record with this key already exists")
INVALID = Response(500, {}, b"email 'ada@example.org' is not valid")
NO_ACCESS = Response(403, {}, b'{"error_code": "403003", "message": "Api Key is invalid"}')
LOST = OutcomeUnknown("the connection was cut", "")
ABSENT = absent(ADA)

Answer = Response | Exception | None

UNIQUE, KNOWN = {KEY_UNIQUE: "yes", KEY_FOUND: "yes"}, {KEY_IN_URL: "yes", KEY_FOUND: "yes"}
NOT_IN_URL = {KEY_IN_URL: "no", KEY_FOUND: "yes"}
INSERTED, UPDATED, DELETED = ("done", "inserted"), ("done", "updated"), ("done", "deleted")
MISSING = ("missing", None)


async def deliver(
    record: Claimed, records: Records, key_works: KeyWorks, links: Links | None = None, *, requires_parent: bool = False
) -> Delivery:
    """Deliver a record of a table whose ledger is not looked at."""

    async def reinsert(record: Claimed) -> None: ...

    return await Sender(records, key_works, reinsert, links, requires_parent).deliver(record)


@dataclass
class Push:
    """One record of profile to deliver. `answers`: those of its requests, in order; then Campaign's usual ones."""

    answers: Sequence[Answer] = ()
    exists: bool = False
    found: dict[str, str] | None = None
    confirmed: bool = False
    noted: dict[str, str] = field(default_factory=dict[str, str])
    key_works: bool = True
    finds_unique: bool = False
    unique: bool | None = None
    requires_parent: bool = False
    filter: AddressFilter | None = None
    rejected: int = 0
    asked: int = 0
    reinsert_sent: int | None = None
    """Number of requests before the insert of a record that Campaign does not have any more; None without one."""
    campaign: LittleCampaign = field(default_factory=lambda: LittleCampaign(profile="externalId"))
    bodies: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        if self.exists:
            self.campaign.holds("profile", ADA)
        answers = iter(self.answers)
        self.campaign.answers = lambda operation, path: next(answers, None)
        result = {KEY: "externalId", KEY_FOUND: "yes"} if self.found is None else self.found
        self.records = self.campaign.of("profile", result, self.filter)
        addressing = self.records.addressing
        addressing.confirmed, addressing.unique = self.confirmed, self.unique
        self.records.first.rejected = self.rejected
        for premise, finding in self.noted.items():
            addressing.note(premise, finding)
        call = self.campaign.call

        async def recorded(operation: Operation, path: str, body: bytes | None = None, **more: Any) -> Response:
            self.bodies.append(json.loads(body) if body else None)
            return await call(operation, path, body, **more)

        vars(self.campaign)["call"] = recorded

    async def ask(self, records: Records, id_: str) -> bool:
        self.asked += 1
        assert (records, id_) == (self.records, ADA)
        if self.finds_unique:
            records.addressing.note(KEY_UNIQUE, "yes")
        return self.key_works

    async def reinsert(self, record: Claimed) -> None:
        self.reinsert_sent = len(self.campaign.log)

    async def deliver(self, record: Claimed) -> Delivery:
        return await Sender(self.records, self.ask, self.reinsert, None, self.requires_parent).deliver(record)

    @property
    def requests(self) -> list[str]:
        return [operation for operation, _ in self.campaign.log]


def contact(operation: str = "insert", *, outcome_unknown: bool = False, attempts: int = 0, **more: Any) -> Claimed:
    form = {"externalId": ADA, "email": "ada@example.org"}
    payload = more.get("payload", None if operation == "delete" else json.dumps(form))
    update = more.get("update_payload")
    unknown_seconds = more.get("unknown_seconds", 600.0 if outcome_unknown else None)
    claimed = Claimed(1, ADA, operation, payload, update, b"h", attempts, outcome_unknown)  # pyright: ignore[reportArgumentType]
    others = {name: more[name] for name in ("links", "reinsert_sent", "resend") if name in more}
    return claimed._replace(unknown_seconds=unknown_seconds, **others)
