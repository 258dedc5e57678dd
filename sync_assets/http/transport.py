"""Responses, limits and errors of HTTP requests, and the trusted certificates.

Does not import aiohttp (only aiohttp_transport.py does): the code location, which sends no requests, loads 5 % faster.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import certifi
import msgspec

from sync_assets.errors import SyncAssetsError


class HttpError(SyncAssetsError):
    """A request got no usable response."""


REACH = "Check that address in the environment, and the network; nothing is lost, run it again later."
"""The remedy if an address does not answer. A caller may name its variable instead."""
CHECK_ADDRESS = "Check that address in the environment, and what answers in its place on the way, such as a proxy."
"""The remedy if an address is no URL, or its answer none of the system's."""


class NotSent(HttpError):
    """There was no connection: the request was certainly not carried out."""


class NotTrusted(NotSent):
    """The server's certificate is not trusted. A retry does not help."""


class OutcomeUnknown(HttpError):
    """The connection was lost or timed out after sending: the request may have been carried out."""


class LimitExceeded(OutcomeUnknown):
    """The response was larger, or took longer, than its `Limits` allow. A retry would not help."""


class ResponseTooLarge(LimitExceeded):
    """The response was larger than its `Limits` allow."""


class Unavailable(HttpError):
    """Raised when the server kept refusing (429, 503, ...) longer than `patience`. status: the last one, 0 for none."""

    def __init__(self, cause: str, remedy: str = "What is left stays pending; run it again later.", status: int = 0):
        self.status = status
        super().__init__(cause, remedy)


class SignInRefused(HttpError):
    """The identity provider or the server did not accept our credentials."""


class ForeignLink(HttpError):
    """A link in a response leads to another host, to which our token would have been sent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a response; beyond them LimitExceeded is raised.

    largest: bytes, as received and again as decompressed; twice as many may be in memory.
    seconds: from sending the request to the last byte of the response, even if data keeps arriving.
    """

    largest: int = 64 << 20
    seconds: float = 300.0


USUAL_LIMITS = Limits()
SIGN_IN_LIMITS = Limits(largest=1 << 20, seconds=60.0)
"""Limits of a sign-in: a token has a few kilobytes."""


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """How requests are carried to one system.

    context: the trusted certificates. headers: of every request. most: connections at once. timeout: seconds between
    two pieces of a response. limits: of a whole response.
    """

    context: ssl.SSLContext
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    most: int = 64
    timeout: float = 60.0
    limits: Limits = USUAL_LIMITS


def ssl_context(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """Create a TLS context that trusts the machine's authorities (or certifi's, if it has none) and a PEM file's."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    if ca_bundle:
        try:
            context.load_verify_locations(ca_bundle)
        except (OSError, ssl.SSLError) as error:
            missing = isinstance(error, FileNotFoundError)
            fault = "is missing" if missing else "cannot be read as PEM certificates"
            raise SyncAssetsError(
                f"SYNC_ASSETS_CA_BUNDLE names {ca_bundle}, which {fault}.", "Name a PEM file there, or unset it."
            ) from error
    return context


_CERTIFICATE_REMEDIES = {
    9: "The certificate begins later: correct this machine's clock.",
    10: "The certificate has ended: its server needs a new one, unless this machine's clock is wrong.",
    **dict.fromkeys((62, 64), "The certificate is another host's: correct the host, or check the proxies on the way."),
}
"""By OpenSSL's X509_V_ERR_…: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/"""


def certificate_remedy(error: BaseException | None) -> str:
    """Return what to do about a server's certificate that OpenSSL did not accept. error: its SSLError, or None."""
    authority = "Name the issuing authority's PEM file in SYNC_ASSETS_CA_BUNDLE."
    return _CERTIFICATE_REMEDIES.get(getattr(error, "verify_code", 0), authority)


class Response(NamedTuple):
    """A complete response. body: decompressed. headers: names are matched case-insensitively."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def status_code(self) -> int:
        """The status, as transports read it of an `httpx.Response`."""
        return self.status

    async def aread(self) -> bytes:
        """Return the body, as transports read it of an `httpx.Response`."""
        return self.body


T = TypeVar("T")


def parsed(body: bytes | str, shape: type[T]) -> T | None:
    """Return a body as JSON of this shape; None if it is none."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def members(body: bytes) -> dict[str, Any]:
    """Return the members of a body that is a JSON object; none if it is something else."""
    return parsed(body, dict[str, Any]) or {}
