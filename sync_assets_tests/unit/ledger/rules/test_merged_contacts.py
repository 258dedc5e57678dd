"""What the opt-out of a merged contact means for its master."""

from itertools import product

import pytest

from sync_assets.ledger.rules.merged_contacts import MergeState, after_capture, last_master

NONE, DUE, CARRIED, ENDED = MergeState

OPTED_OUT = {NONE: DUE, DUE: DUE, CARRIED: CARRIED, ENDED: ENDED}


@pytest.mark.parametrize(("state", "are_fields"), product(MergeState, (False, True)))
def test_an_opt_out_counts_once_and_again_after_an_opt_in_or_for_another_master(
    state: MergeState, are_fields: bool
) -> None:
    assert after_capture(state, opted_out=True, moved=False, are_fields=are_fields) == OPTED_OUT[state]
    assert after_capture(state, opted_out=True, moved=True, are_fields=are_fields) == DUE
    for moved in (False, True):
        kept = CARRIED if state == CARRIED and are_fields else NONE
        assert after_capture(state, opted_out=False, moved=moved, are_fields=are_fields) == kept, "no opt-in"


@pytest.mark.parametrize(
    ("masters", "last"),
    [
        ({}, "a"),
        ({"a": "b"}, "b"),
        ({"a": "b", "b": "c", "x": "a"}, "c"),
        ({"a": "a"}, None),
        ({"a": "b", "b": "a"}, None),
        ({"a": "b", "b": "c", "c": "b"}, None),
    ],
)
def test_a_chain_ends_at_its_last_master_and_a_circle_at_none(masters: dict[str, str], last: str | None) -> None:
    assert last_master("a", masters) == last
