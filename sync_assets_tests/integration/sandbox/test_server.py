"""The sandbox as a process: start, environment, sign-in check, journal, admin interface, outage, stop.

Third-party clients test the emulators: test_microsoft_client.py and flows/clients."""

import signal
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTRACT = {
    "D365_URL", "D365_AUTHORITY", "D365_TENANT_ID", "D365_CLIENT_ID", "D365_CLIENT_SECRET", "CAMPAIGN_URL",
    "CAMPAIGN_IMS_URL", "CAMPAIGN_CLIENT_ID", "CAMPAIGN_CLIENT_SECRET", "CAMPAIGN_SCOPES", "CAMPAIGN_SFTP_HOST",
    "CAMPAIGN_SFTP_PORT", "CAMPAIGN_SFTP_USER", "CAMPAIGN_SFTP_PRIVATE_KEY", "CAMPAIGN_SFTP_HOST_KEY",
    "SYNC_ASSETS_CA_BUNDLE", "SYNC_ASSETS_CONFIG",
}  # fmt: skip


@pytest.fixture(scope="module")
def process(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=20)


def tls(env: Mapping[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=env["SYNC_ASSETS_CA_BUNDLE"])


@pytest.fixture
def d365(process: SandboxProcess) -> Iterator[httpx.Client]:
    """A client that is signed in; faults, limits and latencies are gone afterwards."""
    env = process.env
    form = {
        "grant_type": "client_credentials", "client_id": env["D365_CLIENT_ID"],
        "client_secret": env["D365_CLIENT_SECRET"], "scope": f"{env['D365_URL']}/.default",
    }  # fmt: skip
    url = f"{env['D365_AUTHORITY']}/{env['D365_TENANT_ID']}/oauth2/v2.0/token"
    token = httpx.post(url, data=form, verify=tls(env), trust_env=False).json()["access_token"]
    headers, base = {"authorization": f"Bearer {token}"}, f"{env['D365_URL']}/api/data/v9.2"
    with httpx.Client(base_url=base, headers=headers, verify=tls(env), trust_env=False) as client:
        yield client
    process.admin.clear_faults()
    process.admin.latency("d365", 0)
    process.admin.settings("d365", application_user=True)
    assert process.errors == ""


def test_it_starts_fast_and_writes_all_variables_of_the_contract(sandbox: SandboxProcess) -> None:
    with SandboxProcess(fresh=True) as started:
        used = psutil.Process(started.process.pid).cpu_times()
    assert used.user + used.system < 3  # seconds of a processor, however many others want it
    assert set(sandbox.env) == CONTRACT | {"SANDBOX_ADMIN_URL"}
    assert sandbox.admin.totals()["d365"]["contact"] == 50
    assert Path(sandbox.env["CAMPAIGN_SFTP_PRIVATE_KEY"]).is_file()
    assert "localhost" in Path(sandbox.env["CAMPAIGN_SFTP_HOST_KEY"]).read_text()


def test_the_admin_interface_lists_its_endpoints_at_its_root(sandbox: SandboxProcess) -> None:
    result = httpx.get(f"{sandbox.env['SANDBOX_ADMIN_URL']}/", trust_env=False).json()["endpoints"]
    assert result["/faults"] == ["DELETE", "GET", "POST"]
    assert {"/totals", "/d365/change", "/campaign/dump"} <= result.keys()


def test_the_environment_file_is_private_and_stop_leaves_nothing(tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    command = [sys.executable, "-m", "sync_assets.sandbox", "--contacts", "5", "--env-file", str(env_file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not env_file.exists():
        assert process.poll() is None
        time.sleep(0.02)
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    env = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
    directory = Path(env["SYNC_ASSETS_CA_BUNDLE"]).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    with httpx.Client(verify=tls(env), trust_env=False) as idle:  # an open connection does not hold it up
        assert idle.get(env["D365_URL"]).status_code == 401
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    *result, how = errors.decode().splitlines()  # the address, for a user; no secret, no traceback
    assert [line.partition("=")[0] for line in result] == [
        "D365_URL",
        "CAMPAIGN_URL",
        "CAMPAIGN_IMS_URL",
        "CAMPAIGN_SFTP_PORT",
        "SANDBOX_ADMIN_URL",
    ]
    assert how.startswith("To use it: ")
    assert not directory.exists()


def test_it_stops_at_once_and_silently_with_a_request_under_way() -> None:
    with SandboxProcess(contacts=0) as process:
        process.admin.fault("login", "slow", delay_ms=20_000)
        url = process.env["D365_AUTHORITY"]
        with httpx.Client(verify=tls(process.env), trust_env=False, timeout=0.2) as client:
            with pytest.raises(httpx.ReadTimeout):
                client.get(url)
            process.stop()  # kills it after ten seconds
    assert (process.process.returncode, process.errors) == (0, "")


def test_it_stops_with_its_parent_process() -> None:
    process = SandboxProcess(contacts=0)
    assert process.process.stdin is not None
    process.process.stdin.close()
    assert process.process.wait(5) == 0
    process.stop()


def test_ports_from_a_base(tmp_path: Path) -> None:
    base = free_base()
    with SandboxProcess(contacts=0, port=base) as process:
        assert process.env["D365_URL"] == f"https://localhost:{base}"
        assert process.env["SANDBOX_ADMIN_URL"] == f"http://localhost:{base + 4}"
        assert process.env["CAMPAIGN_SFTP_PORT"] == str(base + 5)
        command = [sys.executable, "-m", "sync_assets.sandbox", "--contacts", "0", "--port", str(base)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("the sandbox could not start: ")
    assert f"port {base} cannot be used: Address already in use; choose another --port" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def free_base() -> int:
    """Six ports in a row that are free."""
    import socket

    for base in range(42000, 60000, 10):
        sockets = [socket.socket() for _ in range(6)]
        try:
            for number, one in enumerate(sockets):
                one.bind(("127.0.0.1", base + number))
        except OSError:
            continue
        else:
            return base
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no six free ports in a row")


def test_without_a_good_token_it_is_401_and_where_to_get_one(process: SandboxProcess) -> None:
    env = process.env
    url = f"{env['D365_URL']}/api/data/v9.2/contacts"
    answer = httpx.get(url, headers={"authorization": "Bearer made-up"}, verify=tls(env), trust_env=False)
    assert answer.status_code == 401
    authority = f"{env['D365_AUTHORITY']}/{env['D365_TENANT_ID']}"
    challenge = f"Bearer authorization_uri={authority}/oauth2/authorize, resource_id={env['D365_URL']}/"
    assert answer.headers["www-authenticate"] == challenge


def test_the_journal_has_engine_and_key(process: SandboxProcess, d365: httpx.Client) -> None:
    since = process.admin.last()
    row_id = d365.post("/contacts", json={"lastname": "x"}).headers["odata-entityid"][-37:-1]
    d365.patch(f"/contacts({row_id})", json={"lastname": "y"})
    d365.get(f"/contacts({row_id})?$select=lastname")
    d365.delete(f"/contacts({row_id})")
    result = process.admin.journal("d365", since)
    assert [(entry["engine"], entry["key"]) for entry in result] == [
        (engine, row_id) for engine in ("insert", "update", "read", "delete")
    ]
    assert result[2]["path"] == f"/api/data/v9.2/contacts({row_id})?$select=lastname"
    assert [entry["n"] for entry in result] == list(range(since + 1, since + 5))


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("faults", b"{", "JSON"),
        ("faults", b"[]", "the body must be a JSON object"),
        ("campaign/export", b"\xff", "JSON"),
        ("ims/settings", b'{"token_lifetime_s":"long"}', "token_lifetime_s"),
        ("d365/settings", b'{"nosuch":1}', "nosuch"),
        ("d365/load", b'{"contact": 5}', '"contacts": Number'),
        ("d365/change", b'{"ids": [], "sets": {}}', '"table": str (optional), "ids": list[str] | None (optional)'),
        ("d365/change", b'{"table": "nosuch", "count": 1}', "nosuch"),
        ("d365/change", b'{"table": "contact"}', '"ids" or "count" is missing'),
        ("campaign/profiles", b'{"firstName": "x"}', '"resource": str (optional), "records": list[dict[str, Any]]'),
        ("campaign/delete", b'{"resource": "profile"}', '"keys", "pkeys" or "count" is missing'),
        ("faults", b'{"system": "d365", "kind": "slow", "delay": 5}', "it has: body, bytes, carry_out"),
        ("settings", b'{"d356": {"latency_ms": 5}}', "one of: campaign, d365"),
        ("settings", b'{"d365": {"speed": 1}}', "this request sets latency_ms only"),
        ("outage", b'{"seconds": -1}', "a number up to 60"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_the_reason_and_what_is_expected(
    process: SandboxProcess, path: str, body: bytes, expected: str
) -> None:
    answer = httpx.post(f"{process.env['SANDBOX_ADMIN_URL']}/{path}", content=body, trust_env=False)
    assert answer.status_code == 400
    assert expected in answer.json()["error"]
    assert process.errors == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:{port}"},
        {"host": "localhost.evil.example:{port}"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"origin": "https://localhost:{port}"},
    ],
)
def test_a_page_of_another_site_may_neither_read_nor_change_the_systems(
    process: SandboxProcess, headers: dict[str, str]
) -> None:
    url = process.env["SANDBOX_ADMIN_URL"]
    sent = {name: value.format(port=httpx.URL(url).port) for name, value in headers.items()}
    with httpx.Client(base_url=url, trust_env=False, headers=sent) as page:
        answers = [page.get("/totals"), page.post("/ims/rotate"), page.delete("/journal")]
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert all(answer.json()["error"] for answer in answers)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machine_s_own_pages_and_programs_are_served(process: SandboxProcess, host: str) -> None:
    url = f"http://{host}:{httpx.URL(process.env['SANDBOX_ADMIN_URL']).port}"
    assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
    assert httpx.get(f"{url}/health", headers={"origin": url}, trust_env=False).status_code == 200


def test_switches_are_checked(process: SandboxProcess) -> None:
    assert process.admin.settings("d365")["status_expired"] == 400
    for wrong in ({"nosuch": 1}, {"status_expired": "x"}, {"delta_link_taken": "middle"}):
        with pytest.raises(AssertionError, match=next(iter(wrong))):
            process.admin.settings("d365", **wrong)
    assert process.admin.settings("d365")["status_expired"] == 400


def test_after_an_outage_the_systems_are_back_with_their_data(process: SandboxProcess, d365: httpx.Client) -> None:
    admin, contacts = process.admin, process.admin.totals()["d365"]["contact"]
    admin.latency("d365", 500)
    lost: list[Exception] = []

    def post() -> None:
        try:
            d365.post("/contacts", json={"lastname": "Byron"})
        except httpx.TransportError as error:
            lost.append(error)

    request = threading.Thread(target=post)
    request.start()
    time.sleep(0.2)  # by then it has reached the system
    outage = threading.Thread(target=admin.outage, args=(1.5,))
    outage.start()
    request.join()
    assert len(lost) == 1  # at once
    with pytest.raises(httpx.ConnectError):
        d365.get("/contacts")
    outage.join()
    admin.latency("d365", 0)
    assert d365.get("/contacts").is_success
    assert admin.totals()["d365"]["contact"] == contacts
