"""Build the metadata and check results of opt-out runs. The UI shows the metadata, and plots its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import dagster as dg

from sync_assets.defs.tables import check_results
from sync_assets.flows import Outcome
from sync_assets.foreign_text import markdown
from sync_assets.ledger import Reject
from sync_assets.ledger.rules.opt_outs import Stated
from sync_assets.ledger.rules.rejection_reasons import kind_of_reason
from sync_assets.opt_out.apply import Applied
from sync_assets.opt_out.decide import Side, without_value
from sync_assets.opt_out.pending_decisions import DecisionRun
from sync_assets.plurals import counted
from sync_assets.runtime.context import Runtime

DECIDED = "everything_due_is_decided"
ACCEPTED = "no_opt_out_is_refused"
SHOWN = 20

DECIDED_TEXT = "Campaign could be asked where it has to be."
ACCEPTED_TEXT = "No opt-out is rejected."

_SYSTEMS: dict[Side, str] = {"d365": "Dynamics 365: ", "campaign": "Campaign: "}
"""Text in the reason of a rejected opt-out that names the system which rejected it, by side."""


def stated_metadata(stated: Counter[Stated]) -> dict[str, int]:
    """Return the numbers of opt-outs that Campaign stated, by their effect on the ledger (`rules.opt_outs.Stated`)."""
    return {f"stated_{kind}": stated[kind] for kind in get_args(Stated)}


def decided_metadata(runtime: Runtime, deciding: DecisionRun) -> dict[str, Any]:
    """Return the numbers of decisions, by reason and by the side to write, and the partition's last decisions.

    These are shown without the values, which are personal data: `explain --show-values` shows them.
    """
    shown = runtime.ledger.opt_out_decisions.of_partition(deciding.partition, SHOWN)
    return {
        "decisions": deciding.decided.total(),
        "by_reason": check_results.table(
            ("reason", "side written", "records"),
            [(reason, side, number) for (reason, side), number in deciding.decided.most_common()],
        ),
        "last_decisions": check_results.table(
            ("contact", "attribute", "side written", "reason", "source"),
            [(one.contact, one.attribute, one.write or "", without_value(one.reason), one.source) for one in shown],
        ),
    }


def written_metadata(done: Applied, side: Side | None = None) -> dict[str, int]:
    """Return the numbers of opt-outs by the outcome of their write.

    Args:
        done: The result of the writes to one side.
        side: Prefix of the metadata keys, for a run that writes several sides.
    """
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
    """Return the opt-outs that a side rejected and that have not changed since."""
    return [one for one in runtime.ledger.opt_outs.refused() if _SYSTEMS[side] in one.reason]


def refused_metadata(refused: Sequence[Reject]) -> dict[str, Any]:
    """Return a table of rejected opt-outs by reason; empty if there are none."""
    if not refused:
        return {}
    reasons = Counter(kind_of_reason(one.reason) for one in refused).most_common(SHOWN)
    return {"refused_by_reason": check_results.table(("reason", "records"), reasons)}


def everything_due_is_decided(outcome: Outcome, key: dg.AssetKey, deciding: DecisionRun) -> dg.AssetCheckResult:
    """Return the result of the check that fails if Campaign did not answer for some contacts.

    Also adds the failure to the outcome. The run goes on, since the other decisions are to be written.
    """
    text = "Everything that was due is decided."
    if deciding.unanswered:
        text = f"Campaign could not be asked about {counted(deciding.unanswered, 'contact')}; these opt-outs stay due."
        text = f"{text} {deciding.problem or ''}".strip()
        outcome.stopped.append(text)
    return dg.AssetCheckResult(
        passed=not deciding.unanswered,
        asset_key=key,
        check_name=DECIDED,
        severity=dg.AssetCheckSeverity.WARN,
        description=markdown(text),
        metadata={"unanswered": deciding.unanswered},
    )


def no_opt_out_is_refused(key: dg.AssetKey, refused: Sequence[Reject]) -> dg.AssetCheckResult:
    """Return the result of the check for rejected opt-outs, which fails while there is any. The others go on."""
    text = ACCEPTED_TEXT
    if refused:
        text = (
            f"{counted(len(refused), 'opt-out', 'are')} rejected. See `sync-assets rejects`; put right what is wrong, "
            "then `sync-assets retry contact`."
        )
    return dg.AssetCheckResult(
        passed=not refused,
        asset_key=key,
        check_name=ACCEPTED,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"refused": len(refused)},
    )


def stop(outcome: Outcome, *problems: str | None) -> None:
    """Fail the run if there is a problem, after its results were yielded, since some work was not done.

    Raises:
        dg.Failure: One of the problems is not None.
    """
    found = [problem for problem in problems if problem]
    if found:
        outcome.stopped += found
        raise dg.Failure(" ".join(dict.fromkeys(found)), allow_retries=False)
