"""Read the private key that signs in to the Campaign SFTP: OpenSSH or PEM format, with or without a passphrase."""

import io
from functools import lru_cache
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sync_assets.config.environment import SftpSettings
from sync_assets.sftp.errors import SftpSignInRefused

_OWN_KEY = "Name the private key, in OpenSSH format, in CAMPAIGN_SFTP_PRIVATE_KEY."
_PASSPHRASE = "CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE"  # noqa: S105
_KEY_CLASSES = {
    ec.EllipticCurvePrivateKey: paramiko.ECDSAKey,
    ed25519.Ed25519PrivateKey: paramiko.Ed25519Key,
}


def private_key(settings: SftpSettings) -> paramiko.PKey:
    """Return the key that we sign in with.

    Raises:
        SignInRefused: The file has no usable key, or the passphrase is missing or wrong.
        SecretFileError: The passphrase's file cannot be read.
    """
    file = settings.private_key
    try:
        content = file.read_bytes()
        try:
            key = _loaded(content, None)
        except TypeError:  # the key is encrypted
            key = _decrypted(settings, content)
    except OSError as error:
        raise SftpSignInRefused(f"The private key {file} cannot be read ({error.strerror}).", _OWN_KEY) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SftpSignInRefused(
            f"{file} holds no private key that can be read (a public half, a PuTTY key, or a damaged file?).", _OWN_KEY
        ) from error
    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey(key=key)  # not from its text, since each reading tests the primes of the key again
    for kind, make in _KEY_CLASSES.items():
        if isinstance(key, kind):
            text = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
            return make.from_private_key(io.StringIO(text.decode()))
    raise SftpSignInRefused(f"The private key {file} is neither RSA nor ECDSA nor Ed25519.", _OWN_KEY)


@lru_cache(maxsize=1)
def _loaded(content: bytes, passphrase: bytes | None) -> Any:
    """Load a key. Raises TypeError if it is encrypted and no passphrase is given, ValueError, UnsupportedAlgorithm.

    Cached, since to test the primes of an RSA key takes more processor time than all else of a poll of the folder.
    """
    try:
        return serialization.load_ssh_private_key(content, passphrase)
    except ValueError:
        if b"BEGIN OPENSSH PRIVATE KEY" in content:
            raise
        # ssh-keygen wrote PEM until 2018, and still does with -m PEM
        return serialization.load_pem_private_key(content, passphrase)


def _decrypted(settings: SftpSettings, content: bytes) -> Any:
    """Load an encrypted key. Raises SignInRefused, SecretFileError."""
    if settings.passphrase is None:
        raise SftpSignInRefused(
            f"The private key {settings.private_key} is protected by a passphrase, and none is set.",
            f"Set {_PASSPHRASE} in the environment.",
        )
    try:
        return _loaded(content, settings.passphrase.get_secret_value().encode())
    except ValueError as error:
        raise SftpSignInRefused(
            f"The private key {settings.private_key} does not open with its passphrase.", f"Check {_PASSPHRASE}."
        ) from error
