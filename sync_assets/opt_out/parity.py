"""Compare the opt-outs of a sample of contacts in both systems, and report differences that should not exist.

A difference is allowed if the change is more recent than the time that the direction needs to carry it, or if the
direction does not carry it.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sync_assets.campaign.client import access_denied
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.profile_opt_outs import opt_outs_of
from sync_assets.checks import rules
from sync_assets.checks.health import ids_by_attribute
from sync_assets.checks.rules import Finding
from sync_assets.config.models import OptOutConfig
from sync_assets.config.opt_out import ActiveDirection
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.row_queries import rows_now
from sync_assets.ledger import times
from sync_assets.ledger.rules.opt_outs import OptOutState
from sync_assets.opt_out.decide import SideValue, decide
from sync_assets.opt_out.session import Session, ready
from sync_assets.runtime.call_limits import calls_left
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together
from sync_assets.words import counted

SAMPLE = 200
"""Contacts that are compared at most."""
AT_ONCE = 16
PUSHED_WITHIN = timedelta(minutes=15)
"""The sensors carry a change in D365 within seconds; this allows for a busy hour."""
SLACK = timedelta(hours=1)


@dataclass(slots=True)
class Parity:
    """The result of a comparison.

    contacts: compared contacts. compared: compared opt-outs. on_the_way: opt-outs that may still differ. unanswered:
    contacts for which Campaign gave no usable response. kept_back: contacts not compared, since the call budget did not
    allow it. differing: attribute -> ids that should agree by now.
    """

    contacts: int = 0
    compared: int = 0
    on_the_way: int = 0
    unanswered: int = 0
    kept_back: int = 0
    differing: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def wrong(self) -> int:
        return sum(len(ids) for ids in self.differing.values())


def allowed(opt_out: OptOutConfig, side: str) -> timedelta:
    """Return how long a change in one system may take to reach the other one."""
    if side == "d365":
        return PUSHED_WITHIN
    if opt_out.poll_profiles_minutes is not None:
        return timedelta(minutes=2 * opt_out.poll_profiles_minutes) + PUSHED_WITHIN
    return timedelta(hours=opt_out.export.expected_every_hours) + SLACK


def judge(
    opt_out: OptOutConfig,
    direction: ActiveDirection,
    d365: SideValue,
    campaign: SideValue,
    applied: datetime | None,
    now: datetime,
) -> str:
    """Return `agree`, `on the way` or `differ` for one opt-out. Pure.

    A change that the direction does not carry may differ permanently, and counts as agreement: an opt-out made in
    Dynamics 365 after the last change in Campaign (campaign_to_d365), or in Campaign (d365_to_campaign). An opt-out
    that is missing in Campaign may not, nor one that Campaign stated and Dynamics 365 lost.

    Args:
        opt_out: the configuration.
        direction: of the opt-out flows.
        d365, campaign: the values of the two systems.
        applied: time of change of the last change in Campaign that was carried.
        now: the current time.
    """
    carried = applied is not None and campaign[1] is not None and campaign[1] <= applied
    decision = decide(direction, d365, campaign, now, again=carried)
    if decision.write is None or (direction == "d365_to_campaign" and not decision.value):
        return "agree"
    if direction == "campaign_to_d365":
        # Dynamics 365 has changed what was carried: the next file, poll or replay that has the profile writes it again.
        changed, side = d365[1] if carried else campaign[1], "campaign"
    else:
        from_campaign = decision.write == "d365"
        changed, side = (campaign[1], "campaign") if from_campaign else (d365[1], "d365")
    # Without a time of change it cannot be shown to be recent.
    return "on the way" if changed is not None and now - changed <= allowed(opt_out, side) else "differ"


async def parity(runtime: Runtime) -> Parity:
    """Compare up to SAMPLE contacts, which costs one engine call each. Raises what the clients raise."""
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    left = calls_left(ledger, runtime.config.guardrails)
    wanted = SAMPLE if left is None else min(SAMPLE, left)
    ids = await asyncio.to_thread(ledger.reports.sample_synced, CONTACT, SAMPLE, secrets.randbits(32))
    result = Parity(kept_back=max(0, len(ids) - wanted))
    if not ids[:wanted]:
        return result
    async with ready(runtime) as session:
        try:
            await _compare(session, ids[:wanted], result)
        finally:
            await session.count_calls()
    return result


async def _compare(session: Session, ids: Sequence[str], result: Parity) -> None:
    columns = [column.name for column in session.columns.values()]
    row_by_id = await rows_now(session.d365, session.table, columns, ids)
    rows = await asyncio.to_thread(session.ledger.opt_outs.of, ids)
    applied = {(row.id, row.attribute): row.campaign_at for row in rows if row.state == OptOutState.SYNCED}
    opt_out, now, free = session.config.opt_out, datetime.now(UTC), asyncio.Semaphore(AT_ONCE)
    verdicts: Counter[str] = Counter()

    async def look(id_: str) -> None:
        async with free:
            campaign = await opt_outs_of(session.records, id_, session.attributes)
        if isinstance(campaign, ResponseOutcome):
            if campaign.kind == "denied":
                raise access_denied(campaign)
            result.unanswered += campaign.kind != "missing"
            return
        result.contacts += 1
        for attribute, column in session.columns.items():
            micros = applied.get((id_, attribute))
            verdict = judge(
                opt_out,
                session.direction,
                (column.opted_out(row_by_id[id_].values[column.name]), row_by_id[id_].modified),
                (campaign[attribute].value, campaign[attribute].changed),
                times.instant(micros),
                now,
            )
            verdicts[verdict] += 1
            if verdict == "differ":
                result.differing.setdefault(attribute, []).append(id_)

    await run_together(*(look(id_) for id_ in ids if id_ in row_by_id))
    result.compared, result.on_the_way = verdicts.total(), verdicts["on the way"]


def opt_outs_agree(result: Parity) -> Finding:
    """Return the finding that opt-outs agree, from a compared sample."""
    text = f"Of {result.contacts:,} contacts that were read on both sides, all opt-outs agree."
    if result.on_the_way:
        text = f"Of {result.contacts:,} contacts read on both sides, {result.on_the_way:,} opt-outs are on their way."
    if result.wrong:
        text = (
            f"Of {result.contacts:,} contacts that were read on both sides, {result.wrong:,} opt-outs differ for "
            "longer than they should. See `sync-assets rejects` and whether files arrive; a change of the opt-out in "
            "Dynamics 365 makes it be decided anew."
        )
    if not result.contacts:
        text = "No contact was compared: none is known on both sides, or the day's engine calls are spent."
    if result.unanswered:
        text += f" Campaign did not answer for {counted(result.unanswered, 'contact')}."
    numbers = {
        "contacts": result.contacts,
        "compared": result.compared,
        "differing": result.wrong,
        "on_the_way": result.on_the_way,
        "unanswered": result.unanswered,
        "kept_back_by_budget": result.kept_back,
        "attributes": ids_by_attribute(dict(sorted(result.differing.items()))),
    }
    passed = not result.wrong and not (result.unanswered and not result.contacts)
    return rules.OPT_OUTS_AGREE.finding(passed, text, numbers, stops=bool(result.wrong))
