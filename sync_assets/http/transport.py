"""What comes of a request: an answer, or the reason why there is none; and whom we trust to give one.

Without aiohttp, which `wire.py` has: the code location loads a twentieth sooner, and nobody asks anything then.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
import msgspec

from sync_assets.errors import SyncAssetsError


class HttpError(SyncAssetsError):
    """A request that got no usable answer."""


class NotSent(HttpError):
    """No connection: the request certainly was not carried out."""


class NotTrusted(NotSent):
    """The server's certificate is not trusted; trying again does not help."""


class OutcomeUnknown(HttpError):
    """The connection was lost or timed out after sending: the request may have been carried out."""


class LimitExceeded(OutcomeUnknown):
    """The answer was larger, or took longer, than its `Limits` allow, and was given up: asked for again, it would be
    the same."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an answer may cost, whoever gives it. An answer beyond them raises LimitExceeded.

    `largest`: bytes, as they are received and once more as they are inflated; twice as many may be in memory.
    `seconds`: from sending the request to the last byte of the answer, however lively it trickles.
    """

    largest: int = 64 << 20
    seconds: float = 300.0


USUAL_LIMITS = Limits()
SIGN_IN_LIMITS = Limits(largest=1 << 20, seconds=60.0)
"""A token has some kilobytes."""


def ssl_context(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """The machine's authorities (certifi's where it has none) and those of `ca_bundle`, a PEM file."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    if ca_bundle:
        try:
            context.load_verify_locations(ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise SyncAssetsError(
                f"SYNC_ASSETS_CA_BUNDLE names {ca_bundle}, which cannot be read as PEM certificates.",
                "Give the path of a PEM file, or unset it.",
            ) from error
    return context


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer. `body` is decompressed; header names are matched case-insensitively."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises msgspec.DecodeError, UnicodeDecodeError."""
        try:
            return msgspec.json.decode(self.body)
        except RecursionError:
            raise msgspec.DecodeError("JSON is nested too deeply") from None

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")
