"""The opt-outs that were due without a file, as an asset run and the follower settle them: numbers and findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_assets.checks import health
from sync_assets.checks.rules import Finding
from sync_assets.flows import Outcome
from sync_assets.opt_out.apply import rejected_by_reason
from sync_assets.opt_out.changes import Changes
from sync_assets.opt_out.export.staging import stated_numbers
from sync_assets.opt_out.pending_decisions import DecisionRun, decision_numbers
from sync_assets.opt_out.profile_polling import ProfilePoll
from sync_assets.runtime.context import Runtime


class Settled:
    """One run of the flow of opt-outs without a file. `numbers` and `findings` need `changes.deciding`.

    outcome: receives the reasons why work was not done.
    """

    def __init__(self, runtime: Runtime, outcome: Outcome) -> None:
        self._runtime, self._outcome, self._calls = runtime, outcome, runtime.calls.total()
        self.changes = Changes(runtime)

    async def run(self, *, poll: bool = False) -> None:
        """Poll profiles if that is due, decide and write. Raises SyncAssetsError if nothing could be decided."""
        await self.changes.settle(poll=poll)

    @property
    def moved(self) -> bool:
        """Return True if something was decided or written."""
        changes = self.changes
        return bool(changes.deciding and changes.deciding.decided) or any(
            any(applied.numbers().values()) for applied in changes.written.values()
        )

    def numbers(self) -> Mapping[str, Any]:
        """Return the numbers of the run, and of what is left."""
        ledger, changes, attributes = self._runtime.ledger, self.changes, self._runtime.config.opt_out.attributes
        assert changes.deciding
        polled = (
            changes.polled or ProfilePoll()
        )  # without a poll its numbers are 0, so that the UI's plots have no gaps
        numbers: dict[str, Any] = {"profiles_read": polled.profiles, **stated_numbers(polled.stated)}
        numbers |= decision_numbers(ledger, changes.deciding)
        for side, written in changes.written.items():
            numbers |= written.numbers(f"{side}_")
        counts, refused = ledger.opt_outs.left(attributes), ledger.opt_outs.refused()
        numbers |= {"still_due": counts.due, "held": counts.held, **rejected_by_reason(refused)}
        return numbers | {"engine_calls": self._runtime.calls.total() - self._calls}

    def findings(self) -> list[Finding]:
        """Return the findings of the checks of `opt_out/changes`."""
        assert self.changes.deciding
        refused = len(self._runtime.ledger.opt_outs.refused())
        return [note_undecided(self._outcome, self.changes.deciding), health.accepted(refused)]


def note_undecided(outcome: Outcome, deciding: DecisionRun) -> Finding:
    """Return the finding about decisions; if it fails, the run goes on, since the others are to be written."""
    finding = health.decided(deciding.unanswered, deciding.problem)
    if not finding.passed:
        outcome.stopped.append(finding.message)
    return finding
