"""The credentials with which the app registration signs in: a client secret, a certificate, or a federated token.

Here: which one is configured, and where it is. `dataverse/app_credential.py` reads the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate with its private key, in a PEM or PFX file. password: of the key or the PFX; None if not set."""

    file: Path
    password: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class FederatedToken:
    """A file with a token of another identity provider that the app registration trusts; the platform renews it."""

    file: Path


AppCredential = SecretStr | ClientCertificate | FederatedToken
"""What D365_CLIENT_SECRET, D365_CLIENT_CERTIFICATE or D365_FEDERATED_TOKEN_FILE names."""


def variable_of(credential: AppCredential) -> str:
    """Return the environment variable that names this credential."""
    if isinstance(credential, ClientCertificate):
        return "D365_CLIENT_CERTIFICATE"
    return "D365_FEDERATED_TOKEN_FILE" if isinstance(credential, FederatedToken) else "D365_CLIENT_SECRET"
