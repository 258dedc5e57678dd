"""What the runs of opt-outs report: the numbers that the UI shows and plots, and the answers of their checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import dagster as dg

from sync_assets.defs.tables import check_results
from sync_assets.ledger import Reject
from sync_assets.ledger.rules.opt_outs import Stated
from sync_assets.ledger.rules.rejection_reasons import kind_of_reason
from sync_assets.opt_out.apply import Applied
from sync_assets.opt_out.decide import Side
from sync_assets.opt_out.decision_log import DecisionLog
from sync_assets.opt_out.pending_decisions import DecisionRun
from sync_assets.runtime.context import Runtime

DECIDED = "everything_due_is_decided"
ACCEPTED = "no_opt_out_is_refused"
SHOWN = 20

DECIDED_TEXT = "Campaign could be asked where it has to be."
ACCEPTED_TEXT = "No opt-out stands refused."

_SYSTEMS: dict[Side, str] = {"d365": "Dynamics 365: ", "campaign": "Campaign: "}
"""What the reason of a refusal names, by the side that refused."""


def stated_metadata(stated: Counter[Stated]) -> dict[str, int]:
    """How many opt-outs that were stated are news, and what the others are."""
    return {f"stated_{kind}": stated[kind] for kind in get_args(Stated)}


def decided_metadata(audit: DecisionLog) -> dict[str, Any]:
    """How many opt-outs were decided, by reason and side written, and where each of them is kept."""
    return {
        "decisions": audit.reasons.total(),
        "by_reason": check_results.table(
            ("reason", "side written", "records"),
            [(reason, side, number) for (reason, side), number in audit.reasons.most_common()],
        ),
        "audit": audit.url,
    }


def written_metadata(done: Applied, side: Side | None = None) -> dict[str, int]:
    """What became of the opt-outs that were due for a side. side: begins the names where a run writes several."""
    numbers = {
        "written": done.written,
        "held_already": done.already,
        "to_be_decided_again": done.again,
        "refused": done.refused,
        "no_longer_there": done.gone,
        "unanswered": done.unanswered,
    }
    return {f"{side}_{name}" if side else name: number for name, number in numbers.items()}


def refused_by(runtime: Runtime, side: Side) -> list[Reject]:
    """The opt-outs that a side refused, and that nothing has changed since."""
    return [one for one in runtime.ledger.refused_opt_outs() if _SYSTEMS[side] in one.reason]


def refused_metadata(refused: Sequence[Reject]) -> dict[str, Any]:
    """Refused opt-outs by reason; nothing if there are none."""
    if not refused:
        return {}
    reasons = Counter(kind_of_reason(one.reason) for one in refused).most_common(SHOWN)
    return {"refused_by_reason": check_results.table(("reason", "records"), reasons)}


def everything_due_is_decided(runtime: Runtime, key: dg.AssetKey, deciding: DecisionRun) -> dg.AssetCheckResult:
    """Fails while something has to wait for Campaign. The run goes on: what is decided is to be written."""
    text = "Everything that was due is decided."
    if deciding.unanswered:
        text = f"Campaign could not be asked about {deciding.unanswered:,} contacts; their opt-outs stay due."
        text = f"{text} {deciding.problem or ''}".strip()
        runtime.stopped.append(text)
    return dg.AssetCheckResult(
        passed=not deciding.unanswered,
        asset_key=key,
        check_name=DECIDED,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"unanswered": deciding.unanswered},
    )


def no_opt_out_is_refused(key: dg.AssetKey, refused: Sequence[Reject]) -> dg.AssetCheckResult:
    """Fails while opt-outs stand refused; the others go on."""
    text = ACCEPTED_TEXT
    if refused:
        text = (
            f"{len(refused):,} opt-outs stand refused. See `sync-assets rejects`; put right what is wrong, then "
            "`sync-assets retry contact`."
        )
    return dg.AssetCheckResult(
        passed=not refused,
        asset_key=key,
        check_name=ACCEPTED,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"refused": len(refused)},
    )


def stop(runtime: Runtime, *problems: str | None) -> None:
    """What was done stands; the run fails all the same if there is a problem, since something is left undone."""
    found = [problem for problem in problems if problem]
    if found:
        runtime.stopped += found
        raise dg.Failure(" ".join(dict.fromkeys(found)), allow_retries=False)
