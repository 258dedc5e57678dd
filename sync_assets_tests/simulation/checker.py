"""Judge a simulated run by the contract alone.

Written from the design, the contract and the documents for users. Shares no code with the program's rules: a rule that
is wrong there must be found here. `test_checker.py` plays a correct history, and for each rule one that breaks it.
"""

from collections.abc import Iterable
from dataclasses import replace

from sync_assets_tests.simulation import call_rules, final_rules, opt_out_rules, order_rules
from sync_assets_tests.simulation.history import History
from sync_assets_tests.simulation.observed import Moment, Observed, RecordChange, Table
from sync_assets_tests.simulation.violation import Rule, Violation

RULES = (*final_rules.RULES, *call_rules.RULES, *order_rules.RULES, *opt_out_rules.RULES)


def check(observed: Observed) -> list[Violation]:
    """Return the sentences of the contract that the run broke; none for a correct run."""
    if observed.retargeted is None:
        return _broken(RULES, observed)
    before, after = _before(*observed.retargeted, observed), _after(*observed.retargeted, observed)
    counts = (final_rules.the_ledger_counts_each_engine_call_once,)
    rules = [rule for rule in RULES if rule not in counts]
    requests = (*call_rules.RULES, *order_rules.RULES)
    return [*_broken(requests, before), *_broken(rules, after), *_broken(counts, observed)]


def _broken(rules: Iterable[Rule], observed: Observed) -> list[Violation]:
    history = History(observed)
    return [violation for rule in rules for violation in rule(history)]


def _before(moment: Moment, tables: tuple[Table, ...], observed: Observed) -> Observed:
    """Return what happened before profiles got another key."""
    return replace(
        observed,
        tables=tables,
        configuration=next(document for at, document in observed.replaced if at.n >= moment.n),
        replaced=tuple(one for one in observed.replaced if one[0].n < moment.n),
        rows=tuple(one for one in observed.rows if one.moment.n < moment.n),
        calls=tuple(one for one in observed.calls if one.handled.n < moment.n),
        others=tuple(one for one in observed.others if one.moment.n < moment.n),
        verified=tuple(one for one in observed.verified if one.moment.n < moment.n),
        retargeted=None,
    )


def _after(moment: Moment, tables: tuple[Table, ...], observed: Observed) -> Observed:
    """Return what happened afterwards: what Campaign held by then was there before."""
    made = [
        RecordChange(
            call.handled, call.resource, (call.after or call.before or {})["PKey"], call.before, call.after, "program"
        )
        for call in observed.calls
        if call.handled.n < moment.n and call.took_effect
    ]
    return replace(
        observed,
        calls=tuple(one for one in observed.calls if one.handled.n >= moment.n),
        others=tuple(sorted((*observed.others, *made), key=lambda one: one.moment.n)),
        former_keys={"contact": next(table.key for table in tables if table.table == "contact")},
        retargeted=None,
    )
