"""Whole commands find the configuration, its `.env` and its ledger from any folder, or end with the reason."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from sync_assets.defs.partitions import today
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.flows.test_isolation import ORDER
from sync_assets_tests.support.dagster_dev import GUARDED, dagster_dev
from sync_assets_tests.support.forked_commands import start_command
from sync_assets_tests.support.program import CONTACT, OURS
from sync_assets_tests.support.waiting import until

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
WRONG = {"D365_CLIENT_SECRET": "wrong"}
"""With it no command signs in."""
HELD = "4e1c0000-0000-4000-8000-000000000001"


class Installation:
    """A folder `sync` with files, its empty folder `below/here`, and the empty folder `other` beside it.

    The files: a configuration of orders, `sync_assets.yaml`; one of contacts, `contacts.yaml`; the sandbox's env file,
    `sandbox.env`; the same without a configuration, `own.env`; one with a wrong secret, `wrong.env`.
    """

    def __init__(self, variables: Mapping[str, str], folder: Path) -> None:
        self.variables = dict(variables)
        self.folder, self.below, self.other = folder / "sync", folder / "sync" / "below" / "here", folder / "other"
        for path in (self.below, self.other):
            path.mkdir(parents=True)
        for name, table in (("sync_assets.yaml", ORDER), ("contacts.yaml", CONTACT)):
            document = {"privacy_acknowledged": True, "tables": [{**table, "links": []}], "runs": {"linger_seconds": 0}}
            (self.folder / name).write_text(yaml.safe_dump(document))
        self.write("sandbox.env")
        own = {name: value for name, value in self.variables.items() if name != "SYNC_ASSETS_CONFIG"}
        self.write("own.env", own)
        self.write("wrong.env", self.variables | WRONG)

    def write(self, name: str, variables: Mapping[str, str] | None = None) -> None:
        lines = [f"{key}={value}\n" for key, value in (variables or self.variables).items()]
        (self.folder / name).write_text("".join(lines))

    def run(self, command: str, folder: Path | None = None, **env: str) -> tuple[int, str, str]:
        words = command.replace("SYNC", str(self.folder)).split()
        started = start_command(words, CLEAN | env, folder or self.folder, dagster=False, on_disk=False)
        output, errors = started.communicate(timeout=120)
        assert started.returncode is not None
        return started.returncode, output, errors

    def tables(self, command: str, folder: Path | None = None, **env: str) -> list[str]:
        """Return the tables that the command counts. `plan` signs in to both systems."""
        status, output, errors = self.run(f"{command} --json", folder, **env)
        assert status == 0, output + errors
        return list(json.loads(output)["tables"])


@pytest.fixture(scope="module")
def variables(sandbox_factory: SandboxFactory) -> dict[str, str]:
    sandbox = sandbox_factory(contacts=3)
    sandbox.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")  # which these configurations do not map
    return sandbox.env


@pytest.fixture
def installed(variables: dict[str, str], tmp_path: Path) -> Installation:
    return Installation(variables, tmp_path)


# `.env` of the folder `sync`, current folder, command, variables that are set, tables
FINDS: dict[str, tuple[str, str, str, dict[str, str], list[str]]] = {
    "the file of the folder, and its .env": ("own.env", "folder", "status", {}, ["new_order"]),
    "a folder above": ("own.env", "below", "status", {}, ["new_order"]),
    "before what its .env names": ("sandbox.env", "folder", "status", {}, ["new_order"]),
    "options before the command": (
        "", "other", "--config SYNC/contacts.yaml --env-file SYNC/own.env status", {}, ["contact"],
    ),
    "options after the command": (
        "", "other", "status --env-file=SYNC/own.env --config=SYNC/contacts.yaml", {}, ["contact"],
    ),
    "one of each": ("", "other", "--config ../sync/contacts.yaml status --env-file ../sync/own.env", {}, ["contact"]),
    "the .env beside a named file": ("own.env", "other", "status --config ../sync/contacts.yaml", {}, ["contact"]),
    "the variable before the folder": (
        "own.env", "folder", "status", {"SYNC_ASSETS_CONFIG": "contacts.yaml"}, ["contact"],
    ),
    "the option before the variable": (
        "own.env", "folder", "status --config contacts.yaml", {"SYNC_ASSETS_CONFIG": "sync_assets.yaml"}, ["contact"],
    ),
    "the sandbox's, which its environment names": ("", "other", "status --env-file SYNC/sandbox.env", {}, ["contact"]),
    "a variable that is set before .env": ("wrong.env", "folder", "plan", {"D365_CLIENT_SECRET": ""}, []),
    "an env file before .env": ("wrong.env", "folder", "plan --env-file own.env", {}, ["new_order"]),
    "an env file before variables that are set": ("", "folder", "plan --env-file own.env", WRONG, ["new_order"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FINDS)
def test_a_command_finds_its_files(installed: Installation, case: str) -> None:
    beside, folder, command, env, tables = FINDS[case]
    if beside:
        (installed.folder / beside).rename(installed.folder / ".env")
        installed.write(beside, installed.variables if beside == "sandbox.env" else None)
    current: Path = getattr(installed, folder)
    if not tables:  # a set variable is the sandbox's right secret
        secret = installed.variables["D365_CLIENT_SECRET"]
        assert installed.run(command, current)[0] == 1
        tables, env = ["new_order"], {"D365_CLIENT_SECRET": secret}
    assert installed.tables(command, current, **env) == tables


def test_a_command_of_several_words_takes_the_options_at_each_place(installed: Installation) -> None:
    for command in ("--config F hold list", "hold --config F list", "hold list --config F"):
        status, output, errors = installed.run(command.replace("F", "SYNC/contacts.yaml"), installed.other)
        assert status == 0, output + errors
        assert f"There is no ledger at {installed.folder}/.dagster/ledger.db yet" in errors


def test_another_folder_meets_the_same_ledger_and_its_holds(installed: Installation) -> None:
    """As cron does, whose current folder is the user's home."""
    installed.write(".env", {**installed.variables, "SYNC_ASSETS_CONFIG": ""})
    assert installed.run("sync")[0] == 0
    assert installed.run(f"hold add {HELD} --force", installed.below)[0] == 0
    for folder, options in ((installed.below, ""), (installed.other, " --config SYNC/sync_assets.yaml")):
        status, output, _ = installed.run(f"hold list --json{options}", folder)
        assert (status, [one["id"] for one in json.loads(output)["holds"]]) == (0, [HELD])
    assert [*installed.folder.parent.rglob("ledger.db")] == [installed.folder / ".dagster" / "ledger.db"]
    assert not any(installed.other.iterdir())


