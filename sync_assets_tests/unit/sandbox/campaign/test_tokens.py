"""Opaque references: readable by the instance that made them, by nobody else."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from sync_assets.sandbox.campaign.tokens import RECORD, Reference, Tokens

TOKENS = Tokens()


@given(st.integers(0, 4), st.integers(0, 255), st.integers(0, 2**64 - 1))
def test_a_token_is_opaque_and_reads_back(kind: int, table: int, number: int) -> None:
    token = TOKENS.make(kind, table, number)
    assert re.fullmatch(r"@[A-Za-z0-9_-]{60,160}", token)
    assert TOKENS.read(token) == TOKENS.read(token[1:]) == Reference(kind, table, number)
    assert Tokens().read(token) is None, "another instance cannot read it"


@given(st.text(max_size=80))
def test_other_text_is_no_token(text: str) -> None:
    assert TOKENS.read(text) is None


@given(st.integers(0, 63), st.sampled_from("abcXYZ012_-"))
def test_a_changed_character_is_noticed(place: int, character: str) -> None:
    token = TOKENS.make(RECORD, 1, 7)
    changed = token[: place + 1] + character + token[place + 2 :]
    assert TOKENS.read(changed) == (Reference(RECORD, 1, 7) if changed == token else None)
