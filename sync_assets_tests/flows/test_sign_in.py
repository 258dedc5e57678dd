"""The whole program without a client secret: it signs in with a certificate or a federated token, and an SFTP key with
a passphrase."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from sync_assets_tests.support.app_credentials import AppCertificate, federated_identity, federated_token, rsa_key
from sync_assets_tests.support.opt_outs import HEADER, switch_on, write_file
from sync_assets_tests.support.program import Program, calls

PAGE = Path(__file__).parents[2] / "sync_assets" / "docs" / "environment.md"
DOCUMENTED = re.findall(
    r"^\| [^|]+ \| `([^`]+)` \|$", PAGE.read_text("utf-8").partition("## Errors of a wrong credential")[2], re.M
)
"""The errors that the page shows; `…` stands for what differs from case to case."""
PASSWORD = "sesame-of-the-app"
APP = AppCertificate()


@pytest.fixture
def file(program: Program) -> Path:
    return program.home / "credential"


def with_certificate(program: Program, file: Path, password: str = "") -> None:
    more = {"D365_CLIENT_SECRET": "", "D365_CLIENT_CERTIFICATE": str(file)}
    program.more |= more | ({"D365_CLIENT_CERTIFICATE_PASSWORD": password} if password else {})


def with_token(program: Program, file: Path, token: str) -> None:
    file.write_text(token)
    program.more |= {"D365_CLIENT_SECRET": "", "D365_FEDERATED_TOKEN_FILE": str(file)}
    program.sandbox.admin.settings("login", federated=[federated_identity()])


def test_sync_with_a_certificate_and_with_a_federated_token_that_the_platform_replaces(
    program: Program, file: Path
) -> None:
    program.sandbox.admin.settings("login", certificates=[APP.write_pfx(file, PASSWORD)])
    with_certificate(program, file, PASSWORD)
    assert program.sync().status == 0
    program.assert_in_step()
    program.more.clear()
    with_token(program, file, federated_token())
    program.sandbox.admin.change("contact", 5, jobtitle="Later")
    program.sandbox.admin.settings("login", expire_tokens=True)
    file.write_text(federated_token(-3600))
    assert program.run("sync")[0] == 1
    file.write_text(federated_token())
    assert program.sync().status == 0
    program.assert_in_step()


def secret_and_certificate(program: Program, file: Path) -> None:
    APP.write_pem(file)
    program.more["D365_CLIENT_CERTIFICATE"] = str(file)


def wrong_password(program: Program, file: Path) -> None:
    APP.write_pfx(file, PASSWORD)
    with_certificate(program, file, "hush-hush")


def ended_certificate(program: Program, file: Path) -> None:
    AppCertificate(days=-1).write_pem(file)
    with_certificate(program, file)


def unknown_certificate(program: Program, file: Path) -> None:
    AppCertificate(key=rsa_key(2)).write_pem(file)
    with_certificate(program, file)


CASES: dict[Callable[[Program, Path], None], str] = {
    wrong_password: "The PFX file that D365_CLIENT_CERTIFICATE names does not open with its password. Check "
    "D365_CLIENT_CERTIFICATE_PASSWORD; a damaged file fails in the same way.",
    unknown_certificate: "Dynamics 365 sign-in was refused (AADSTS700027).",
    ended_certificate: "Make a new one, add it to the app registration, and replace the file.",
    secret_and_certificate: "D365_CLIENT_SECRET and D365_CLIENT_CERTIFICATE are set, but only one of them is used.",
    lambda program, file: with_token(program, file, federated_token(-3600)): "D365_FEDERATED_TOKEN_FILE names ended on",
    lambda program, file: with_token(program, file, ""): "The file that D365_FEDERATED_TOKEN_FILE names is empty.",
}


def is_documented(errors: str) -> bool:
    return any(all(part in errors for part in sentence.split("…")) for sentence in DOCUMENTED)


@pytest.mark.parametrize("spoil", CASES)
def test_sync_and_doctor_name_the_defect_of_the_credential(
    program: Program, file: Path, spoil: Callable[[Program, Path], None]
) -> None:
    spoil(program, file)
    status, _, errors = program.run("sync")
    assert status == 1
    assert CASES[spoil] in errors
    assert is_documented(errors) or spoil is secret_and_certificate
    diagnosed, document = program.json("doctor")
    assert diagnosed == 1
    failed = [line["message"] for line in document["checks"] if line["outcome"] == "fail"]
    assert any(CASES[spoil] in message for message in failed), failed
    for shown in (errors, str(document)):
        assert not any(secret in shown for secret in (PASSWORD, "hush", "BEGIN", "Traceback", str(file)))
    assert program.sandbox.admin.engine_calls() == calls()


def test_opt_outs_are_read_with_an_encrypted_sftp_key(program: Program) -> None:
    switch_on(program, "campaign_to_d365")
    assert program.sync().status == 0
    write_file(program, HEADER)
    plain = Path(program.sandbox.env["CAMPAIGN_SFTP_PRIVATE_KEY"])
    key = serialization.load_ssh_private_key(plain.read_bytes(), None)
    encrypted = program.home / "sftp_key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.BestAvailableEncryption(PASSWORD.encode()),
        )
    )
    passphrase = "CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE"
    program.more |= {"CAMPAIGN_SFTP_PRIVATE_KEY": str(encrypted)}
    for given, entry in (("", f"Set {passphrase}"), ("hush-hush", f"Check {passphrase}.")):
        program.more[passphrase] = given
        status, _, errors = program.run("sync")
        assert status != 0
        assert entry in errors
        assert is_documented(errors)
        assert "hush" not in errors
    program.more[passphrase] = PASSWORD
    done = program.sync()
    assert done.status == 0
    assert done.document["opt_out"]["files_processed"] == 1
