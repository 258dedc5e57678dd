"""What the sandbox's Entra ID refuses of a client assertion, with the error codes of Microsoft."""

from __future__ import annotations

import base64
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes

from sync_assets.sandbox.client_assertions import ClientAssertions, FederatedIdentity
from sync_assets_tests.support.app_credentials import AppCertificate, federated_identity, federated_token, rsa_key

CLIENT, AUDIENCE = "client", "https://login.example/tenant/oauth2/v2.0/token"
REGISTERED, ENDED, OTHER = AppCertificate(), AppCertificate(days=-1), AppCertificate(key=rsa_key(2))


@pytest.fixture
def assertions() -> ClientAssertions:
    made = ClientAssertions(time.time)
    made.certificates = [REGISTERED.certificate, ENDED.certificate]
    made.federated = [FederatedIdentity.of_document(federated_identity())]
    return made


def signed(by: AppCertificate = REGISTERED, key: Any = None, **changes: Any) -> str:
    now = time.time()
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": AUDIENCE, "iat": now, "exp": now + 600, "jti": "one"} | changes
    thumbprint = base64.urlsafe_b64encode(by.certificate.fingerprint(hashes.SHA256())).decode()
    return jwt.encode(claims, key or by.private_key, algorithm="PS256", headers={"x5t#S256": thumbprint})


def code(assertions: ClientAssertions, assertion: str) -> int | None:
    refusal = assertions.refusal(assertion, CLIENT, {AUDIENCE})
    return refusal and refusal[0]


def test_an_assertion_of_a_registered_certificate_is_accepted_once(assertions: ClientAssertions) -> None:
    assert code(assertions, signed()) is None
    assert code(assertions, signed()) == 50013
    assert code(assertions, signed(jti="two")) is None


@pytest.mark.parametrize(
    ("assertion", "expected"),
    [
        (lambda: signed(OTHER), 700027),
        (lambda: signed(key=rsa_key(2)), 700027),
        (lambda: signed(ENDED), 700027),
        (lambda: signed(sub="another"), 700021),
        (lambda: signed(aud="https://login.example/another/oauth2/v2.0/token"), 700023),
        (lambda: signed(exp=time.time() - 301), 700024),
        (lambda: signed(nbf=time.time() + 600), 700024),
        (lambda: signed(jti=""), 50013),
        (lambda: "no.token.at all", 50027),
    ],
)
def test_a_wrong_assertion_is_refused(assertions: ClientAssertions, assertion: Any, expected: int) -> None:
    assert code(assertions, assertion()) == expected


def test_a_federated_token_is_accepted_until_it_ends(assertions: ClientAssertions) -> None:
    token = federated_token()
    assert [code(assertions, token), code(assertions, token)] == [None, None]
    assert code(assertions, federated_token(-301)) == 700024


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"iss": "https://elsewhere"}, 700211), ({"sub": "another"}, 700213), ({"aud": "another"}, 700212)],
)
def test_a_federated_token_with_another_claim_is_refused(
    assertions: ClientAssertions, changes: dict[str, str], expected: int
) -> None:
    assert code(assertions, federated_token(**changes)) == expected


def test_a_federated_token_of_another_key_is_refused(assertions: ClientAssertions) -> None:
    claims = jwt.decode(federated_token(), options={"verify_signature": False})
    assert code(assertions, jwt.encode(claims, rsa_key(2), algorithm="RS256")) == 50013
