"""Encrypt payloads before they are stored, with a key that the database never holds.

An erased payload stays readable where a database keeps old bytes: in PostgreSQL's heap until the page is reused, in its
write-ahead log, and in archives and backups made of both. A payload that was encrypted is unreadable in all of these
without the key, and for ever once its key is destroyed (docs/privacy.md).

AES-256-GCM with a random nonce for each payload, by `cryptography`. The id of the record is authenticated with it, so
that a payload moved to another record is refused. NIST allows 2^32 payloads under one key with random nonces
(SP 800-38D, https://csrc.nist.gov/pubs/sp/800/38/d/final).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sync_assets.ledger.errors import PayloadKeyMissing

if TYPE_CHECKING:
    import polars as pl
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MARK = b"encrypted:"
"""Begins an encrypted payload, before the key's name; a payload that is not encrypted is a JSON object."""
_NAME = 8
_BEGIN = len(MARK) + _NAME + 1
"""Length of the mark, the key's name and a colon; what follows is the nonce and the encrypted payload."""
_NONCE = 12


def key_name(key: bytes) -> str:
    """Return the name of a key: eight hexadecimal digits that show nothing of it."""
    return hashlib.blake2b(key, digest_size=_NAME // 2, person=b"sync_assets key").hexdigest()


def _aes(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - not loaded without a key

    return AESGCM(key)


class PayloadCipher:
    """Encrypts with the first of its keys, and decrypts with any of them.

    Without a key, payloads are stored as they are. Payloads that were stored so are read with and without a key.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """keys: of 32 bytes each."""
        self._by_name = {key_name(key): _aes(key) for key in keys}
        self.name = key_name(keys[0]) if keys else None
        """The name of the key that encrypts; None without one."""

    def encrypt(self, payload: str | None, id_: str) -> bytes | None:
        """Return the bytes to store for a record's payload. None stays None."""
        if payload is None or self.name is None:
            return None if payload is None else payload.encode()
        nonce = os.urandom(_NONCE)
        return self._mark(self.name) + nonce + self._by_name[self.name].encrypt(nonce, payload.encode(), id_.encode())

    def encrypt_column(self, payloads: pl.Series, ids: pl.Series) -> pl.Series:
        """Return what to store for the payloads of a page's records.

        Python's part is the AES calls only: a loop of `encrypt` holds the interpreter's lock twice as long, while the
        threads that read and store other pages wait for it.

        Args:
            payloads: String; null stays null.
            ids: String, of the same records.

        Returns:
            Binary; `payloads` themselves without a key, or if all are null.
        """
        if self.name is None or payloads.null_count() == len(payloads):
            return payloads
        import polars as pl  # noqa: PLC0415 - slow to import

        encrypt, nonces = self._by_name[self.name].encrypt, os.urandom(_NONCE * len(payloads))
        plain, plain_ids = payloads.cast(pl.Binary).to_list(), ids.cast(pl.Binary).to_list()
        mark = self._mark(self.name)
        sealed = [
            None if payload is None else mark + (nonce := nonces[at : at + _NONCE]) + encrypt(nonce, payload, id_)
            for at, payload, id_ in zip(range(0, len(nonces), _NONCE), plain, plain_ids, strict=True)
        ]
        return pl.Series(payloads.name, sealed, pl.Binary)

    @staticmethod
    def _mark(name: str) -> bytes:
        return MARK + name.encode() + b":"

    def decrypt(self, stored: str | bytes | None, id_: str) -> str | None:
        """Return the payload of what was stored. Raises PayloadKeyMissing if no key of ours decrypts it."""
        if stored is None or isinstance(stored, str):  # SQLite: what `encrypt_column` returned without a key
            return stored
        if not stored.startswith(MARK):
            return stored.decode()
        name, raw = stored[len(MARK) : _BEGIN - 1].decode(), stored[_BEGIN:]
        key = self._by_name.get(name)
        if key is None:
            raise PayloadKeyMissing(name)
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see _aes

        try:
            return key.decrypt(raw[:_NONCE], raw[_NONCE:], id_.encode()).decode()
        except InvalidTag:
            raise PayloadKeyMissing(name) from None

    def decrypt_if_possible(self, stored: str | bytes | None, id_: str) -> str | None:
        """Return the payload of what was stored; None if no key of ours decrypts it."""
        try:
            return self.decrypt(stored, id_)
        except PayloadKeyMissing:
            return None
