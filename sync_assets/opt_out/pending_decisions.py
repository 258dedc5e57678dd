"""Decide all opt-outs that are due, and store the decisions in the ledger, from where apply.py writes them.

Dynamics 365 is read for each decision; Campaign is queried where its value is not known.

Invariant: each batch is stored in one transaction, the opt-outs with their decisions (the audit).
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sync_assets.campaign.client import BudgetSpent, access_denied
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.profile_opt_outs import ProfileOptOut, opt_outs_of
from sync_assets.checks.rules import SHOWN_ROWS, Rows
from sync_assets.dataverse.row_queries import RowNow, rows_now
from sync_assets.http.redaction import redact
from sync_assets.http.transport import HttpError, SignInRefused
from sync_assets.ledger import Ledger, times
from sync_assets.ledger.repositories.opt_out_decisions import OptOutDecision
from sync_assets.ledger.rules import merged_contacts
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState
from sync_assets.opt_out.decide import Decision, SideValue, after_move, decide, without_value
from sync_assets.opt_out.session import Session
from sync_assets.task_group import run_together

BATCH = 500
"""Contacts per batch."""
QUESTIONS = 16
"""Concurrent queries of profiles."""

CampaignValues = Mapping[str, ProfileOptOut]
"""Attribute -> Campaign's answer to a query."""

NO_CONTACT = "the contact is not in Dynamics 365"
NO_PROFILE = "the profile is not in Campaign"
NO_VALUE: SideValue = (None, None)
_STATES = {None: OptOutState.SYNCED, "d365": OptOutState.TO_D365, "campaign": OptOutState.TO_CAMPAIGN}


@dataclass(slots=True)
class DecisionRun:
    """The progress of a run of decisions.

    partition: of the decisions in the audit: the file's, or the day's (`day_without_file`). decided: the stored
    decisions by (reason, system to be written or ""). problem: why Campaign was not queried for all contacts for which
    it had to be. unanswered: number of contacts without a response; they stay due, all others are decided.
    """

    session: Session
    partition: str
    decided: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    problem: str | None = None
    unanswered: int = 0

    async def run(self) -> None:
        """Decide everything that is due."""
        ledger, attributes, after = self.session.ledger, self.session.attributes, ""
        await asyncio.to_thread(ledger.opt_outs.end_unknown)
        if self.session.decides_merged:  # of contacts that were merged since their opt-outs became due
            await asyncio.to_thread(ledger.merged.make_masters_due)
        if self.session.direction == "campaign_to_d365":  # decided under a direction that wrote to Campaign
            await asyncio.to_thread(ledger.opt_outs.reconsider, OptOutState.TO_CAMPAIGN)
        while due := await asyncio.to_thread(
            ledger.opt_outs.due, OptOutState.DECIDE, attributes, after=after, limit=BATCH
        ):
            after = max(due)
            batch = await self._decide(due)
            decided, of_merged = (batch.rows, self.partition, batch.decisions), self.session.decides_merged
            stored = await asyncio.to_thread(ledger.opt_outs.decide, *decided, of_merged=of_merged)
            self.decided.update((decision.reason, decision.write or "") for decision in stored)
            self.session.progress("deciding opt-outs", self.decided.total())
            await self.session.count_calls()
            await self.session.keep_lease()

    async def _decide(self, due: Mapping[str, list[OptOutRow]]) -> "_Batch":
        session = self.session
        to_ask = [id_ for id_, rows in due.items() if any(row.ask for row in rows)]
        answers = await self._ask(to_ask)
        unanswered = set(to_ask) - answers.keys()
        self.unanswered += len(unanswered)
        due = {id_: rows for id_, rows in due.items() if id_ not in unanswered}
        columns = [column.name for column in session.columns.values()]
        row_by_id = await rows_now(session.d365, session.table, columns, list(due))
        batch = _Batch(session, datetime.now(UTC))
        if session.carries_merged:
            await asyncio.to_thread(batch.read_merged, list(due))
        for id_, due_rows in due.items():
            row_now, answer = row_by_id.get(id_), answers.get(id_)
            missing = isinstance(answer, ResponseOutcome) and answer.kind == "missing"
            from_campaign = session.direction != "d365_to_campaign"
            rows = due_rows
            if missing and from_campaign:
                rows = [rules.as_stated(row, batch.subordinate(row)) for row in due_rows]
            if row_now is None:
                batch.without_contact(rows, answer)
                continue
            asked = [row for row in rows if row.ask]
            if missing:
                batch.without_profile(asked, row_now)
            elif isinstance(answer, ResponseOutcome):
                batch.refuse(asked, f"Campaign: {redact(answer.reason, None)}")
            else:
                for row in asked:
                    batch.decide(row, row_now, (answer or {}).get(row.attribute))
            for row in rows:  # a file's statement holds, whatever answer Campaign gave about another attribute
                if not row.ask:
                    batch.decide(row, row_now, None)
        return batch

    async def _ask(self, ids: list[str]) -> dict[str, CampaignValues | ResponseOutcome]:
        """Query Campaign's values of these contacts. Contacts without a response are left out.

        Raises:
            SignInRefused: Campaign refuses access.
        """
        free = asyncio.Semaphore(QUESTIONS)
        answers: dict[str, CampaignValues | ResponseOutcome] = {}

        async def ask(id_: str) -> None:
            async with free:
                if self.problem:
                    return
                try:
                    answer = await opt_outs_of(self.session.records, id_, self.session.attributes)
                except SignInRefused:
                    raise
                except (BudgetSpent, HttpError) as error:  # contacts that need no query are decided all the same
                    self.problem = str(error)
                    return
                if isinstance(answer, ResponseOutcome) and answer.kind == "denied":
                    raise access_denied(answer)
                if not (isinstance(answer, ResponseOutcome) and answer.kind == "transient"):
                    answers[id_] = answer

        await run_together(*map(ask, ids))
        return answers


