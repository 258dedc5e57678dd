"""Read the app registration's certificate or federated token from its file, in the form that msal takes.

Here: reading certificates and federated tokens, and what is wrong with them. Which credential is used follows from the
settings (`config/environment.py`); signing and the protocol are msal's. Sources:
https://learn.microsoft.com/entra/identity-platform/certificate-credentials and
https://learn.microsoft.com/entra/workload-id/workload-identity-federation

Invariant: no error contains a path or any part of a file's content, since a variable may hold a key by mistake.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from sync_assets.config.environment import ClientCertificate, FederatedToken
from sync_assets.http.transport import SignInRefused
from sync_assets.own_secrets import remember

CLOCK_SKEW = 300
"""Seconds by which clocks may differ: Entra ID decides about a token that ended less than that ago."""
KEY_BITS = 2048
"""The shortest RSA key that Entra ID accepts."""

_CERTIFICATE, _TOKEN = "D365_CLIENT_CERTIFICATE", "D365_FEDERATED_TOKEN_FILE"
_PASSWORD = f"{_CERTIFICATE}_PASSWORD"
_CONTENT = "It must name a PEM or PFX file with the certificate and its private key."
_READ_ERRORS = (ValueError, UnsupportedAlgorithm)


def msal_credential(credential: ClientCertificate | FederatedToken) -> Mapping[str, Any]:
    """Read the credential now, so that a replaced file counts at once, and return msal's `client_credential`.

    Raises:
        SignInRefused: The file cannot be read or used; nothing was sent.
        SecretFileError: The password's file cannot be read.
    """
    if isinstance(credential, FederatedToken):
        return {"client_assertion": _token(credential.file)}
    key, certificate = load_certificate(credential)
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise SignInRefused(
            f"The certificate that {_CERTIFICATE} names ended on {certificate.not_valid_after_utc:%Y-%m-%d}.",
            "Make a new one, add it to the app registration, and replace the file.",
        )
    # Given the certificate instead of a thumbprint, msal computes the SHA-256 thumbprint, and signs by PS256.
    return {"private_key": key, "public_certificate": certificate.public_bytes(serialization.Encoding.PEM).decode()}


def load_certificate(credential: ClientCertificate) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """Read the private key and its certificate. Raises SignInRefused, SecretFileError."""
    content = _content(credential.file, _CERTIFICATE)
    password = credential.password.get_secret_value().encode() if credential.password else None
    key, certificates = (_of_pem if b"-----BEGIN " in content else _of_pfx)(content, password)
    if key is None or not certificates:
        lacking = "private key" if key is None else "certificate"
        raise SignInRefused(f"The file that {_CERTIFICATE} names has no {lacking}.", _CONTENT)
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < KEY_BITS:
        raise SignInRefused(
            f"The key in the file that {_CERTIFICATE} names is no RSA key of at least {KEY_BITS} bits.",
            "Entra ID takes no other: make a new certificate, and add it to the app registration.",
        )
    for certificate in certificates:
        if certificate.public_key() == key.public_key():
            return key, certificate
    raise SignInRefused(
        f"In the file that {_CERTIFICATE} names, the private key does not belong to the certificate.",
        "Put the key and the certificate that was made with it into one file.",
    )


def _of_pem(content: bytes, password: bytes | None) -> tuple[Any, list[x509.Certificate]]:
    certificates: list[x509.Certificate] = []
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            certificates = x509.load_pem_x509_certificates(content)
    except _READ_ERRORS as error:
        raise SignInRefused(f"The certificate in the file that {_CERTIFICATE} names is damaged.", _CONTENT) from error
    if b"PRIVATE KEY-----" not in content:
        return None, certificates
    try:
        try:
            return serialization.load_pem_private_key(content, None), certificates
        except TypeError:  # the key is encrypted
            return _decrypted(content, password), certificates
    except _READ_ERRORS as error:
        raise SignInRefused(f"The private key in the file that {_CERTIFICATE} names is damaged.", _CONTENT) from error


def _decrypted(content: bytes, password: bytes | None) -> Any:
    if password is None:
        raise SignInRefused(
            f"The private key in the file that {_CERTIFICATE} names is encrypted, and no password is set.",
            f"Set {_PASSWORD} in the environment.",
        )
    try:
        return serialization.load_pem_private_key(content, password)
    except ValueError as error:
        raise SignInRefused(
            f"The private key in the file that {_CERTIFICATE} names does not open with its password.",
            f"Check {_PASSWORD}.",
        ) from error


def _of_pfx(content: bytes, password: bytes | None) -> tuple[Any, list[x509.Certificate]]:
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(content, password)
    except _READ_ERRORS as error:
        # PKCS #12 is a DER sequence that begins with the version, 3 (RFC 7292, 4).
        if content[:1] != b"\x30" or b"\x02\x01\x03" not in content[2:10]:
            raise SignInRefused(f"The file that {_CERTIFICATE} names is neither PEM nor PFX.", _CONTENT) from error
        cause = "does not open with its password" if password else "does not open without a password"
        raise SignInRefused(
            f"The PFX file that {_CERTIFICATE} names {cause}.",
            f"{'Check' if password else 'Set'} {_PASSWORD}; a damaged file fails in the same way.",
        ) from error
    return key, [certificate, *others] if certificate else others


def _token(file: Path) -> str:
    token = _content(file, _TOKEN).decode("ascii", "replace").strip()
    renew = "The platform renews this file: check its workload identity, and the path."
    if not token:
        raise SignInRefused(f"The file that {_TOKEN} names is empty.", renew)
    try:
        ends = float(jwt.decode(token, options={"verify_signature": False}).get("exp", time.time()))
        ended = f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%d %H:%M} UTC"
    except (jwt.PyJWTError, TypeError, ValueError, OverflowError, OSError) as error:
        raise SignInRefused(f"The file that {_TOKEN} names holds no token (JWT).", renew) from error
    if ends < time.time() - CLOCK_SKEW:
        raise SignInRefused(f"The token in the file that {_TOKEN} names ended on {ended}.", renew)
    return remember(token)


def _content(file: Path, variable: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SignInRefused(
            f"The file that {variable} names cannot be read ({error.strerror}).", "Correct the path or its rights."
        ) from error