def test_stage_and_production_are_two_env_files_with_one_configuration(installed: Installation) -> None:
    """A relative path in an env file is below its folder, wherever the command runs."""
    for name, systems in (("stage", {}), ("production", {"D365_URL": "https://localhost:1"})):
        (installed.folder / name).mkdir()
        own = {"SYNC_ASSETS_CONFIG": "sync_assets.yaml", "DAGSTER_HOME": name, **systems}
        installed.write(f"{name}.env", installed.variables | own)
    assert installed.run("sync --env-file SYNC/stage.env", installed.other)[0] in (0, 2)
    assert "no ledger" not in installed.run("status --env-file SYNC/stage.env", installed.other)[2]
    errors = installed.run("status --env-file SYNC/production.env", installed.other)[2]
    assert f"There is no ledger at {installed.folder}/production/ledger.db yet" in errors


NEEDS = [
    "sync", "plan", "estimate", "status", "replay contact", "rebuild", "rejects", "retry", "approve-deletes contact",
    f"explain {HELD}", "history", "hold list", "maintenance list", "doctor", "certify", "alerts", "accept-systems",
    "backup copy.db", "migrate", "dev", "web",
]  # fmt: skip


@pytest.mark.parametrize("command", NEEDS)
def test_a_command_without_a_configuration_ends_with_two_lines(tmp_path: Path, command: str) -> None:
    process = start_command(command.split(), CLEAN, tmp_path, dagster=False, on_disk=False)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    first, second = errors.splitlines()
    assert first.startswith("sync-assets: There is no configuration: ")
    assert "`sync-assets init`" in second
    assert "`sync-assets demo`" in second
    assert not any(tmp_path.iterdir())


def test_init_needs_no_configuration_for_systems_on_other_hosts(installed: Installation) -> None:
    status, _, errors = installed.run("init --list", installed.other)
    assert (status, "or in `.env`. Then run `sync-assets init` again." in errors) == (1, True), errors
    status, _, errors = installed.run("init --list --env-file SYNC/own.env", installed.other)
    assert (status, errors) == (0, "")
    installed.write("remote.env", {**installed.variables, "SYNC_ASSETS_CONFIG": "", "D365_URL": "https://org.invalid"})
    status, _, errors = installed.run("init --list --env-file SYNC/remote.env", installed.other)
    assert (status, "sign-in for https://org.invalid was refused" in errors) == (1, True), errors
    assert not any(installed.other.iterdir())


def test_the_configuration_of_the_sandbox_before_that_of_the_folder_is_announced(installed: Installation) -> None:
    command = "status --env-file SYNC/sandbox.env"
    assert f"To use {installed.folder}/sync_assets.yaml, write `--config" in installed.run(command, installed.below)[2]
    assert "To use" not in installed.run(command, installed.other)[2]


def test_a_configuration_in_a_folder_of_all_users_is_not_that_of_the_folders_below(installed: Installation) -> None:
    installed.folder.chmod(0o1777)
    status, _, errors = installed.run("status", installed.below)
    assert (status, "There is no configuration" in errors) == (1, True)
    assert "every user can write" in installed.run("status")[2]  # and what is found in it does not count


def planted(folder: Path, **variables: str) -> None:
    """Write a `.env` of another user into a folder that all can write; without root's rights, one of this user."""
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    if os.geteuid() == 0:
        os.chown(folder / ".env", 4711, 4711)
    folder.chmod(0o777)


