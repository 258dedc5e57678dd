"""Write decided opt-outs to the system that does not hold them yet.

Dynamics 365 is read again right before a write: a value that it holds already is not written twice (as after a kill
between a write and its acknowledgement), and a contact that was modified since the decision is decided again.

Invariant: an opt-in never overwrites a newer opt-out. An opt-out is written unconditionally; an opt-in only if the row
is still as it was read (`If-Match` with its etag). Campaign has no conditional writes, but receives opt-outs only
(decide.py). It is queried first if an earlier request may have been carried out.

Invariant: the opt-outs of a request are claimed right before it, and no claim includes a contact under a privacy hold
(Ledger.opt_outs.claim). A claim ends when its outcomes are stored. A request without an answer may take effect until
its horizon: then its opt-outs are decided once more.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from sync_assets.campaign.client import BudgetSpent, access_denied
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.profile_opt_outs import opt_outs_of
from sync_assets.checks.rules import SHOWN_ROWS, Rows
from sync_assets.config.opt_out import ActiveDirection
from sync_assets.dataverse.batch import BATCHES_AT_ONCE, ROWS_IN_A_BATCH, RowUpdate, UpdateResult, update_rows
from sync_assets.dataverse.row_queries import RowNow, rows_now
from sync_assets.http.redaction import redact
from sync_assets.http.retry import is_lost
from sync_assets.http.transport import HttpError, OutcomeUnknown, SignInRefused
from sync_assets.ledger import times
from sync_assets.ledger.report_values import Reject
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState
from sync_assets.ledger.rules.rejection_reasons import kind_of_reason
from sync_assets.opt_out.decide import Side
from sync_assets.opt_out.session import Session
from sync_assets.task_group import run_together

IN_D365_AT_ONCE = ROWS_IN_A_BATCH * BATCHES_AT_ONCE
"""Contacts that are claimed and written at once."""
IN_CAMPAIGN_AT_ONCE = 16
"""Profiles that are claimed and written at once, each by its own request."""
TO_D365, TO_CAMPAIGN = "to_d365", "to_campaign"
WRITTEN: Mapping[Side, str] = {"d365": TO_D365, "campaign": TO_CAMPAIGN}
"""Kinds of counts of written opt-outs, in the ledger and in the result of a command."""

Due = Mapping[str, list[OptOutRow]]


@dataclass(slots=True)
class Applied:
    """Number of opt-outs by outcome, by the names in the metadata of the assets.

    held_already: by the system. to_be_decided_again: the contact was modified since the decision. no_longer_there:
    contacts or profiles that no longer exist. unanswered: outcome unknown. problem: why it ended early.
    """

    written: int = 0
    held_already: int = 0
    to_be_decided_again: int = 0
    rejected: int = 0
    no_longer_there: int = 0
    unanswered: int = 0
    problem: str | None = None

    def numbers(self, prefix: str = "") -> dict[str, int]:
        """Return the numbers of opt-outs by the outcome of their write; `prefix` begins each name."""
        return {f"{prefix}{name}": number for name, number in asdict(self).items() if name != "problem"}


@dataclass(slots=True)
class _Change:
    """The outcomes of the opt-outs that were claimed at once: rows to store, and how many of them were written.

    unanswered: contacts with a write that got no answer, even if a later one did.
    """

    rows: list[OptOutRow] = field(default_factory=list[OptOutRow])
    written: int = 0
    unanswered: set[str] = field(default_factory=set[str])


def sides(direction: ActiveDirection) -> tuple[Side, ...]:
    """Return the systems that are written in a direction of opt-out flows."""
    return {"bidirectional": ("d365", "campaign"), "campaign_to_d365": ("d365",), "d365_to_campaign": ("campaign",)}[
        direction
    ]


async def write_due(session: Session, side: Side) -> Applied:
    """Write all opt-outs that are due to one system. Raises what `write_d365` and `write_campaign` raise."""
    try:
        return await (write_d365 if side == "d365" else write_campaign)(session)
    finally:
        await asyncio.to_thread(session.ledger.opt_outs.release, session.epoch)


async def write_d365(session: Session) -> Applied:
    """Write all opt-outs that are due to Dynamics 365. Raises what the client raises; the rest stays due."""
    done, after = Applied(), ""
    while due := await _claim(session, OptOutState.TO_D365, after, IN_D365_AT_ONCE):
        after = max(due)
        change = _Change()
        columns = [column.name for column in session.columns.values()]
        rows_now_by_id = await rows_now(session.d365, session.table, columns, list(due))
        wanted = _still_wanted(session, due, rows_now_by_id, change, done)
        updates = [_update(session, id_, rows, rows_now_by_id[id_]) for id_, rows in wanted.items()]
        for result in await update_rows(session.d365, session.table, updates):
            _note(session, result, wanted[result.id], change, done)
        await _store(session, TO_D365, change)
        await session.keep_lease()
    return done


async def _store(session: Session, kind: str, change: _Change) -> None:
    await asyncio.to_thread(
        session.ledger.opt_outs.put,
        change.rows,
        counts={kind: change.written},
        session=session.epoch,
        unanswered=change.unanswered,
    )


async def _claim(session: Session, state: OptOutState, after: str, limit: int) -> dict[str, list[OptOutRow]]:
    ledger = session.ledger
    return await asyncio.to_thread(
        ledger.opt_outs.claim, state, session.attributes, session.epoch, after=after, limit=limit
    )


def _still_wanted(
    session: Session, due: Due, row_by_id: Mapping[str, RowNow], change: _Change, done: Applied
) -> dict[str, list[OptOutRow]]:
    """Return by contact the due rows that must still be written, after the contacts have been read again.

    row_by_id: the contacts as read again. change, done: receive the other rows.
    """
    wanted: dict[str, list[OptOutRow]] = {}
    for id_, rows in due.items():
        row_now = row_by_id.get(id_)
        if row_now is None:
            change.rows += map(rules.after_missing_contact, rows)
            done.no_longer_there += 1
            continue
        for row in rows:
            column = session.columns[row.attribute]
            if column.opted_out(row_now.values[column.name]) == bool(row.value):
                change.rows.append(rules.after_write(row, _now()))
                done.held_already += 1
            elif row_now.modified and row.d365_at is not None and times.to_micros(row_now.modified) > row.d365_at:
                change.rows.append(_again(session, row))
                done.to_be_decided_again += 1
            else:
                wanted.setdefault(id_, []).append(row)
    return wanted


def _update(session: Session, id_: str, rows: list[OptOutRow], row_now: RowNow) -> RowUpdate:
    values = {(column := session.columns[row.attribute]).name: column.value(bool(row.value)) for row in rows}
    only_opt_outs = all(row.value for row in rows)
    return RowUpdate(id_, values, "*" if only_opt_outs else row_now.etag or "*")


def _note(session: Session, result: UpdateResult, rows: list[OptOutRow], change: _Change, done: Applied) -> None:
    if result.unanswered:
        change.unanswered.add(result.id)
    if result.kind == "done":
        change.rows += [rules.after_write(row, _now()) for row in rows]
        change.written += len(rows)
        done.written += len(rows)
    elif result.kind == "missing":
        change.rows += map(rules.after_missing_contact, rows)
        done.no_longer_there += 1
    elif result.kind == "changed":
        change.rows += [_again(session, row) for row in rows]
        done.to_be_decided_again += len(rows)
    else:
        change.rows += [rules.after_rejection(row, f"Dynamics 365: {result.reason}", _now()) for row in rows]
        done.rejected += len(rows)


def _again(session: Session, row: OptOutRow) -> OptOutRow:
    return rules.due_again(row, ask=session.direction == "bidirectional")


async def write_campaign(session: Session) -> Applied:
    """Write all opt-outs that are due to Campaign, until the call budget is exhausted.

    Raises:
        SignInRefused: Campaign refuses access.
        LedgerError: the ledger failed.
    """
    done, after = Applied(), ""
    while done.problem is None:
        due = await _claim(session, OptOutState.TO_CAMPAIGN, after, IN_CAMPAIGN_AT_ONCE)
        if not due:
            break
        after = max(due)
        sending = _Sending(session, done)
        await sending.send(due)
        await _store(session, TO_CAMPAIGN, sending.change)
        if sending.denied:
            raise sending.denied
        await session.count_calls()
        await session.keep_lease()
    return done


class _Sending:
    """Writes claimed opt-outs to Campaign, all at once. denied: Campaign refuses access."""

    def __init__(self, session: Session, done: Applied) -> None:
        self._session, self._done, self.change = session, done, _Change()
        self.denied: SignInRefused | None = None

    async def send(self, due: Due) -> None:
        await run_together(*(self._one(id_, rows) for id_, rows in due.items()))

    async def _one(self, id_: str, rows: list[OptOutRow]) -> None:
        sent = False

        def observe(kind: str, status: int | None, seconds: float) -> None:
            nonlocal sent
            sent = sent or kind == "update"
            if is_lost(kind, status):
                self.change.unanswered.add(id_)

        records = replace(self._session.records, observer=observe)
        flags = {row.attribute: bool(row.value) for row in rows}
        try:
            held = await self._holds_already(id_, rows) if any(row.unknown_until for row in rows) else False
            # The body of the PATCH is without the key, since Campaign may refuse it, even with its present value.
            outcome = held or await records.update(id_, msgspec.json.encode(flags), flags)
            if outcome is True or (outcome.kind == "done" and not sent):
                self.change.rows += [rules.after_write(row, _now()) for row in rows]
                self._done.held_already += len(rows)
            else:
                self._note(rows, outcome)
        except (BudgetSpent, HttpError) as error:
            self.change.rows += rows
            if isinstance(error, OutcomeUnknown):
                self.change.unanswered.add(id_)
            self._done.unanswered += 0 if isinstance(error, BudgetSpent) else len(rows)
            self._done.problem = str(error)

    async def _holds_already(self, id_: str, rows: list[OptOutRow]) -> bool | ResponseOutcome:
        """Query whether Campaign holds the values already. Return its outcome if it does not show the profile."""
        values = await opt_outs_of(self._session.records, id_, self._session.attributes)
        if isinstance(values, ResponseOutcome):
            return values
        return all(values[row.attribute][0] == bool(row.value) for row in rows)

    def _note(self, rows: list[OptOutRow], outcome: ResponseOutcome) -> None:
        done, change = self._done, self.change
        if outcome.kind == "done":
            change.rows += [rules.after_write(row, _now()) for row in rows]
            change.written += len(rows)
            done.written += len(rows)
        elif outcome.kind == "missing":  # the later insert of the profile carries Dynamics 365's value
            change.rows += [rules.after_missing_profile(row, row.d365) for row in rows]
            done.no_longer_there += 1
        elif outcome.kind == "denied":
            change.rows += rows
            self.denied = access_denied(outcome)
        elif outcome.kind == "transient":
            change.rows += rows
            done.unanswered += len(rows)
            done.problem = done.problem or f"Campaign fails on opt-outs: {redact(outcome.reason, None)}"
        else:
            change.rows += [
                rules.after_rejection(row, f"Campaign: {redact(outcome.reason, None)}", _now()) for row in rows
            ]
            done.rejected += len(rows)


def _now() -> int:
    return times.to_micros(datetime.now(UTC))


def rejected_by_reason(refused: Sequence[Reject]) -> dict[str, Rows]:
    """Return a table of rejected opt-outs by reason; empty if there are none."""
    reasons = Counter(kind_of_reason(reject.reason) for reject in refused).most_common(SHOWN_ROWS)
    return {"rejected_by_reason": Rows(("reason", "records"), reasons)} if reasons else {}
