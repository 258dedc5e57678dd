"""PKeys of parents: in memory, the most recently used ones, for a while."""

from __future__ import annotations

import pytest

from sync_assets.runtime.parent_keys import SECONDS, ParentKeys
from sync_assets_tests.support.ledgers import guid

ADA, BERT, CARL = guid("ada"), guid("bert"), guid("carl")


def test_a_pkey_is_known_by_resource_and_id() -> None:
    keys = ParentKeys()
    keys.remember("profile", ADA, "@a")
    assert keys.get("profile", ADA.upper()) == "@a"
    assert keys.get("cusOrder", ADA) is None
    assert keys.get("profile", "no guid") is None
    keys.forget("profile", ADA)
    assert keys.get("profile", ADA) is None


def test_the_oldest_one_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_assets.runtime.parent_keys.CAPACITY", 2)
    keys = ParentKeys()
    for id_ in (ADA, BERT, ADA, CARL):
        keys.remember("profile", id_, f"@{id_}")
    assert keys.get("profile", BERT) is None
    assert (keys.get("profile", ADA), keys.get("profile", CARL)) == (f"@{ADA}", f"@{CARL}")


def test_one_is_believed_for_a_while_only() -> None:
    now = 0.0
    keys = ParentKeys(clock=lambda: now)
    keys.remember("profile", ADA, "@a")
    now = SECONDS - 1
    assert keys.get("profile", ADA) == "@a"
    now = SECONDS
    assert keys.get("profile", ADA) is None
