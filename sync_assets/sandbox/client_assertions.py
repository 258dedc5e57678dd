"""Check the client assertions of an app registration: signed by its certificate, or issued by a trusted issuer.

Here: what Entra ID verifies of an assertion, and its error codes. The token endpoint is in `entra.py`. Sources:
https://learn.microsoft.com/entra/identity-platform/certificate-credentials and
https://learn.microsoft.com/entra/workload-id/workload-identity-federation

Invariant: a certificate's assertion is accepted once. Entra ID may accept it more often [assumed]; clients must not
depend on that.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AUDIENCE = "api://AzureADTokenExchange"
"""The audience of a federated token."""
SKEW = 300
"""Seconds by which the client's clock may differ."""

# Here only the signature is verified: times are compared with the sandbox's own clock, and claims have error codes.
_SIGNATURE_ONLY: Any = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}

Refusal = tuple[int, str]
"""Number and text of an AADSTS error."""


@dataclass(frozen=True, slots=True)
class FederatedIdentity:
    """A federated credential: tokens with this issuer and subject, signed by the key, stand for the application."""

    issuer: str
    subject: str
    public_key: Any

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> FederatedIdentity:
        """Read `{"issuer", "subject", "public_key": PEM}`. Raises KeyError, ValueError or TypeError."""
        key = serialization.load_pem_public_key(document["public_key"].encode())
        return cls(str(document["issuer"]), str(document["subject"]), key)


class ClientAssertions:
    """The certificates and federated credentials of one app registration; at first it has none."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.certificates: list[x509.Certificate] = []
        self.federated: list[FederatedIdentity] = []
        self._clock = clock
        self._used: dict[str, float] = {}

    def refusal(self, assertion: str, client_id: str, audiences: set[str]) -> Refusal | None:
        """Return the error for an assertion; None if it is valid. audiences: what a certificate's one may name."""
        try:
            header = jwt.get_unverified_header(assertion)
            claims = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            return 50027, "Invalid JWT token. Token format not valid."
        if claims.get("iss") == client_id:
            return self._of_certificate(assertion, header, claims, client_id, audiences)
        return self._of_issuer(assertion, claims)

    def _of_certificate(
        self, assertion: str, header: Mapping[str, Any], claims: Mapping[str, Any], client_id: str, audiences: set[str]
    ) -> Refusal | None:
        certificate = next((known for known in self.certificates if _has_thumbprint(known, header)), None)
        if certificate is None:
            return 700027, (
                "The certificate with identifier used to sign the client assertion is not registered on application. "
                "[Reason - The key was not found.]"
            )
        if not _is_signed(assertion, certificate.public_key()):
            return 700027, "Client assertion failed signature validation."
        if not self._is_valid_now(certificate):
            return 700027, "Client assertion contains an invalid signature. [Reason - The key used is expired.]"
        return self._misaddressed(claims, client_id, audiences) or self._untimely(claims) or self._replayed(claims)

    def _misaddressed(self, claims: Mapping[str, Any], client_id: str, audiences: set[str]) -> Refusal | None:
        if claims.get("sub") != client_id:
            return 700021, "Client assertion application identifier doesn't match 'client_id' parameter."
        if claims.get("aud") not in audiences:
            return 700023, "Client assertion audience claim does not match Realm issuer."
        return None

    def _is_valid_now(self, certificate: x509.Certificate) -> bool:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return begin.timestamp() <= self._clock() < end.timestamp()

    def _replayed(self, claims: Mapping[str, Any]) -> Refusal | None:
        now = self._clock()
        self._used = {jti: end for jti, end in self._used.items() if end > now}
        identifier = str(claims.get("jti", ""))
        if not identifier or identifier in self._used:
            return 50013, "Assertion is not valid: it has no identifier, or was used before."
        self._used[identifier] = float(claims["exp"]) + SKEW
        return None

    def _of_issuer(self, assertion: str, claims: Mapping[str, Any]) -> Refusal | None:
        identities = [identity for identity in self.federated if identity.issuer == claims.get("iss")]
        if not identities:
            return 700211, "No matching federated identity record found for presented assertion issuer."
        matching = [identity for identity in identities if identity.subject == claims.get("sub")]
        if not matching:
            return 700213, "No matching federated identity record found for presented assertion subject."
        if claims.get("aud") not in (AUDIENCE, [AUDIENCE]):
            return 700212, "No matching federated identity record found for presented assertion audience."
        if not any(_is_signed(assertion, identity.public_key) for identity in matching):
            return 50013, "Assertion failed signature validation."
        return self._untimely(claims)

    def _untimely(self, claims: Mapping[str, Any]) -> Refusal | None:
        now, end, begin = self._clock(), claims.get("exp"), claims.get("nbf", claims.get("iat", 0))
        if isinstance(end, int | float) and isinstance(begin, int | float) and begin - SKEW <= now < end + SKEW:
            return None
        return 700024, "Client assertion is not within its valid time range."


def _has_thumbprint(certificate: x509.Certificate, header: Mapping[str, Any]) -> bool:
    content = certificate.public_bytes(serialization.Encoding.DER)
    name, algorithm = ("x5t#S256", hashlib.sha256) if "x5t#S256" in header else ("x5t", hashlib.sha1)
    thumbprint = base64.urlsafe_b64encode(algorithm(content).digest()).decode()
    return str(header.get(name, "")).rstrip("=") == thumbprint.rstrip("=")


def _is_signed(assertion: str, key: Any) -> bool:
    try:
        jwt.decode(assertion, key=key, algorithms=["PS256", "RS256"], options=_SIGNATURE_ONLY)
    except (jwt.PyJWTError, TypeError, ValueError):
        return False
    return True
