"""README.md and the other pages are true: each command is run against both systems, and ends as documented.

Not run here: `demo` (`.ci/run` types it, with `--headless`), `dev` and `web` (sync_assets_tests/flows/browser) and the
images (sync_assets_tests/flows/deploy). Commands run in this process one after the other: each start of Python would
cost a second.
"""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from sync_assets.cli import main
from sync_assets.commands import terminal
from sync_assets_tests.support.dagster_dev import DagsterDev, dagster_dev
from sync_assets_tests.support.loads import folder
from sync_assets_tests.support.mail_server import mail_server
from sync_assets_tests.support.program import CONTACT, OURS, Program
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until
from sync_assets_tests.unit.test_pages import COMMANDS, CONFIGURATION, DAGSTERS, README, ROOT, named, table_of_commands

NOT_RUN = {"demo", *DAGSTERS}
"""`demo` is run by `.ci/run`."""


class Story:
    """Commands typed one after the other; remembers what was run, and how it ended."""

    def __init__(self, program: Program, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]) -> None:
        self.program, self.admin = program, program.sandbox.admin
        self._patch, self._output = patch, output
        self.options: dict[str, set[str]] = {}
        self.statuses: dict[str, set[int]] = {}

    def type(self, line: str, status: int = 0) -> str:
        """Runs `sync-assets LINE`, which has to end with `status`; its standard output."""
        words = line.split()
        ours = self.program.env
        with self._patch.context() as patch:
            for name in {name for name in os.environ if name.startswith(OURS)}:
                patch.delenv(name)
            for name, value in ours.items():
                patch.setenv(name, value)
            patch.chdir(self.program.home)
            patch.setattr(sys, "argv", ["sync-assets", *words])
            patch.setattr(terminal, "_RUNTIMES", [])
            before = signal.getsignal(signal.SIGTERM)
            ended: object = 0
            try:
                main.main()
            except SystemExit as end:
                ended = end.code
            signal.signal(signal.SIGTERM, before)
        output, errors = self._output.readouterr()
        assert ended == status, f"{line}: {output}{errors}"
        assert not status or "`sync-assets " in errors.splitlines()[-1], f"{line}: {errors}"
        if "--json" in words:
            json.loads(output)
        self.note(line, status)
        return output

    def note(self, line: str, status: int) -> None:
        [path] = named(line).paths
        self.options.setdefault(path, set()).update(named(line).options - {"--json", *main.FILES})
        self.statuses.setdefault(path, set()).add(status)


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Story]:
    """More than a hundred contacts: among fewer no deletion is held back."""
    with SandboxProcess(contacts=105) as sandbox:
        yield Story(Program(sandbox, tmp_path, {**CONTACT, "apply_deletes": True}), monkeypatch, capfd)


def test_every_command_ends_as_documented(story: Story) -> None:
    for chapter in (begin, first_sync, look_after_the_ledger, mass_deletion, maintenance, privacy_delete):
        chapter(story)
    for chapter in (watching, numbers, loads_by_file, notices, migration, trouble, sandbox):
        chapter(story)
    documented: defaultdict[str, set[int]] = defaultdict(set)
    for one in table_of_commands():
        for path in one.paths:
            documented[path] |= one.statuses
    for path in documented.keys() - NOT_RUN:
        assert path in story.options, f"{path} is documented and was not run"
        assert story.options[path] == COMMANDS[path], f"an option of {path} was not tried"
        assert story.statuses[path] == documented[path] | (story.statuses[path] & {1}), path


def test_the_example_of_a_configuration_passes_doctor(systems: SandboxProcess, tmp_path: Path) -> None:
    program = Program(systems, tmp_path)
    [example] = re.findall(r"^```yaml\n(privacy_acknowledged.*?)^```$", CONFIGURATION, re.MULTILINE | re.DOTALL)
    (program.home / "example.yaml").write_text(example, encoding="utf-8")
    status, output, errors = program.run("doctor", "--config", "example.yaml")
    assert (status, errors) == (0, ""), output


