"""What the opt-out of a merged contact means for its master."""

import pytest

from sync_assets.ledger.rules.merged_contacts import MergeState, after_capture, last_master

NONE, DUE, CARRIED, ENDED, DECIDED = MergeState

OPTED_OUT = {NONE: DUE, DUE: DUE, CARRIED: CARRIED, ENDED: ENDED, DECIDED: DECIDED}


@pytest.mark.parametrize("state", MergeState)
def test_an_opt_out_counts_once_and_again_after_an_opt_in_or_for_another_master(state: MergeState) -> None:
    assert after_capture(state, opted_out=True, moved=False) == OPTED_OUT[state]
    assert after_capture(state, opted_out=True, moved=True) == DUE
    for moved in (False, True):
        kept = CARRIED if state == CARRIED else NONE
        assert after_capture(state, opted_out=False, moved=moved) == kept, "no opt-in"


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
