"""Judge a simulated run by the contract alone.

Written from the design, the contract and the documents for users. Shares no code with the program's rules: a rule that
is wrong there must be found here. `test_checker.py` plays a correct history, and for each rule one that breaks it.
"""

from __future__ import annotations

from sync_assets_tests.simulation import call_rules, final_rules, opt_out_rules, order_rules
from sync_assets_tests.simulation.history import History
from sync_assets_tests.simulation.observed import Observed
from sync_assets_tests.simulation.violation import Violation

RULES = (*final_rules.RULES, *call_rules.RULES, *order_rules.RULES, *opt_out_rules.RULES)


def check(observed: Observed) -> list[Violation]:
    """Return the sentences of the contract that the run broke; none for a correct run."""
    history = History(observed)
    return [violation for rule in RULES for violation in rule(history)]
