"""Create and read Campaign's opaque tokens: PKeys, links of sub-collections, positions in a list.

A token is `@` and 64 characters of base64url. It contains the number that it stands for, authenticated and masked, so
that tokens need no table and clients cannot construct them.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

RECORD, COLLECTION, LINE, METADATA, ACTIVITY = range(5)

_PLAIN = Struct(">BBQ")
_SEAL = 38


class Reference(NamedTuple):
    """The content of a token."""

    kind: int
    table: int
    number: int


class Tokens:
    """Creates and reads the tokens of one instance."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def make(self, kind: int, table: int, number: int) -> str:
        plain = _PLAIN.pack(kind, table, number)
        seal = blake2b(plain, digest_size=_SEAL, key=self._secret).digest()
        hidden = int.from_bytes(plain, "big") ^ int.from_bytes(seal[: _PLAIN.size], "big")
        return "@" + urlsafe_b64encode(seal + hidden.to_bytes(_PLAIN.size, "big")).decode()

    def read(self, token: str) -> Reference | None:
        """Return the content of a token; None if it is not one of this instance. The leading `@` is optional."""
        try:
            raw = urlsafe_b64decode(token.removeprefix("@").encode("ascii"))
        except ValueError:
            return None
        if len(raw) != _SEAL + _PLAIN.size:
            return None
        seal = raw[:_SEAL]
        plain = int.from_bytes(raw[_SEAL:], "big") ^ int.from_bytes(seal[: _PLAIN.size], "big")
        packed = plain.to_bytes(_PLAIN.size, "big")
        if not secrets.compare_digest(blake2b(packed, digest_size=_SEAL, key=self._secret).digest(), seal):
            return None
        return Reference(*_PLAIN.unpack(packed))
