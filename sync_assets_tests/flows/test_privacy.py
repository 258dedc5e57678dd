"""Nobody's data and no secret leave the two systems and the ledger: not in events, logs, errors or output.

Contacts carry values that occur nowhere else; everything that the program leaves behind is searched for them.
"""

import json
import re
import sqlite3
import subprocess
import sys
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sync_assets.capture import page_preparation as captured_module
from sync_assets.push import dispatcher as push_module
from sync_assets_tests.support.opt_outs import switch_on
from sync_assets_tests.support.program import CONTACT, Program

CANARIES = {
    "firstname": "Quillfirst",
    "lastname": "Zanzibarlast",
    "emailaddress1": "canary.bird@cage.example",
    "jobtitle": "Canarykeeper",
    "address1_city": "Kanariahaven",
}
NO_ADDRESS = "canary-but-no-address"
SECRETS = ("D365_CLIENT_SECRET", "CAMPAIGN_CLIENT_SECRET", "SYNC_ASSETS_LEDGER_URL")


@pytest.fixture
def watched(program: Program) -> Program:
    program.on_disk = True
    program.history = {"days": 14}  # in the ledger, which is searched as well
    program.sandbox.admin.settings("campaign", bare_data_policy=False)
    program.sandbox.admin.change("contact", 5, **CANARIES)
    return program


def traces(program: Program, *outputs: str, beside: tuple[str, ...] = ()) -> set[tuple[str, str]]:
    """(where, what) of everything found that must not be there. `beside`: files that are not looked at."""
    contacts = program.sandbox.admin.dump_d365()
    secret = {value for name, value in (program.sandbox.env | program.more).items() if name in SECRETS}
    wanted = secret | {NO_ADDRESS, *CANARIES.values()} | {row["emailaddress1"] for row in contacts}
    needles = [text.lower().encode() for text in wanted if text]
    assert len(needles) > 40
    home = Path(program.env["DAGSTER_HOME"])
    files = [path for path in home.rglob("*") if path.is_file() and not path.name.startswith(beside or ("\0",))]
    places = {str(path.relative_to(home)): path.read_bytes() for path in files}
    places |= {f"output {n}": output.encode() for n, output in enumerate(outputs)}
    places |= {f"snapshot {n}": body for n, body in enumerate(_snapshots(home))}
    return {
        (place, needle.decode()) for place, content in places.items() for needle in needles if needle in content.lower()
    }


def _snapshots(home: Path) -> Iterator[bytes]:
    """What Dagster stores compressed."""
    for file in home.glob("history/runs.db"):
        with closing(sqlite3.connect(file)) as connection:
            for (body,) in connection.execute("SELECT snapshot_body FROM snapshots"):
                yield zlib.decompress(body)


def ledger_payloads(program: Program) -> int:
    with closing(sqlite3.connect(Path(program.env["DAGSTER_HOME"]) / "ledger.db")) as connection:
        query = "SELECT count(*) FROM sync_record WHERE payload IS NOT NULL OR update_payload IS NOT NULL"
        return connection.execute(query).fetchone()[0]


def test_after_a_sync_nothing_of_a_contact_is_left_outside_the_two_systems(watched: Program) -> None:
    status, output, errors = watched.run("sync")
    assert status == 0, errors
    assert ledger_payloads(watched) == 0
    assert traces(watched, output, errors) == set()
    watched.sandbox.admin.change("contact", 5, jobtitle=None)
    assert traces(watched, *watched.run("sync", "--json")[1:], *watched.run("status")[1:]) == set()

    # The search finds what lies there: else no test of this file could fail.
    secret = watched.sandbox.env["D365_CLIENT_SECRET"]
    (Path(watched.env["DAGSTER_HOME"]) / "left.log").write_text("to Canary.Bird@cage.example")
    assert traces(watched, f"secret {secret}") == {
        ("left.log", "canary.bird@cage.example"),
        ("output 0", secret.lower()),
    }


def test_refusals_are_reported_without_the_refused_values(watched: Program) -> None:
    """The ledger keeps a refused record's payload until it is put right, and nothing else does."""
    admin = watched.sandbox.admin
    [wrong] = admin.change("contact", 1, emailaddress1=NO_ADDRESS)
    body = f'RST-360000 Value "{CANARIES["emailaddress1"]}" of <{CANARIES["lastname"]}> is not accepted (ADDRESS=x)'
    admin.fault("campaign", "status", status=500, body=body, method="POST", times=3)
    status, output, errors = watched.run("sync")
    assert status == 2, errors
    result = [*watched.run("rejects")[1:], *watched.run("doctor")[1:]]
    assert wrong in result[0]
    assert traces(watched, output, errors, *result, beside=("ledger.db",)) == set()

    admin.change("contact", [wrong], emailaddress1="right@example.org")
    with closing(watched.runtime()) as runtime:
        runtime.ledger.claims.retry()
    status, output, errors = watched.run("sync")
    assert status == 0, errors
    assert ledger_payloads(watched) == 0
    assert traces(watched, output, errors) == set()


ECHO = "echo AUTHORIZATION end, client_secret SECRET and BASE64 end."


def echo(secret: str, form: str = "%s") -> str:
    encoded = b64encode(f"client:{secret}".encode()).decode()
    return form % ECHO.replace("SECRET", secret).replace("BASE64", encoded)


