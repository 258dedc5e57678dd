"""Fault rules: which request goes wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.sandbox.faults import BadRule, Faults

KINDS = frozenset({"status", "slow"})


def faults(*rules: dict[str, Any]) -> Faults:
    made = Faults()
    made.register("d365", KINDS)
    for rule in rules:
        made.add({"system": "d365", "kind": "status"} | rule)
    return made


def hits(made: Faults, requests: int, method: str = "GET", path: str = "/x") -> list[int]:
    """Numbers of the requests that go wrong."""
    return [n for n in range(requests) if made.take("d365", KINDS, method, path) is not None]


@given(times=st.none() | st.integers(1, 5), skip=st.integers(0, 5), every=st.integers(1, 4))
def test_skip_then_every_kth_and_no_more_than_times(times: int | None, skip: int, every: int) -> None:
    made = faults({"times": times, "skip": skip, "every": every})
    assert hits(made, 30) == list(range(skip, 30, every))[:times]


def test_only_the_method_and_the_path_given() -> None:
    made = faults({"method": "patch", "path": r"contacts\(\d+\)$"})
    assert hits(made, 1, "GET", "/contacts(1)") == []
    assert hits(made, 1, "PATCH", "/contacts(1)?x") == []
    assert hits(made, 1, "PATCH", "/contacts(1)") == [0]
    assert made.rules[0].matched == 1, "what does not match does not count"


def test_clearing_all_or_one_system() -> None:
    made = faults({}, {})
    made.register("campaign", KINDS)
    made.add({"system": "campaign", "kind": "slow"})
    made.clear("d365")
    assert [rule.system for rule in made.rules] == ["campaign"]
    made.clear()
    assert made.rules == []


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"system": "nosuch"}, "system 'nosuch' is unknown; one of: d365"),
        ({"kind": "nosuch"}, "d365 has no fault 'nosuch'; one of: slow, status"),
        ({"times": 0}, "times must be a whole number from 1"),
        ({"every": 0}, "every must be a whole number from 1"),
        ({"skip": "2"}, "skip must be a whole number from 0"),
        ({"path": "("}, "path is not a regular expression"),
        ({"method": 5}, "method must be text"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(rule: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRule, match=complaint.replace("(", r"\(")):
        faults(rule)
