"""The sign-in to the Campaign SFTP by a private key, and each key that is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448
from paramiko.pkey import OPENSSH
from pydantic import SecretStr

from sync_assets.config.environment import SftpSettings
from sync_assets.config.variables import FileSecret
from sync_assets.sftp.errors import SftpSignInRefused
from sync_assets_tests.support.openssh import KEY_TYPES, OpenSsh
from sync_assets_tests.unit.sftp.conftest import Served
from sync_assets_tests.unit.sftp.test_ssh import known_hosts, own_key, refused, works


@pytest.mark.parametrize("type_", KEY_TYPES)
def test_keys_of_each_type_sign_in(openssh_sftp: Served, type_: str):
    assert openssh_sftp.openssh is not None
    assert works(replace(openssh_sftp.settings, private_key=openssh_sftp.openssh.client_keys[type_]))


@pytest.mark.parametrize("format_", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8])
def test_a_key_in_the_older_formats_signs_in(
    sandbox_sftp: Served, tmp_path: Path, format_: serialization.PrivateFormat
):
    key = serialization.load_ssh_private_key(sandbox_sftp.settings.private_key.read_bytes(), None)
    file = tmp_path / "older"
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, format_, serialization.NoEncryption()))
    assert works(replace(sandbox_sftp.settings, private_key=file))


def test_a_key_that_the_server_does_not_know_is_refused(served: Served, tmp_path: Path):
    error = refused(replace(served.settings, private_key=own_key(tmp_path)), SftpSignInRefused)
    assert paramiko.ECDSAKey.from_private_key_file(str(tmp_path / "own_key")).fingerprint in error.cause
    assert "expired" in error.remedy
    assert "CAMPAIGN_SFTP_PRIVATE_KEY" in error.remedy


def test_an_expired_key_is_refused(tmp_path: Path):
    with OpenSsh(tmp_path, key_options='expiry-time="20200101"') as server:
        refused(server.settings, SftpSignInRefused)
        assert "expired" in server.log


def test_a_server_that_wants_more_than_a_key_is_refused(tmp_path: Path):
    with OpenSsh(tmp_path, more=["AuthenticationMethods publickey,password"], password=True) as server:
        error = refused(server.settings, SftpSignInRefused)
    assert "requires more" in error.cause


def write_ed448(file: Path) -> None:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.write_bytes(ed448.Ed448PrivateKey.generate().private_bytes(pem, pkcs8, serialization.NoEncryption()))


KEY = paramiko.ECDSAKey.generate()
EMPTY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
UNUSABLE: list[tuple[Callable[[Path], object], str]] = [
    (lambda file: file.write_bytes(b""), "holds no private key"),
    (lambda file: file.write_bytes(b"PuTTY-User-Key-File-3: ssh-rsa\n"), "holds no private key"),
    (lambda file: file.write_bytes(EMPTY), "holds no private key"),
    (lambda file: file.write_bytes(bytes(range(256))), "holds no private key"),
    (lambda file: KEY.write_private_key_file(str(file), password="sesame", file_format=OPENSSH), "passphrase"),
    (lambda file: KEY.write_private_key_file(str(file), password="sesame"), "passphrase"),
    (lambda file: file.write_text(f"{KEY.get_name()} {KEY.get_base64()}\n"), "public half"),
    (lambda file: None, "No such file"),
    (Path.mkdir, "Is a directory"),
    (write_ed448, "neither RSA nor ECDSA nor Ed25519"),
]


@pytest.mark.parametrize(("write", "message"), UNUSABLE)
def test_a_file_that_is_no_usable_key_is_refused_before_a_connection(
    tmp_path: Path, write: Callable[[Path], object], message: str
):
    write(file := tmp_path / "key")
    error = refused(SftpSettings("127.0.0.1", 1, "acme", file, known_hosts(tmp_path, "")), SftpSignInRefused)
    assert message in error.cause
    assert str(file) in error.cause


FORMATS = {"openssh": serialization.PrivateFormat.OpenSSH, "pem": serialization.PrivateFormat.TraditionalOpenSSL}


def encrypted_copy(settings: SftpSettings, file: Path, format_: str) -> SftpSettings:
    """Write the key that the server accepts, protected by the passphrase `sesame`."""
    key = serialization.load_ssh_private_key(settings.private_key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"sesame")
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, FORMATS[format_], encryption))
    return replace(settings, private_key=file)


@pytest.mark.parametrize("format_", FORMATS)
def test_an_encrypted_key_works_with_its_passphrase_and_no_other(sandbox_sftp: Served, tmp_path: Path, format_: str):
    settings = encrypted_copy(sandbox_sftp.settings, tmp_path / "key", format_)
    assert works(replace(settings, passphrase=SecretStr("sesame")))
    wrong = refused(replace(settings, passphrase=SecretStr("hush-hush")), SftpSignInRefused)
    assert "does not open with its passphrase" in wrong.cause
    assert wrong.remedy == "Check CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE."
    assert "hush" not in str(wrong)
    missing = refused(settings, SftpSignInRefused)
    assert "protected by a passphrase, and none is set" in missing.cause
    assert "CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE" in missing.remedy


def test_a_passphrase_in_a_file_is_read_at_each_connection(sandbox_sftp: Served, tmp_path: Path):
    settings = encrypted_copy(sandbox_sftp.settings, tmp_path / "key", "openssh")
    (tmp_path / "passphrase").write_text("old")
    settings = replace(settings, passphrase=FileSecret("NAME_FILE", tmp_path / "passphrase"))
    refused(settings, SftpSignInRefused)
    (tmp_path / "passphrase").write_text("sesame")
    assert works(settings)
