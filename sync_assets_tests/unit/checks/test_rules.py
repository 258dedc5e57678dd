"""The registry of findings: a rule has a title for each result."""

import pytest

from sync_assets.checks import rules
from sync_assets.checks.rules import NotReady, Rule, require

REGISTRY = [one for one in vars(rules).values() if isinstance(one, Rule)]


@pytest.mark.parametrize("rule", REGISTRY, ids=lambda rule: rule.name)
def test_the_titles_of_both_results_differ_and_only_a_rule_that_stops_fails(rule: Rule) -> None:
    held, broken = rule.finding(True), rule.finding(False, "Mend it.")
    assert held.title != broken.title
    assert (held.outcome, held.message) == ("ok", rule.holds)
    assert broken.outcome == ("warn" if rule.stops == "nothing" else "fail")
    assert str(broken) == f"{rule.broken}: Mend it."


def test_names_are_unique() -> None:
    assert len({rule.name for rule in REGISTRY}) == len(REGISTRY)


def test_a_table_stops_with_all_its_reasons_and_no_warning() -> None:
    broken = [rules.TRACKING.finding(False, "switch it on"), rules.KEY.finding(False, "map another")]
    note = rules.BUDGET.finding(False, "nothing is left")
    assert require("contact", [note, rules.COLUMNS.finding(True)])[0] is note
    with pytest.raises(NotReady) as caught:
        require("contact", [*broken, note])
    assert str(caught.value) == (
        "contact was not synchronised, nothing was written: change tracking is off: switch it on; no record "
        "can be found by the key: map another"
    )
