"""Clients of PyPI, unpatched, against the sandbox: azure-identity and dlt's REST source (`dlt` is skipped if missing).

Microsoft's own Dataverse client: `integration/sandbox/test_microsoft_client.py`.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.app_credentials import AppCertificate, federated_identity, federated_token
from sync_assets_tests.support.sandbox_process import SandboxProcess

COLUMNS = "contactid,lastname,modifiedon"


@pytest.fixture(scope="module")
def process(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=50)


@pytest.fixture
def sandbox(process: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> SandboxProcess:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", process.env["SYNC_ASSETS_CA_BUNDLE"])
    return process


@pytest.fixture
def made(sandbox: SandboxProcess) -> Callable[..., Any]:
    """Make a credential of azure-identity for the sandbox's app registration."""
    from azure import identity

    def make(kind: str, **options: Any) -> Any:
        env = sandbox.env
        names = {"tenant_id": env["D365_TENANT_ID"], "client_id": env["D365_CLIENT_ID"]}
        return getattr(identity, kind)(
            **names, authority=env["D365_AUTHORITY"], disable_instance_discovery=True, **options
        )

    return make


def assert_signs_in(credential: Any, sandbox: SandboxProcess) -> None:
    url, bundle = sandbox.env["D365_URL"], sandbox.env["SYNC_ASSETS_CA_BUNDLE"]
    token = credential.get_token(f"{url}/.default").token
    with httpx.Client(verify=ssl.create_default_context(cafile=bundle), trust_env=False) as http:
        answer = http.get(f"{url}/api/data/v9.2/WhoAmI", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text


def test_azure_identity_is_refused_with_a_wrong_secret(made: Callable[..., Any], sandbox: SandboxProcess) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        made("ClientSecretCredential", client_secret="wrong").get_token(f"{sandbox.env['D365_URL']}/.default")


@pytest.mark.parametrize("password", [None, "secret"], ids=["without a password", "with a password"])
@pytest.mark.parametrize("format_", ["pem", "pfx"])
def test_azure_identity_signs_in_with_a_certificate(
    made: Callable[..., Any], sandbox: SandboxProcess, tmp_path: Path, format_: str, password: str | None
) -> None:
    certificate, file = AppCertificate(), tmp_path / f"app.{format_}"
    write = certificate.write_pem if format_ == "pem" else certificate.write_pfx
    sandbox.admin.settings("login", certificates=[write(file, password or "")])
    assert_signs_in(made("CertificateCredential", certificate_path=str(file), password=password), sandbox)


def test_azure_identity_signs_in_with_the_chain_of_its_certificate(
    made: Callable[..., Any], sandbox: SandboxProcess, tmp_path: Path
) -> None:
    file = tmp_path / "app.pem"
    sandbox.admin.settings("login", certificates=[AppCertificate().write_pem(file)])
    assert_signs_in(made("CertificateCredential", certificate_path=str(file), send_certificate_chain=True), sandbox)


def test_azure_identity_is_refused_with_a_certificate_that_is_not_registered(
    made: Callable[..., Any], sandbox: SandboxProcess, tmp_path: Path
) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    AppCertificate().write_pem(tmp_path / "app.pem")
    sandbox.admin.settings("login", certificates=[])
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
        made("CertificateCredential", certificate_path=str(tmp_path / "app.pem")).get_token(
            f"{sandbox.env['D365_URL']}/.default"
        )


def test_azure_identity_signs_in_with_a_federated_token(
    made: Callable[..., Any], sandbox: SandboxProcess, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(federated_token())
    sandbox.admin.settings("login", federated=[federated_identity()])
    assert_signs_in(made("WorkloadIdentityCredential", token_file_path=str(file)), sandbox)


@pytest.fixture
def load(sandbox: SandboxProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Run a pipeline that reads contacts by their time of change, and return the rows that it loaded."""
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path))
    dlt = pytest.importorskip("dlt", reason="no dlt here: install the extra `test` to run this test")
    rest_api = pytest.importorskip("dlt.sources.rest_api")
    authority = f"{sandbox.env['D365_AUTHORITY']}/{sandbox.env['D365_TENANT_ID']}"
    source: Any = {
        "client": {
            "base_url": f"{sandbox.env['D365_URL']}/api/data/v9.2/",
            "headers": {"Prefer": "odata.maxpagesize=20"},
            "auth": {
                "type": "oauth2_client_credentials",
                "access_token_url": f"{authority}/oauth2/v2.0/token",
                "client_id": sandbox.env["D365_CLIENT_ID"],
                "client_secret": sandbox.env["D365_CLIENT_SECRET"],
                "access_token_request_data": {"scope": f"{sandbox.env['D365_URL']}/.default"},
            },
            "paginator": {"type": "json_link", "next_url_path": "'@odata.nextLink'"},
        },
        "resources": [
            {
                "name": "contacts",
                "primary_key": "contactid",
                "endpoint": {
                    "path": "contacts",
                    "params": {"$select": COLUMNS, "$filter": "modifiedon ge {incremental.start_value}"},
                    "data_selector": "value",
                    "incremental": {"cursor_path": "modifiedon", "initial_value": "2000-01-01T00:00:00Z"},
                },
            }
        ],
    }
    loaded: list[Any] = []

    @dlt.destination(batch_size=1000)
    def memory(items: list[Any], table: Any) -> None:
        loaded.extend(items)

    def run() -> list[Any]:
        loaded.clear()
        pipeline = dlt.pipeline("contacts", destination=memory, pipelines_dir=str(tmp_path))
        pipeline.run(rest_api.rest_api_source(source)).raise_on_failed_jobs()
        return list(loaded)

    return run


def test_dlt_loads_all_rows_in_pages_and_then_those_that_changed(
    load: Callable[[], list[Any]], sandbox: SandboxProcess
) -> None:
    contacts = {row["contactid"] for row in sandbox.admin.dump_d365()}
    assert {row["contactid"] for row in load()} == contacts
    changed = sandbox.admin.change("contact", 1, lastname="Changed")
    assert [(row["contactid"], row["lastname"]) for row in load()] == [(changed[0], "Changed")]
    assert load() == []
