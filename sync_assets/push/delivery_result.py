"""The result of delivering one record, and the outcome that the ledger stores for it. Pure."""

from datetime import UTC, datetime
from typing import Literal, NamedTuple

from sync_assets.campaign.client import access_denied
from sync_assets.campaign.dialect import BOILERPLATE, ResponseOutcome
from sync_assets.http.redaction import redact
from sync_assets.ledger.model import Claimed, Operation, Outcome, Result

FIRST_WAIT, LONGEST_WAIT = 1.0, 4 * 3600.0
"""Seconds until the next attempt after no answer, or one that names no cause: the first wait, and the longest. Each is
three times as long as the one before."""
NOT_SHOWN = (
    "Campaign does not show this record: it was deleted there, or is hidden without its parent. Check in Campaign."
)

OperationDone = Literal["inserted", "updated", "deleted"]
OPERATIONS: dict[OperationDone, Operation] = {"inserted": "insert", "updated": "update", "deleted": "delete"}


class Delivery(NamedTuple):
    """The result of delivering one record.

    Attributes:
        operation_done: what Campaign did; None unless `result` is done.
        reason: why it was not delivered, redacted.
        wait: seconds until the next attempt; None for at once.
        pkey: the record's PKey as Campaign's answer gave it; empty if it gave none. If refused: Campaign hides it.
        stop: why no other record of the table may be sent.
        held_refusable: see model.Outcome.
    """

    result: Result
    operation_done: OperationDone | None = None
    reason: str | None = None
    wait: float | None = None
    pkey: str = ""
    stop: str | None = None
    held_refusable: int | None = None

    def incarnation_of(self, record: Claimed) -> tuple[int, int]:
        """Return the record's number and incarnation after this delivery, as the ledger counts it (transitions.py)."""
        began = self.operation_done == "inserted" or record.operation == "insert" or record.reinsert_sent
        return record.seq, record.incarnation + began


def retry_wait(attempts: int) -> float:
    """Return the seconds until the next attempt of a record after `attempts` failed ones and this one."""
    return min(LONGEST_WAIT, FIRST_WAIT * 3.0 ** min(attempts, 20))


def delivery_of(record: Claimed, response: ResponseOutcome, done: OperationDone, held: int | None) -> Delivery:
    """Return the delivery of a record by the last answer. held: its `held_refusable`. Raises SignInRefused."""
    if response.kind == "done":
        return Delivery("done", done, pkey=response.pkey, held_refusable=held)
    if response.kind == "missing":
        return Delivery("missing", reason=NOT_SHOWN)
    reason = redact(redact(response.reason, record.payload), record.update_payload)
    if response.kind == "denied":
        raise access_denied(response._replace(reason=reason))
    if response.remedy:
        reason = f"{response.remedy} {reason}".strip()
    if response.kind != "transient":
        return Delivery("refused", reason=reason)
    if reason in BOILERPLATE:
        reason = f"{reason} Campaign named no cause; open the record in Campaign, check e-mail and lengths."
    return Delivery("later", reason=reason, wait=retry_wait(record.attempts))


def outcome(
    record: Claimed,
    delivery: Delivery,
    now: datetime | None = None,
    *,
    unanswered: bool = False,
    status: int | None = None,
) -> Outcome:
    """Return the outcome that the ledger stores for a delivery made at `now` (UTC; default: the current time).

    unanswered: True if a write of the delivery got no answer, so that it may still take effect. status: of HTTP, of
    the last write.
    """
    done, first = delivery.operation_done, record.operation == "insert" or record.reinsert_sent
    made, links_alone = done == "inserted", record.operation == "update" and record.payload is None
    operation = OPERATIONS[done] if done else record.operation
    return Outcome(
        record.seq,
        delivery.result,
        None if done == "deleted" else record.hash,
        delivery.reason,
        delivery.wait,
        record.links if made else tuple(link for link in record.links if not link.acknowledged),  # as sent
        inserted_opt_outs=record.opt_outs if made else (),
        inserted_at=(now or datetime.now(UTC)) if made else None,
        existing_opt_outs=tuple(name for name, _ in record.opt_outs) if first and done == "updated" else (),
        operation="link" if links_alone else operation,
        unanswered=unanswered,
        hidden=delivery.result == "refused" and bool(delivery.pkey),
        held_refusable=delivery.held_refusable,
        status=status,
        changed_at=record.changed_at,
    )
