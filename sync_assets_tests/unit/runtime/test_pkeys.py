"""PKeys of parents: in memory, the most recently used ones, for a while."""

from contextlib import closing

import pytest

from sync_assets.runtime.pkeys import SECONDS, ListedKeys, ParentKeys

ADA, BERT, CARL = (1, 1), (2, 1), (3, 1)


def test_a_pkey_is_that_of_one_record_and_incarnation() -> None:
    keys = ParentKeys()
    keys.remember(ADA, "@a")
    assert keys.get(ADA) == "@a"
    assert keys.get((1, 2)) is None
    assert keys.get(BERT) is None
    keys.forget(ADA)
    assert keys.get(ADA) is None


def test_the_oldest_one_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_assets.runtime.pkeys.CAPACITY", 2)
    keys = ParentKeys()
    for id_ in (ADA, BERT, ADA, CARL):
        keys.remember(id_, f"@{id_}")
    assert keys.get(BERT) is None
    assert (keys.get(ADA), keys.get(CARL)) == (f"@{ADA}", f"@{CARL}")


def test_one_is_believed_for_a_while_only() -> None:
    now = 0.0
    keys = ParentKeys(clock=lambda: now)
    keys.remember(ADA, "@a")
    now = SECONDS - 1
    assert keys.get(ADA) == "@a"
    now = SECONDS
    assert keys.get(ADA) is None


def test_ids_that_no_list_has() -> None:
    with closing(ListedKeys()) as keys:
        keys.add("profile", [("a", {"PKey": "1"}), ("b", {"PKey": "2"})])
        keys.add("cusOrder", [("c", {"PKey": "1"})])
        assert keys.lacking("profile", ["a", "c", "b", "d"]) == ["c", "d"]
