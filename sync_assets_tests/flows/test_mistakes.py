"""Mistakes of a new user, by class: each ends with a sentence that names cause and remedy, and the command to go on."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

ID = "0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b"
WITHOUT_JSON = ("dev", "web", "code-server", "sandbox", "schema", "help", "role", "add", "init", "demo", "nothing")
"""Commands whose errors are not asked for as a document."""


@pytest.fixture
def program(systems: SandboxProcess, tmp_path: Path) -> Program:
    return Program(systems, tmp_path)


def assert_leads_on(program: Program, words: str, sentence: str) -> None:
    """Run a command that cannot run: one sentence or more, the last one with a command, and no traceback."""
    named = shlex.split(words)
    as_json = (
        len(named) > 0 and named[0] not in WITHOUT_JSON and not {"--json", named[-1]} & {"--json", "--table", "hold"}
    )
    status, output, errors = program.run(*named, *["--json"] * as_json)
    assert status == 1, output + errors
    assert sentence in errors
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("sync-assets: ")]
    assert errors.splitlines()[-1] == lines[-1]
    assert re.match(r"sync-assets: .+`sync-assets [a-z -]+.*`", lines[-1]), errors
    if as_json:
        problems = json.loads(output).get("problems", [])
        assert [f"sync-assets: {line}" for line in problems] == lines[len(lines) - len(problems) :]


PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelled key": ({"resorce": "profile"}, "unknown key `resorce`; did you mean `resource`?"),
    "a wrong type": ({"apply_deletes": "maybe"}, "`apply_deletes` cannot be `maybe`; write true or false"),
    "an unknown table": ({"table": "contcat"}, "has no table `contcat`"),
    "an unknown column": ({"fields": {"lastnam": "lastName"}}, "has no such column; did you mean `lastname`?"),
    "an unknown attribute": ({"fields": {"lastname": "lastNam"}}, "no attribute `lastNam`; did you mean `lastName`?"),
    "an unknown resource": ({"resource": "profil"}, "profil"),
    "an unknown key attribute": ({"key": "externalID"}, "did you mean `externalId`?"),
    "an unknown option": (
        {"filters": {"rules": [{"field": "statecode", "is": "eq", "value": "Actve"}]}},
        "`Actve` is no option of `statecode`; write one of 0 (Active), 1 (Inactive)",
    ),
}
"""By mistake: changed keys of the table, and a part of the sentence."""
ENVIRONMENTS: dict[str, tuple[dict[str, str], str]] = {
    "no address": ({"D365_URL": ""}, "D365_URL is not set"),
    "another host": ({"D365_URL": "https://localhost:1"}, "Check the host and the port of D365_URL"),
    "a wrong secret": ({"D365_CLIENT_SECRET": "wrong"}, "Put the secret's value (not its id) into D365_CLIENT_SECRET"),
    "a wrong tenant": ({"D365_TENANT_ID": "x"}, "Check D365_AUTHORITY and D365_TENANT_ID"),
    "a wrong secret of Campaign": ({"CAMPAIGN_CLIENT_SECRET": "wrong"}, "Campaign sign-in was refused"),
    "a sandbox that has ended": (
        {"SANDBOX_ADMIN_URL": "http://localhost:1", "SYNC_ASSETS_CA_BUNDLE": "/tmp/sync-assets-sandbox-x/ca.pem"},
        "The sandbox has ended: start another one in a new folder, `sync-assets sandbox --env-file .env`",
    ),
    "a ledger in no folder": (
        {"SYNC_ASSETS_LEDGER_URL": "sqlite:////nonexistent/ledger.db"},
        "names a file in /nonexistent, which is missing or the root. Name an existing folder.",
    ),
    "a ledger that is a folder's name": (
        {"SYNC_ASSETS_LEDGER_URL": "sqlite:////nonexistent"},
        "names a file in /, which is missing or the root.",
    ),
    "no authorities in it": ({"SYNC_ASSETS_CA_BUNDLE": "config.yaml"}, "cannot be read as PEM certificates"),
    "authorities left out": ({"SYNC_ASSETS_CA_BUNDLE": ""}, "the server's certificate is not trusted"),
    "a ledger of another kind": ({"SYNC_ASSETS_LEDGER_URL": "mysql://a/b"}, "Write sqlite:///<path> or postgresql"),
    "a loud log": ({"SYNC_ASSETS_LOG_LEVEL": "loud"}, "Set it to one of debug, info, warning, error"),
    "no such secret file": (
        {"D365_CLIENT_SECRET": "", "D365_CLIENT_SECRET_FILE": "secret"},
        "which cannot be read (No such file or directory)",
    ),
}
"""By mistake: variables, and a part of the sentence."""
COMMANDS: dict[str, str] = {
    "": "A command is missing",
    "nothing": "No such command 'nothing'",
    "synch": "Did you mean 'sync'?",
    "sync --foo": "No such option: --foo",
    "plan --change": "--changes",
    "plan --changes --limit x": "'--limit'",
    "plan --show-values": "add --changes",
    "plan --table contcat": "Did you mean contact?",
    "sync --table=": "A table's name is empty",
    "sync --table": "requires an argument",
    "rejects tabel": "tabel is not a mapped table",
    "rejects --csv --json": "name one of them",
    "rejects --waiting --orphaned": "name one of them",
    "status --watch --json": "leave out --watch",
    "sync --dry-run --new-ledger": "leave out --new-ledger",
    "explain": "Name one record",
    "explain abc": "a GUID such as",
    f"explain {ID}": f"{ID} is unknown",
    "hold": "A command is missing",
    "hold add": "Missing argument",
    "hold ad": "Did you mean 'add'?",
    "hold add abc": "a GUID such as",
    f"hold add {ID}": "so it is not put on hold",
    f"hold release {ID}": "is not on hold",
    f"retry --id {ID}": "is rejected. `sync-assets rejects`",
    "maintenance on contcat": "Did you mean contact?",
    "maintenance on ''": "A table's name is empty",
    "replay": "Missing argument 'TABLE'",
    "replay contact": "contact has never been captured, so there is nothing to replay",
    "replay contact --from 26.11.2026": "`--from 26.11.2026` is not a day. Write it as 2026-11-24",
    "replay contact --from 2026-11-26 --to 2026-11-25": "is after",
    "backup no/copy.db": "can't be written",
    "backup config.yaml": "nothing is overwritten",
    "history abc": "a GUID such as",
    "estimate --months 0": "'--months'",
    "init --json": "--json",
    "init --table contcat --config own.yaml": "Did you mean `contact`?",
    "add contact": "is mapped already",
    "role solution": "Name a file that ends in .zip",
    "certify": "Add --yes",
    "alerts --test": "No alert channel is configured",
    "dev --foo": "No such option",
    "sandbox --port x": "'--port'",
    "sandbox --env-file no/variables": "The sandbox could not start: No such file or directory (no/variables)",
    "sandbox change contcat a=b": "Did you mean contact?",
    "sandbox change contact a=b": "Create one with `--create`",
    "sandbox change contact lastname": "Write TABLE [ID] COLUMN=VALUE",
    "schema x": "extra argument",
    "help synch": "Did you mean 'sync'?",
}
"""By words: a part of the sentence. The ledger and both systems are empty."""


@pytest.mark.parametrize("mistake", PARTS)
def test_a_table_that_is_mapped_wrongly(program: Program, mistake: str) -> None:
    changed, sentence = PARTS[mistake]
    program.table = program.table | changed
    assert_leads_on(program, "plan", sentence)


def test_a_configuration_that_is_wrong_is_all_that_is_reported(program: Program) -> None:
    program.table = program.table | {"resorce": "profile"}
    for command in ("status", "rejects", "retry", "hold list", "maintenance list", "alerts"):
        status, output, errors = program.run(*command.split())
        assert (status, output, "no ledger" in errors) == (1, "", False), command


@pytest.mark.parametrize("mistake", ENVIRONMENTS)
def test_an_environment_that_is_wrong(program: Program, mistake: str) -> None:
    variables, sentence = ENVIRONMENTS[mistake]
    program.more = variables
    assert_leads_on(program, "plan", sentence)


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("sync_assets.yaml", Path.mkdir, "names a folder"),
        (".env", Path.mkdir, "The env file"),
        (".env", lambda path: path.write_bytes(b"A=\xe4"), "it is not UTF-8 text"),
        (".env", lambda path: path.write_text("what is this"), "Write NAME=value"),
        ("ledger.db", Path.mkdir, "ledger.db"),
        ("ledger.db", lambda path: path.write_text("x" * 5000), "is no ledger, or is damaged"),
    ],
)
def test_a_file_of_another_kind(program: Program, name: str, write: Callable[[Path], Any], sentence: str) -> None:
    write(program.home / name)
    program.more = {"SYNC_ASSETS_CONFIG": ""}
    if name == "ledger.db":
        program.more = {"SYNC_ASSETS_LEDGER_URL": f"sqlite:///{program.home / name}"}
    assert_leads_on(program, "plan", sentence)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_that_is_typed_wrongly(program: Program, words: str) -> None:
    program.make_ledger()
    assert_leads_on(program, words, COMMANDS[words])