async def decide_due(session: Session, partition: str) -> DecisionRun:
    """Decide everything that is due. partition: see DecisionRun."""
    deciding = DecisionRun(session, partition)
    await deciding.run()
    return deciding


class _Batch:
    """The decisions of a batch of contacts: the changed opt-outs, and the rows of the audit."""

    def __init__(self, session: Session, moment: datetime) -> None:
        self._session, self._moment, self._moved_at = session, moment, session.moved_at
        self.rows: list[OptOutRow] = []
        self.decisions: list[OptOutDecision] = []
        self._subordinates: dict[tuple[str, str], str] = {}
        self._brought: dict[str, set[str]] = {}

    def read_merged(self, ids: Sequence[str]) -> None:
        """Read from the ledger which opt-outs of merged contacts count for these. Blocks."""
        merged = self._session.ledger.merged
        if self._session.decides_merged:
            self._subordinates = merged.subordinates_to_decide(ids)
        else:
            self._brought = merged.opted_out(ids)

    def subordinate(self, row: OptOutRow) -> str | None:
        """Return the merged contact whose opt-out is to be decided on here; None if there is none."""
        return self._subordinates.get((row.id, row.attribute))

    def decide(self, row: OptOutRow, row_now: RowNow, answer: ProfileOptOut | None) -> None:
        d365, campaign = self._d365(row, row_now), _campaign_value(row, answer)
        direction = self._session.direction
        counted = after_move(campaign, self._moved_at)
        decision = decide(direction, d365, counted, self._moment, again=row.source == rules.COMPARISON)
        if answer is not None and direction != "d365_to_campaign":
            # An opt-out that was stated about a profile that was made anew since holds for the present one, too.
            times_of_answer = _micros(answer.changed), _micros(answer.created)
            both = direction == "bidirectional"
            if rules.is_of_earlier_profile(row, answer.value, *times_of_answer) and (both or not d365[0]):
                row, campaign = row._replace(ask=0), (True, times.instant(row.campaign_at))
                decision = Decision(True, "campaign" if both else "d365", "an opt-out wins")
        if subordinate := self.subordinate(row):
            # Neither system has stated it of this contact. Campaign first: after that write Dynamics 365 is decided on.
            to_campaign = direction == "bidirectional" and not campaign[0]
            write = "campaign" if to_campaign else None if d365[0] else "d365"
            decision = Decision(True, write, merged_contacts.REASON)
            row = row._replace(source=f"{merged_contacts.SOURCE}{subordinate}")
        self._settle(row, int(bool(d365[0])), self._logged(row, d365, campaign, decision))

    def without_profile(self, rows: list[OptOutRow], row_now: RowNow) -> None:
        for row in rows:
            d365 = self._d365(row, row_now)
            self.rows.append(rules.after_missing_profile(row, int(bool(d365[0]))))
            self._logged(row, d365, NO_VALUE, NO_PROFILE)

    def without_contact(self, rows: list[OptOutRow], answer: CampaignValues | ResponseOutcome | None) -> None:
        """Add the rows of a contact that does not exist in Dynamics 365.

        Its profile may be kept, or still be there: an opt-out that Dynamics 365 had last is written to it. Campaign may
        state its opt-outs in every file. Its value is stored, so that it counts as a change only once; it has no effect
        unless the contact appears again.
        """
        asked = {} if answer is None or isinstance(answer, ResponseOutcome) else answer
        missing = isinstance(answer, ResponseOutcome) and answer.kind == "missing"
        for row in rows:
            campaign = _campaign_value(row, asked.get(row.attribute) if row.ask else None)
            last = (_flag(row.d365), None)
            decision = decide(self._session.direction, last, campaign, self._moment)
            if decision.write == "campaign" and not missing:
                self._settle(row, row.d365, self._logged(row, last, campaign, decision))
            else:
                self._settle(row, None, self._logged(row, NO_VALUE, campaign, NO_CONTACT))

    def refuse(self, rows: list[OptOutRow], reason: str) -> None:
        self.rows += [rules.after_rejection(row, reason, times.to_micros(self._moment)) for row in rows]

    def _d365(self, row: OptOutRow, row_now: RowNow) -> SideValue:
        column = self._session.columns[row.attribute]
        brought = row.id in self._brought.get(row.attribute, ())
        return brought or column.opted_out(row_now.values[column.name]), row_now.modified

    def _settle(self, row: OptOutRow, d365: int | None, decided: OptOutDecision) -> None:
        """Add the opt-out after a decision. d365: the value to store, 0 where Dynamics 365 has none."""
        self.rows.append(
            rules.after_decision(
                row,
                value=int(bool(decided.value)),
                state=_STATES[decided.write],
                campaign=(
                    None if decided.campaign is None else int(decided.campaign),
                    _micros(decided.campaign_changed),
                ),
                d365=(d365, _micros(decided.d365_modified)),
                now=times.to_micros(self._moment),
            )
        )

    def _logged(self, row: OptOutRow, d365: SideValue, campaign: SideValue, decision: Decision | str) -> OptOutDecision:
        """Add a decision to the audit, or the reason why there is none, and return its row."""
        made = None if isinstance(decision, str) else decision
        logged = OptOutDecision(
            contact=row.id,
            column=self._session.columns[row.attribute].name,
            attribute=row.attribute,
            d365=d365[0],
            d365_modified=d365[1],
            campaign=campaign[0],
            campaign_changed=campaign[1],
            value=made and made.value,
            write=made and made.write,
            reason=made.reason if made else str(decision),
            source=row.source,
            decided_at=self._moment,
        )
        self.decisions.append(logged)
        return logged


def _campaign_value(row: OptOutRow, answer: ProfileOptOut | None) -> SideValue:
    """Return Campaign's value and time of change: from its `answer`, else as stored in the ledger."""
    if answer is None:
        return _flag(row.campaign), times.instant(rules.changed_at(row))
    return answer.value, times.instant(rules.since(row, answer.value, _micros(answer.changed), _micros(answer.created)))


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else times.to_micros(moment)


def decision_numbers(ledger: Ledger, deciding: DecisionRun) -> dict[str, Any]:
    """Return the numbers of decisions, by reason and by the side to write, and the partition's last decisions.

    These are shown without the values, which are personal data: `explain --show-values` shows them.
    """
    by_reason = [(reason, side, number) for (reason, side), number in deciding.decided.most_common()]
    last = ledger.opt_out_decisions.decisions(partition=deciding.partition, limit=SHOWN_ROWS)
    rows = [
        (decision.contact, decision.attribute, decision.write or "", without_value(decision.reason), decision.source)
        for decision in last
    ]
    return {
        "decisions": deciding.decided.total(),
        "by_reason": Rows(("reason", "side written", "records"), by_reason),
        "last_decisions": Rows(("contact", "attribute", "side written", "reason", "source"), rows),
    }
