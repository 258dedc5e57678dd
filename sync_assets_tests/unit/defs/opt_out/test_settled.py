"""Opt-outs that were due without a file, as the follower reports several runs of them at once."""

from collections import Counter
from typing import Any

import pytest

from sync_assets.defs.opt_out.settled import Settled
from sync_assets.flows import RunOutcome
from sync_assets.opt_out.apply import Applied
from sync_assets.opt_out.pending_decisions import DecisionRun
from sync_assets.runtime.context import Runtime

NO_SESSION: Any = None


@pytest.mark.parametrize(
    ("decided", "applied", "moved"),
    [
        (0, Applied(), False),
        (1, Applied(), True),
        (0, Applied(written=1), True),
        (0, Applied(rejected=1), True),
        (0, Applied(to_be_decided_again=1), True),
        (0, Applied(unanswered=1), False),  # else a system that gives no answer would be asked all the time
        (0, Applied(problem="Campaign fails on opt-outs."), False),
    ],
)
def test_a_run_has_moved_something_if_a_decision_was_made_or_a_system_answered(
    decided: int, applied: Applied, moved: bool
) -> None:
    settled = Settled(Runtime({}), RunOutcome())
    settled.changes.deciding = DecisionRun(NO_SESSION, "(changes)", Counter({("an opt-out wins", "d365"): decided}))
    settled.changes.deciding.decided = +settled.changes.deciding.decided
    settled.changes.written = {"d365": applied}
    assert settled.moved is moved
