"""Bugs planted by hand, and how soon the simulation finds each: `python -m sync_assets_tests.simulate --planted`.

Each bug runs in a process of its own, which imports one module with changed source; the work tree is not touched. A bug
counts as found by the first seed that fails with it and does not fail without it.
"""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class PlantedBug:
    """A small change of the program's source.

    Attributes:
        name: Of the place in which it is planted.
        module: The module that is changed.
        old: Text that occurs once in its source.
        new: What stands there instead.
        meaning: What the program then does wrong.
    """

    name: str
    module: str
    old: str
    new: str
    meaning: str

    @property
    def path(self) -> Path:
        return ROOT / Path(*self.module.split(".")).with_suffix(".py")

    def source(self) -> str:
        """Return the changed source. Raises ValueError if the text does not occur exactly once."""
        source = self.path.read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise ValueError(f"{self.path.relative_to(ROOT)} does not contain exactly once: {self.old}")
        return source.replace(self.old, self.new)


BUGS = (
    PlantedBug(
        "rules",
        "sync_assets.ledger.rules.record_state",
        "waits = dependencies.has_children",
        "waits = dependencies.has_children and record.outcome_unknown",
        "a parent is deleted before its children",
    ),
    PlantedBug(
        "claims",
        "sync_assets.ledger.records.claims",
        "> 0 THEN 2\n            WHEN unknown_until IS NULL OR CAST(:until AS bigint) IS NOT NULL THEN 1 ELSE 2 END",
        "= 0 AND CAST(:until AS bigint) IS NULL THEN 0 ELSE outcome_unknown END",
        "a claim forgets that a killed worker may have sent its records",
    ),
    PlantedBug(
        "horizon",
        "sync_assets.ledger.rules.transitions",
        "if outcome.unanswered:\n        record = record._replace(unknown_until=late_until)",
        "record = record._replace(unknown_until=None)",
        "a late request undoes a newer one, and it stays so",
    ),
    PlantedBug(
        "capture",
        "sync_assets.capture.context",
        "missing_are_deleted=self.apply_deletes",
        "missing_are_deleted=False",
        "a full read deletes nothing that it did not contain",
    ),
    PlantedBug(
        "loads",
        "sync_assets.ledger.records.loads",
        "transaction.run(_FREE, seqs=seqs)",
        "transaction.run(_FREE.replace('SET', 'SET acked_hash = desired_hash, outcome_unknown = 0,'), seqs=seqs)"
        "\n                self._dependencies.reevaluate(transaction, transaction.states_of(seqs))",
        "a load acknowledges what no list showed",
    ),
    PlantedBug(
        "delivery",
        "sync_assets.push.delivery",
        'patch = record.operation == "update" or record.outcome_unknown',
        'patch = record.operation == "update"',
        "an insert whose answer was lost is inserted again without a look",
    ),
    PlantedBug(
        "opt-outs",
        "sync_assets.opt_out.decide",
        'return Decision(True, "campaign" if held',
        'return Decision(held, "campaign" if held',
        "an opt-out in Campaign is ignored if the contact changed later",
    ),
    PlantedBug(
        "turns",
        "sync_assets.ledger.records.captured_rows",
        "if unknown:\n                now_left = page.perhaps_left(now_left)",
        "if unknown and not acked_hash:\n                now_left = page.perhaps_left(now_left)",
        "a field taken back while its updates are under way is forgotten",
    ),
    PlantedBug(
        "clocks",
        "sync_assets.ledger.rules.opt_outs",
        "if _is_older(row, latest or stated_at, vague=vague or earlier):",
        "if earlier or _is_older(row, latest or stated_at, vague=vague):",
        "an opt-out after one of a clock that was ahead is stale for ever",
    ),
    PlantedBug(
        "comparison",
        "sync_assets.ledger.rules.opt_outs",
        "(row.written or (value and row.d365 == 0))",
        "row.written",
        "an opt-out that Dynamics 365 lost is not written again",
    ),
    PlantedBug(
        "links",
        "sync_assets.checks.link_findings",
        "stops=bool(hidden)",
        "stops=False",
        "a table is sent without a link that Campaign requires",
    ),
    PlantedBug(
        "orphaned",
        "sync_assets.ledger.records.deletions",
        "transaction, [], purged, collect_orphans",
        "transaction, [], (), collect_orphans",
        "the links of a purged record stay in the ledger",
    ),
    PlantedBug(
        "totals",
        "sync_assets.ledger.records.captured_rows",
        "transaction.count(table, state, number)",
        "transaction.count(table, state, number - (state == State.REJECTED))",
        "new rows with a validation error are miscounted",
    ),
    PlantedBug(
        "race",
        "sync_assets.ledger.rules.transitions",
        'acked = None if outcome.result == "missing" else outcome.hash',
        "acked = outcome.hash and record.desired_hash",
        "an answer acknowledges what is desired by now instead of what was sent",
    ),
)


class _Finder(importlib.machinery.SourceFileLoader):
    """Loads the changed module, and leaves all others to the usual finders."""

    def __init__(self, bug: PlantedBug) -> None:
        super().__init__(bug.module, str(bug.path))
        self._bug = bug

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        if fullname != self._bug.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._bug.path, loader=self)

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self._bug.source(), self._bug.path, "exec")


def plant(bug: PlantedBug) -> None:
    """Change the module for this process, which must not have imported it."""
    if bug.module in sys.modules:
        raise RuntimeError(f"{bug.module} is imported already")
    sys.meta_path.insert(0, _Finder(bug))  # pyright: ignore[reportArgumentType]


def failing_seeds(name: str, start: int) -> None:
    """Plant a bug and print each failing seed, the number of seeds and processor seconds so far, and the rule."""
    plant(next(bug for bug in BUGS if bug.name == name))
    from sync_assets_tests import simulate

    with simulate.sqlite_ledgers() as ledgers:
        for n in count(1):
            seed = start + n - 1
            problems, _ = simulate.failures(simulate.scenario(seed), ledgers)
            if problems:
                print(seed, n, f"{time.process_time():.1f}", simulate.rule_of(problems[0]), flush=True)


def _found(bug: PlantedBug, start: int, seconds: float) -> Iterator[tuple[int, str]]:
    """Yield failing seeds, each with how it was found, for some seconds."""
    command = [sys.executable, "-m", __name__, bug.name, str(start)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    limit = ["timeout", str(int(seconds))]
    with subprocess.Popen([*limit, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        try:
            for line in process.stdout or ():
                seed, seeds, spent, rule = line.split()
                yield int(seed), f"{rule} after {seeds} seeds and {spent} s of processor time (seed {seed})"
        finally:
            process.terminate()


def find_bugs(start: int, seconds: float, passes: Callable[[int], bool]) -> int:
    """Look for each planted bug for some seconds, and print what found it. Return how many were not found.

    passes: Returns True if a seed does not fail without the bug.
    """
    missed = 0
    for bug in BUGS:
        result = next((how for seed, how in _found(bug, start, seconds) if passes(seed)), None)
        missed += result is None
        print(f"{bug.name:9} {result or 'NOT FOUND'}: {bug.meaning}", flush=True)
    return missed


if __name__ == "__main__":
    failing_seeds(sys.argv[1], int(sys.argv[2]))