def test_a_server_that_repeats_tokens_and_secrets_has_none_of_them_stored_or_shown(watched: Program) -> None:
    """The tokens are not known here: so all that stands where they were repeated is looked at."""
    admin, env = watched.sandbox.admin, watched.sandbox.env
    in_json = '{"error": {"code": "0x80040265", "message": "%s"}}'
    secrets = env["CAMPAIGN_CLIENT_SECRET"], env["D365_CLIENT_SECRET"]
    shown: list[str] = []
    for system, secret, status, form, method in (
        ("campaign", secrets[0], 500, "RST-360000 %s", "POST"),
        ("campaign", secrets[0], 403, "%s", "GET"),
        ("d365", secrets[1], 400, in_json, "GET"),
        ("d365", secrets[1], 403, in_json, "GET"),
    ):
        more = {"headers": {"content-type": "application/json"}} if system == "d365" else {}
        rule = {"status": status, "body": echo(secret, form), "method": method, **more}
        admin.fault(system, "status", **rule)
        for words in (("sync",), ("rejects",), ("plan", "--json"), ("doctor", "-v")):
            shown += watched.run(*words)[1:]
        admin.clear_faults()
    assert "echo" in "".join(shown)
    home = Path(watched.env["DAGSTER_HOME"])
    stored = [path.read_bytes().decode(errors="replace") for path in home.rglob("*") if path.is_file()]
    for text in (*shown, *stored, *(body.decode() for body in _snapshots(home))):
        for after in re.findall(r"(?s)echo(.{0,60})", text):
            assert re.match(r"( Bearer)? (…|\\u2026)| AUTHORIZATION", after), after
        for secret in secrets:
            assert secret not in text
            assert b64encode(f"client:{secret}".encode()).decode()[12:-4] not in text


EVERYTHING_AT_DEBUG = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
import aiohttp, msal, paramiko, sqlalchemy, urllib3
for name in "httpx httpcore aiohttp urllib3 msal paramiko sync_assets.paramiko sqlalchemy asyncio".split():
    logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger(name).setLevel = lambda level: None
from sync_assets.cli.main import main
sys.argv[1:] = ["sync"]
main()
"""
"""The program with the root logger and those of its libraries at level debug, as somebody who looks for a fault may."""


def test_all_logs_at_debug_hold_no_secret_no_token_and_nothing_of_a_contact(watched: Program) -> None:
    switch_on(watched, "bidirectional")
    watched.sandbox.admin.change("contact", 3, donotphone=True)
    watched.sandbox.admin.export()
    watched.more["SYNC_ASSETS_LOG_LEVEL"] = "debug"
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING_AT_DEBUG],
        env=watched.env,
        cwd=watched.home,
        text=True,
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for library in ("sqlalchemy.engine.Engine", "msal", "paramiko", "asyncio"):
        assert library in done.stderr, "its lines should be there, without their content"
    assert traces(watched, done.stdout, done.stderr) == set()
    assert not re.search(r"Bearer [A-Za-z0-9._~-]{20}|client_secret=|access_token\W+[A-Za-z0-9._-]{20}", done.stderr)
    shorter = watched.sandbox.admin.dump_d365()
    assert not any(f"'{row['lastname']}'" in done.stderr for row in shorter)


@pytest.fixture
def synced(watched: Program, capfd: pytest.CaptureFixture[str]) -> Callable[[], tuple[int, list[str]]]:
    """A sync in this process: its exit status, and everything that it says."""

    def run() -> tuple[int, list[str]]:
        done = watched.sync()
        output, errors = capfd.readouterr()
        return done.status, [output, errors, *map(str, done.problems), *done.stopped, json.dumps(done.document)]

    return run


Sync = Callable[[], tuple[int, list[str]]]


class Spoilt(Exception):
    """What an error of the program may look like: its message quotes the row."""

    def __init__(self, *seen: Any) -> None:
        super().__init__(f"cannot handle {seen!r} of {CANARIES!r}")


def test_secrets_errors_of_the_program_and_refused_rows_are_reported_without_their_text(
    watched: Program, synced: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By variable, by place, and by a reason."""
    for variable in ("D365_CLIENT_SECRET", "CAMPAIGN_CLIENT_SECRET"):
        watched.more = {variable: "canary~secret.of.nobody"}
        status, result = synced()
        assert (status, variable in str(result)) == (1, True), result
        assert traces(watched, *result) == set()
    watched.more = {}

    def spoilt(rows: Any, *more: Any) -> Any:
        raise Spoilt(rows.to_dicts(), *more)

    async def spoilt_delivery(*seen: Any) -> Any:
        raise Spoilt(*seen)

    with monkeypatch.context() as patch:
        patch.setattr(captured_module, "convert", spoilt)
        status, result = synced()
    assert status == 1
    assert "The capture of contact stopped at an error of the program: Spoilt at test_privacy.py" in str(result)
    assert traces(watched, *result) == set()

    with monkeypatch.context() as patch:
        patch.setattr(push_module.Sender, "deliver", spoilt_delivery)
        status, result = synced()
    assert status == 1
    assert "The push of contact stopped at an error of the program" in str(result)
    assert traces(watched, *result, beside=("ledger.db",)) == set()

    watched.pass_horizon()  # of requests that the push may have sent
    status, result = synced()
    assert status == 0, result
    assert traces(watched, *result) == set()

    watched.table = {**CONTACT, "fields": {**CONTACT["fields"], "lastname": "gender"}}  # none of its values
    status, result = synced()
    assert status == 2, result
    with closing(watched.runtime()) as runtime:
        reasons = [reject.reason for reject in runtime.ledger.reports.rejects("contact")]
    assert len(reasons) > 40
    assert traces(watched, *result, *reasons) == set()
    assert ledger_payloads(watched) == 0
