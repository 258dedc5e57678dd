"""Sign-in without a client secret, at the sandbox's Entra ID: certificates and federated tokens, good and bad."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from sync_assets.config.environment import AppCredential, ClientCertificate, D365Settings, FederatedToken
from sync_assets.dataverse.sign_in import entra_tokens
from sync_assets.http.client import CachedTokens
from sync_assets.http.transport import SignInRefused, ssl_context
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.app_credentials import AppCertificate, federated_identity, federated_token, rsa_key
from sync_assets_tests.support.little_server import LittleServer, answer
from sync_assets_tests.support.sandbox_process import SandboxProcess

GOOD, OTHER = AppCertificate(), AppCertificate(key=rsa_key(2))
CERTIFICATE, PASSWORD = "D365_CLIENT_CERTIFICATE", "sesame-of-the-app"
EC_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def process(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credential-of-the-app"


def tokens_with(process: SandboxProcess, credential: AppCredential) -> CachedTokens:
    env = process.env
    return entra_tokens(
        D365Settings(env["D365_URL"], env["D365_AUTHORITY"], env["D365_TENANT_ID"], env["D365_CLIENT_ID"], credential),
        ssl_context(Path(env["SYNC_ASSETS_CA_BUNDLE"])),
    )


def put(file: Path, content: str | bytes) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def password(text: str) -> SecretStr | None:
    return SecretStr(text) if text else None


async def refused(process: SandboxProcess, credential: AppCredential) -> str:
    """Return the message. It has neither a path nor anything of the file or the password."""
    with pytest.raises(SignInRefused) as raised:
        await tokens_with(process, credential).token()
    message = str(raised.value)
    assert "credential-of-the-app" not in message
    assert PASSWORD not in message
    assert "BEGIN" not in message
    return message


@pytest.mark.parametrize("protected_by", ["", PASSWORD])
@pytest.mark.parametrize("write", [AppCertificate.write_pem, AppCertificate.write_pfx])
async def test_a_certificate_signs_in(
    process: SandboxProcess, file: Path, write: Callable[[AppCertificate, Path, str], str], protected_by: str
) -> None:
    process.admin.settings("login", certificates=[write(GOOD, file, protected_by)])
    assert await tokens_with(process, ClientCertificate(file, password(protected_by))).token()


async def test_a_replaced_certificate_counts_from_the_next_sign_in_on(process: SandboxProcess, file: Path) -> None:
    process.admin.settings("login", certificates=[GOOD.write_pem(file)])
    tokens = tokens_with(process, ClientCertificate(file))
    first = await tokens.token()
    process.admin.settings("login", certificates=[OTHER.write_pem(file)])
    assert await tokens.renew(first) != first


@pytest.mark.parametrize(
    ("write", "given", "expected"),
    [
        (lambda file: GOOD.write_pem(file, PASSWORD), "wrong", "does not open with its password. Check {}_PASSWORD"),
        (lambda file: GOOD.write_pem(file, PASSWORD), "", "is encrypted, and no password is set. Set {}_PASSWORD"),
        (lambda file: GOOD.write_pfx(file, PASSWORD), "wrong", "does not open with its password. Check {}_PASSWORD"),
        (lambda file: GOOD.write_pfx(file, PASSWORD), "", "does not open without a password. Set {}_PASSWORD"),
        (lambda file: AppCertificate(days=-1).write_pem(file), "", "ended on"),
        (lambda file: AppCertificate(days=-1).write_pfx(file), "", "ended on"),
        (lambda file: file.write_bytes(b"\x00\xff no certificate"), "", "is neither PEM nor PFX"),
        (lambda file: file.write_bytes(b""), "", "is neither PEM nor PFX"),
        (lambda file: file.write_text(GOOD.public_pem), "", "has no private key"),
        (lambda file: file.write_bytes(GOOD.key_pem()), "", "has no certificate"),
        (lambda file: file.write_bytes(OTHER.key_pem() + GOOD.public_pem.encode()), "", "does not belong to"),
        (lambda file: file.write_bytes(GOOD.key_pem()[:900] + GOOD.public_pem.encode()), "", "damaged"),
        (lambda file: file.write_bytes(GOOD.key_pem() + GOOD.public_pem.encode()[:500]), "", "damaged"),
        (lambda file: AppCertificate(key=EC_KEY).write_pem(file), "", "no RSA key of at least 2048 bits"),
        (lambda file: AppCertificate(key=rsa_key(3, 1024)).write_pfx(file), "", "no RSA key of at least 2048 bits"),
        (lambda file: file.mkdir(), "", "cannot be read (Is a directory)"),
        (lambda file: None, "", "cannot be read (No such file"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_refused_before_anything_is_sent(
    process: SandboxProcess, file: Path, write: Callable[[Path], object], given: str, expected: str
) -> None:
    write(file)
    since = process.admin.last()
    message = await refused(process, ClientCertificate(file, password(given)))
    assert expected.format(CERTIFICATE) in message
    assert CERTIFICATE in message
    assert process.admin.journal("login", since) == []


async def test_a_certificate_that_only_the_app_registration_lacks(process: SandboxProcess, file: Path) -> None:
    process.admin.settings("login", certificates=[])
    GOOD.write_pem(file)
    message = await refused(process, ClientCertificate(file))
    assert "AADSTS700027). Add the certificate that D365_CLIENT_CERTIFICATE names to the app" in message


async def test_the_assertion_names_the_certificate_by_sha_256_and_holds_no_key(tmp_path: Path, file: Path) -> None:
    def script(request: object) -> bytes:
        del request
        own = f"{server.url}/tenant"
        described = {"token_endpoint": f"{own}/token", "authorization_endpoint": own, "issuer": own}
        return answer(200, json.dumps(described | {"access_token": "t"}).encode())

    GOOD.write_pem(file)
    async with LittleServer(tmp_path, script) as server:
        await entra_tokens(
            D365Settings("https://org.example.com", server.url, "tenant", "id", ClientCertificate(file)),
            ssl_context(server.ca_file),
        ).token()
    sent = parse_qs(server.requests[-1].body.decode())
    header = jwt.get_unverified_header(sent["client_assertion"][0])
    thumbprint = base64.urlsafe_b64encode(GOOD.certificate.fingerprint(hashes.SHA256())).decode()
    assert (header["alg"], header["x5t#S256"]) == ("PS256", thumbprint)
    assert "x5t" not in header
    numbers = GOOD.private_key.private_numbers()
    assert base64.b64encode(numbers.p.to_bytes(128)).decode()[:40] not in str(sent)
    assert "client_secret" not in sent


async def test_a_federated_token_is_read_at_each_sign_in(process: SandboxProcess, file: Path) -> None:
    process.admin.settings("login", federated=[federated_identity()])
    put(file, federated_token() + "\n")
    tokens = tokens_with(process, FederatedToken(file))
    first = await tokens.token()
    put(file, federated_token(-3600))
    with pytest.raises(SignInRefused, match="ended on"):
        await tokens.renew(first)
    put(file, federated_token())
    assert await tokens.renew(first) != first


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda: "", "is empty"),
        (lambda: " \n", "is empty"),
        (lambda: federated_token(-301), "ended on"),
        (lambda: "hush-hush", "holds no token (JWT)"),
        (lambda: "é", "holds no token (JWT)"),
        (lambda: federated_token(exp="soon"), "holds no token (JWT)"),
        (lambda: None, "cannot be read (No such file"),
    ],
)
async def test_a_federated_token_that_cannot_be_used_is_refused_before_anything_is_sent(
    process: SandboxProcess, file: Path, content: Callable[[], str | None], expected: str
) -> None:
    if (text := content()) is not None:
        put(file, text)
    since = process.admin.last()
    message = await refused(process, FederatedToken(file))
    assert expected in message
    assert "D365_FEDERATED_TOKEN_FILE" in message
    assert "hush" not in message
    assert process.admin.journal("login", since) == []


async def test_entra_decides_about_a_token_that_has_just_ended(process: SandboxProcess, file: Path) -> None:
    process.admin.settings("login", federated=[federated_identity()])
    put(file, federated_token(-60))
    assert await tokens_with(process, FederatedToken(file)).token()
