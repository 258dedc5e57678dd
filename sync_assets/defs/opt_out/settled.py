"""The opt-outs that were due without a file, as an asset run and the follower settle them: numbers and findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sync_assets.checks import health, rules
from sync_assets.checks.rules import Finding
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import RunOutcome
from sync_assets.opt_out.apply import rejected_by_reason
from sync_assets.opt_out.changes import Changes
from sync_assets.opt_out.export.staging import stated_numbers
from sync_assets.opt_out.pending_decisions import DecisionRun, decision_numbers
from sync_assets.runtime.context import Runtime


class Settled:
    """Runs of the flow of opt-outs without a file that are reported together: their numbers, the last one's findings.

    outcome: receives the reasons why work was not done.
    """

    def __init__(self, runtime: Runtime, outcome: RunOutcome) -> None:
        self._runtime, self._outcome, self.changes = runtime, outcome, Changes(runtime)
        self._counts, self._decided = Counter[str](), Counter[tuple[str, str]]()
        self._deciding: DecisionRun | None = None

    async def run(self, failed: list[SyncAssetsError], *, poll: bool = False) -> None:
        """Poll profiles if that is due, decide and write. Raises SyncAssetsError if nothing could be decided.

        failed: receives what failed of the run.
        """
        self.changes = Changes(self._runtime, failed=failed)
        try:
            await self.changes.settle(poll=poll)
        finally:
            self._outcome.counts.update(self.changes.counts)
            polled = self.changes.polled  # without a poll its numbers are 0, so that the UI's plots have no gaps
            counts = {"profiles_read": polled.profiles, **stated_numbers(polled.stated)}
            for side, written in self.changes.written.items():
                counts |= written.numbers(f"{side}_")
            self._counts.update(counts | {"engine_calls": polled.calls + self.changes.session_calls})
            if deciding := self.changes.deciding:
                self._decided.update(deciding.decided)
                self._deciding = replace(deciding, decided=self._decided)

    @property
    def moved(self) -> bool:
        """Return True if something was decided, or answered by a system."""
        written = (applied.numbers().items() for applied in self.changes.written.values())
        return bool(self.changes.deciding and self.changes.deciding.decided) or any(
            number for numbers in written for name, number in numbers if name != "unanswered"
        )

    @property
    def problems(self) -> list[str]:
        """Why parts of the run failed, or ended early."""
        ended = [applied.problem for applied in self.changes.written.values() if applied.problem]
        return [*dict.fromkeys([*map(str, self.changes.failed), *ended])]

    def numbers(self) -> Mapping[str, Any] | None:
        """Return the numbers of the run, and of what is left; None if nothing could be decided."""
        if self._deciding is None:
            return None
        ledger, attributes = self._runtime.ledger, self._runtime.config.opt_out.attributes
        counts, refused = ledger.opt_outs.left(attributes), ledger.opt_outs.refused()
        numbers = {**self._counts, **decision_numbers(ledger, self._deciding)}
        return numbers | {"still_due": counts.due, "held": counts.held, **rejected_by_reason(refused)}

    def findings(self) -> list[Finding]:
        """Return the findings of the checks of `opt_out/changes`."""
        deciding, why = self.changes.deciding, " ".join(self.problems)
        if deciding is None:
            return [rules.ALL_DECIDED.finding(False, why, stops=True)]
        decided = note_undecided(self._outcome, deciding)
        if why and decided.passed:
            decided = rules.ALL_DECIDED.finding(False, why)
        return [decided, health.accepted(len(self._runtime.ledger.opt_outs.refused()))]


def note_undecided(outcome: RunOutcome, deciding: DecisionRun) -> Finding:
    """Return the finding about decisions; if it fails, the run goes on, since the others are to be written."""
    finding = health.decided(deciding.unanswered, deciding.problem)
    if not finding.passed:
        outcome.stopped.append(finding.message)
    return finding