@pytest.mark.slow
def test_the_quick_start_ends_as_it_shows(tmp_path: Path) -> None:
    """Typed in a shell, line by line."""
    section = README.partition("\n## Quick start\n")[2].partition("\n## ")[0]
    assert len(section.splitlines()) <= 60
    lines = "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)).splitlines()
    typed = ["trap 'kill %1 && wait' EXIT"]
    for line in lines:
        command = line.partition("#")[0].rstrip().replace(" ID", " $ID")
        if command.endswith("&"):
            typed += [f"{command[:-1]} 2>sandbox &", "until grep -q 'To use it' sandbox; do sleep 0.1; done"]
        elif command.startswith("sync-assets "):
            typed += [
                f"{command} >last 2>&1; echo status $? >>last; cat last",
                "ID=${ID:-$(grep -oE '[0-9a-f-]{36}' last)}",
            ]
        else:
            typed.append(command if command != "kill %1" else "")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    bash = ["timeout", "120", "bash", "-c", "\n".join(typed)]
    output = subprocess.run(bash, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert re.findall(r"^status (\d)$", output, re.MULTILINE) == [*"00000", *"000", *"0202", *"000"], output
    for shown in (
        "117",
        "0 insert, 0 update, 0 delete, 0 read",
        "location.city",
        "0 insert, 1 update",
        "51 characters",
    ):
        assert shown in output, output
    for superfluous in ("export ", "There is no ledger"):
        assert output.count(superfluous) <= superfluous.startswith("There"), output


def test_dagster_as_the_read_me_starts_it_continues_the_sync_of_the_same_folder(program: Program) -> None:
    """In a folder that is not the project's, with no setting of where files are."""
    assert "`mkdir sync && cd sync`" in README
    [options] = re.findall(r"`sync-assets (dev [^`]+)`", README)
    program.more["DAGSTER_HOME"], program.on_disk = "", True
    status, _, errors = program.run("sync")
    assert status == 0, errors
    with dagster_dev(program.home, program.env, ["sync_assets.cli", *options.split()]) as running:
        query = '{assetNodeOrError(assetKey: {path: ["campaign", "profile"]}) '
        query += "{... on AssetNode {assetMaterializations(limit: 1) {runId}}}}"
        until(lambda: "runId" in graphql(running, query), 90)
    log = running.log.read_text(errors="replace")
    assert f"sync-assets: Dagster's UI: {running.url}\n" in log
    assert [word for word in ("withheld", "dg dev") if word in log] == []
    assert [one for one in program.home.rglob("*.db") if "ledger" in one.name] == [program.home / ".dagster/ledger.db"]


def graphql(running: DagsterDev, query: str) -> str:
    with suppress(httpx.HTTPError):
        return httpx.post(f"{running.url}/graphql", json={"query": query}, timeout=5).text
    return ""


def begin(story: Story) -> None:
    assert "new_order" in story.type("init --list")
    story.type("init --table contact --config ours.yaml")
    story.type("init --table contact --config ours.yaml", 1)
    (story.program.home / "sample.csv").write_text("externalId;blackListEmail;blackListPhone\n")
    written = story.type("init --table contact --config ours.yaml --force --sample sample.csv")
    assert 'Write below `opt_out.export`:\n    separator: ";"\n' in written
    story.type("add new_order --config ours.yaml")
    story.type("schema")
    assert "prvReadContact" in story.type("role least_rights.zip")
    story.type("doctor --json")
    story.type("doctor --verbose")
    story.type("doctor --file not-there.csv", 1)
    assert "kept_days" in story.type("history --table contact --limit 5 --json")
    story.type("certify --yes --json")
    story.type("certify", 1)
    assert "105" in story.type("plan --accept-mapping")
    story.type("plan --table contact --changes --limit 3 --show-values")
    story.type("sync --dry-run --table contact")
    order = {"table": "new_order", "resource": "cusOrder", "key": "cusOrderId", "fields": {"new_name": "cusName"}}
    story.program.further = [order]  # without the link that Campaign requires
    story.type("plan", 2)
    story.type("plan --table new_order", 1)
    story.program.further = []
    assert "105" in story.type("estimate --months 24 --other-calls 1000")
    story.type("estimate --table contact")
    story.type("migrate", 2)
    story.type("migrate --yes --show-values --json", 2)


def first_sync(story: Story) -> None:
    story.admin.settings("campaign", bare_data_policy=False)  # Campaign says at once why it refuses
    [refused] = story.admin.change("contact", 1, emailaddress1="not-an-address")
    story.type("sync --table contact", 2)
    story.type("status --json")
    assert refused in story.type("rejects contact --json")
    assert refused in story.type("rejects --csv")
    story.type("rejects contact --refused-attributes")
    assert "No record waits." in story.type("rejects --waiting")
    assert "No record is tried again." in story.type("rejects --retried")
    story.type(f"explain {refused} --json", 2)
    assert "No record is orphaned." in story.type("rejects contact --orphaned")
    story.admin.change("contact", [refused], emailaddress1="right@example.org")
    story.type(f"retry contact --id {refused}")
    story.type("sync --json")
    story.admin.change("contact", 1, jobtitle="Planned")
    story.type("plan --out approved.jsonl")
    story.type("sync --plan approved.jsonl")
    story.program.assert_in_step()
    assert "right@" in story.type(f"explain {refused} --table contact --show-values")
    assert refused in story.type("explain --where emailaddress1=right@example.org")
    unknown = "00000000-0000-0000-0000-000000000001"
    story.type(f"explain {unknown}", 1)


def watching(story: Story) -> None:
    """In a process of its own, since it goes on until it is stopped."""
    process = story.program.start("status", "--watch")
    assert process.stdout
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    story.note("status --watch", 0)


def numbers(story: Story) -> None:
    """The server that goes on until it is stopped: flows/test_metrics.py."""
    story.type("metrics --once")
    story.type("report --html page.html")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        story.type(f"metrics --host 127.0.0.1 --port {taken.getsockname()[1]}", 1)


def loads_by_file(story: Story) -> None:
    story.type("loads --json")
    story.type("loads sample contact --output contact.tsv")
    folder(story.program).mkdir(parents=True, exist_ok=True)
    (folder(story.program) / "contact_20261201T120000Z_1.tsv").write_bytes(b"")  # of a ledger that was lost
    story.type("loads abandon contact --json")


def look_after_the_ledger(story: Story) -> None:
    story.type("backup copy.db")
    for change, status in (("+ 1", 2), ("- 1", 0)):
        with closing(sqlite3.connect(Path(story.program.env["DAGSTER_HOME"]) / "ledger.db")) as file, file:
            file.execute(f"UPDATE sync_tally SET records = records {change} WHERE state = 0")
        story.type("doctor --ledger", status)
    story.type("audit --table nothing", 1)
    story.admin.post("/campaign/change", {"resource": "profile", "count": 1, "set": {"email": "by@hand.example"}})
    story.type("audit --table contact --repair", 2)
    story.type("sync")
    story.type("audit --table contact --json")
    story.type("rebuild contact --new-ledger --json")
    assert "There is nothing to send." in story.type("replay contact --from 2020-01-01 --to 2020-01-02 --force")
    story.type("accept-systems --yes")
    story.type("sync --accept-mapping --new-ledger")


def mass_deletion(story: Story) -> None:
    story.admin.delete("contact", 20)
    story.type("sync", 2)
    story.type("approve-deletes contact")
    story.type("sync")
    story.program.assert_in_step()


def maintenance(story: Story) -> None:
    story.type("maintenance on contact")
    story.type("maintenance list --json")
    story.type("maintenance off contact")


def privacy_delete(story: Story) -> None:
    """In the order that docs/privacy.md gives."""
    admin, [contact, *_] = story.admin, [row["contactid"] for row in story.admin.dump_d365()]
    story.type(f"hold add {contact} --force")
    pkey = story.program.profiles()[contact]["PKey"]
    admin.post("/campaign/delete", {"resource": "profile", "pkeys": [pkey]})
    story.type(f"hold verify {contact}", 1)
    story.type(f"hold verify {contact} --kept contact/{contact}", 1)  # other records only
    admin.delete("contact", [contact])
    story.type(f"hold verify {contact} --json")
    story.type(f"hold release {contact}")
    story.type("hold list")
    story.type("sync")
    story.program.assert_in_step()


def notices(story: Story) -> None:
    """To a mail server, while it is there and afterwards."""
    with mail_server(story.program.home, "none") as box:
        email = {
            "host": "127.0.0.1",
            "port": box.port,
            "security": "none",
            "from": "a@example.org",
            "to": ["b@example.org"],
        }
        story.program.alerts = {"email": email}
        story.type("alerts --test")
    assert box.recipients == [["b@example.org"]]
    story.type("alerts --test", 1)
    story.type("alerts --json")
    story.program.alerts = {}


def migration(story: Story) -> None:
    """After the first sync there is nothing left to do."""
    assert "All steps are done." in story.type("migrate --from-start --yes --go")
    story.type("move", 2)
    story.type("move --from-start --yes", 2)
    url = story.program.env["CAMPAIGN_URL"]
    assert "127.0.0.1" in url or "localhost" in url
    moved = url.replace("127.0.0.1", "localhost") if "127.0.0.1" in url else url.replace("localhost", "127.0.0.1")
    story.program.more["CAMPAIGN_URL"] = moved
    story.type("move --yes --go")


def trouble(story: Story) -> None:
    story.program.more["CAMPAIGN_CLIENT_SECRET"] = "wrong"
    story.type("doctor", 1)
    story.type("sync", 1)


def sandbox(story: Story) -> None:
    """It serves in a process of its own. Rows of the one that runs are changed."""
    [contact, *_] = [row["contactid"] for row in story.admin.dump_d365()]
    assert contact in story.type("sandbox change contact donotemail=true new_score=5 new_balance=1.5 fax=")
    assert story.admin.dump_d365()[0]["new_score"] == 5
    story.type(f"sandbox change contact {contact} donotemail=yes", 1)
    story.type("sandbox change contacts fax=1", 1)
    assert "created" in story.type("sandbox change contact --create lastname=New")
    assert contact in story.type(f"sandbox change contact {contact} --delete")
    story.type(f"sandbox change contact {contact} fax=1", 1)
    opted_out = story.type("sandbox change profile blackListEmail=true").split()[1]
    assert story.program.profiles()[opted_out]["blackListEmail"] is True
    assert ".csv" in story.type("sandbox export")
    story.type("sandbox change contact", 1)
    line = f"sandbox --port 0 --contacts 1 --dialect v8 --env-file {story.program.home / 'sandbox.env'}"
    command = [sys.executable, "-m", "sync_assets.cli", *line.split()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        give_up_at = time.monotonic() + 30
        while not (story.program.home / "sandbox.env").exists() and time.monotonic() < give_up_at:
            time.sleep(0.02)
        process.terminate()
        status = process.wait(30)
    assert status == 0
    story.note(line, status)