@pytest.mark.parametrize("command", ["plan", "plan --config SYNC/contacts.yaml", "dev --port 0"])
def test_a_planted_env_file_sends_no_secret_to_a_host_of_its_own(installed: Installation, command: str) -> None:
    """The user has the secrets set, and uses the default of D365_AUTHORITY, which the planted file replaces."""
    env = {name: value for name, value in installed.variables.items() if name != "D365_AUTHORITY"}
    with socket.create_server(("127.0.0.1", 0)) as attacker:
        attacker.setblocking(False)
        planted(installed.folder, D365_AUTHORITY=f"http://127.0.0.1:{attacker.getsockname()[1]}")
        status, output, errors = installed.run(command, None, **env | {"SYNC_ASSETS_CONFIG": ""})
        with pytest.raises(BlockingIOError):
            attacker.accept()
    assert (status, output) == (1, "")
    assert " was found, not named, and another user could have written it: " in errors
    assert "If it is yours: " in errors.splitlines()[-1]


@pytest.mark.parametrize("file", ["workspace.yaml", "dagster.yaml"])
def test_planted_code_or_an_instance_of_dagster_is_not_used(installed: Installation, file: str) -> None:
    (installed.other / file).write_text("")
    installed.other.chmod(0o777)
    status, _, errors = installed.run(
        "dev --config SYNC/contacts.yaml --env-file SYNC/own.env --port 0", installed.other
    )
    assert (status, f"{file} was found, not named" in errors) == (1, True), errors


WRONGS: dict[str, tuple[str, dict[str, str], str]] = {
    "a file of variables that is not there": ("status --env-file nothing.env", {}, "nothing.env cannot be read"),
    "a file that is not there": ("status --config nothing.yaml", {}, "a file that does not exist ("),
    "a folder": ("status --config below", {}, "`--config` or SYNC_ASSETS_CONFIG names a folder"),
    "no file": ("status --config", {}, "--config names no file"),
    "a line without a value": ("status --env-file bad.env", {}, "bad.env:2: this is not a variable"),
    "a variable that is mistyped": (
        "status", {"D365_CLIENT_SECRT": "x"},
        "D365_CLIENT_SECRT is not a variable of the program. Did you mean D365_CLIENT_SECRET?",
    ),
    "one of the program's own": (
        "status", {"SYNC_ASSETS_CONFG": "x"}, "Did you mean SYNC_ASSETS_CONFIG?",
    ),
    "one that is like no other": ("status", {"CAMPAIGN_ZZZ": "x"}, "CAMPAIGN_ZZZ is not a variable of the program."),
    "a mistyped one in an env file": ("status --env-file typo.env", {}, "Did you mean CAMPAIGN_SFTP_HOST_KEY?"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONGS)
def test_a_wrong_file_or_variable_ends_the_command_with_the_reason(installed: Installation, case: str) -> None:
    command, env, reason = WRONGS[case]
    (installed.folder / "bad.env").write_text("SYNC_ASSETS_LOG_LEVEL=info\nD365_CLIENT_SECRET: secret\n")
    (installed.folder / "typo.env").write_text("CAMPAIGN_SFTP_HOSTKEY=secret\n")
    status, output, errors = installed.run(command, None, **env)
    assert (status, output) == (1, "")
    assert reason in errors
    assert "`sync-assets " in errors.splitlines()[-1]
    assert "cret\n" not in errors.replace("CLIENT_SECRET", "")


def asset_keys(url: str) -> set[str]:
    with suppress(httpx.HTTPError, ValueError):
        answer = httpx.post(f"{url}/graphql", json={"query": "{assetNodes {assetKey {path}}}"}, timeout=5).json()
        return {"/".join(node["assetKey"]["path"]) for node in answer["data"]["assetNodes"]}
    return set()


@pytest.mark.slow  # a `dagster dev` of its own
def test_processes_of_dagster_have_the_files_of_the_options(installed: Installation) -> None:
    """Although Dagster's commands set the variables of `.env` in their folder, even over those that are set."""
    (installed.other / ".env").write_text("SYNC_ASSETS_CONFIG=/nowhere.yaml\nD365_CLIENT_SECRT=typo\n")
    named = [GUARDED[0], "--config", "../sync/contacts.yaml", *GUARDED[1:], "--env-file", "../sync/own.env"]
    with dagster_dev(installed.other, CLEAN, named) as running:
        until(lambda: "campaign/profile" in asset_keys(running.url), 90)
    assert (installed.folder / ".dagster" / "dagster.yaml").exists()


def test_dagsters_own_commands_find_the_files_of_the_folder(installed: Installation) -> None:
    """`dagster asset materialize` in a folder below: the ledger is the configuration's, and `.env` signs in."""
    installed.write(".env", {**installed.variables, "SYNC_ASSETS_CONFIG": ""})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "asset", "materialize", "-m", "sync_assets.definitions"),
            *("--select", "d365/new_order", "--partition", today()),
        ],
        env=CLEAN | {"PYTHONWARNINGS": "ignore"}, cwd=installed.below, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert [*installed.folder.parent.rglob("ledger.db")] == [installed.folder / ".dagster" / "ledger.db"]
