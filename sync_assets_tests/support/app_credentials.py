"""Make what an app registration signs in with instead of a secret: certificates and federated tokens."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

ISSUER, SUBJECT, AUDIENCE = "https://issuer.example", "system:serviceaccount:sync:assets", "api://AzureADTokenExchange"
PEM = serialization.Encoding.PEM


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a key: the same for the same number, since making one takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _encryption(password: str) -> serialization.KeySerializationEncryption:
    if not password:
        return serialization.NoEncryption()
    return serialization.BestAvailableEncryption(password.encode())


@dataclass(frozen=True)
class AppCertificate:
    """A self-signed certificate that ends in so many days, and the key that it is written with."""

    days: float = 365
    key: Any = None
    certified_key: Any = None

    @property
    def private_key(self) -> Any:
        return self.key or rsa_key()

    @cached_property
    def certificate(self) -> x509.Certificate:
        certified, now = self.certified_key or self.private_key, datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sync_assets test")])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(certified.public_key())
            .serial_number(7)
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=self.days))
            .sign(certified, hashes.SHA256())
        )

    @property
    def public_pem(self) -> str:
        return self.certificate.public_bytes(PEM).decode()

    def key_pem(self, password: str = "") -> bytes:
        return self.private_key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, _encryption(password))

    def write_pem(self, file: Path, password: str = "") -> str:
        """Write key and certificate, and return the certificate as the app registration gets it."""
        file.write_bytes(self.key_pem(password) + self.public_pem.encode())
        return self.public_pem

    def write_pfx(self, file: Path, password: str = "") -> str:
        """Write both as PKCS #12, and return the certificate as the app registration gets it."""
        file.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"app", self.private_key, self.certificate, None, _encryption(password)
            )
        )
        return self.public_pem


def federated_identity() -> dict[str, str]:
    """Return the federated credential as the sandbox's admin interface takes it."""
    public = rsa_key(1).public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {"issuer": ISSUER, "subject": SUBJECT, "public_key": public.decode()}


def federated_token(seconds: float = 3600, /, **changes: Any) -> str:
    """Return a token as a platform writes it, which ends in so many seconds. changes: of its claims."""
    now = time.time()
    claims = {"iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": now - 7200, "exp": now + seconds} | changes
    return jwt.encode(claims, rsa_key(1), algorithm="RS256")
