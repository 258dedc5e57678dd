"""README.md and the other pages, above all those of sync_assets/docs, are true.

They name every command with its options and exit statuses, and each of them is run here against both systems; they name
every key of the configuration with its default; their links lead to a page and a heading.

Not run here: `demo` (`.ci/run` types it, with `--headless`), `dev` and `web` (sync_assets_tests/flows/browser) and the
images (sync_assets_tests/flows/deploy). Commands run in this process one after the other: each start of Python would
cost a second.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sync_assets.cli import main
from sync_assets.commands import terminal
from sync_assets.config.json_schema import PACKAGED
from sync_assets.config.loader import load_config
from sync_assets_tests.support.dagster_dev import DagsterDev, dagster_dev
from sync_assets_tests.support.mail_server import mail_server
from sync_assets_tests.support.program import CONTACT, OURS, Program
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "sync_assets" / "docs"
OTHERS = (ROOT / "deploy" / "README.md", *sorted((ROOT / ".github").glob("*.md")))
PAGES = (ROOT / "README.md", *OTHERS, *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("dev/*.md")))
README = PAGES[0].read_text(encoding="utf-8")
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
TABLE_OF_COMMANDS = (DOCS / "commands.md").read_text(encoding="utf-8")
MOST_LINES = 250
"""Of README.md; details belong in a page of sync_assets/docs."""
DAGSTERS = {"dev", "web", "code-server"}
"""Their options are those of Dagster's commands. They are run by the tests of the UI and of `deploy/`."""
NOT_RUN = {"demo", *DAGSTERS}
"""`demo` is run by `.ci/run`."""


# What the pages say


@dataclass(frozen=True)
class Named:
    """One command as a page writes it, such as `sync-assets hold add|release ID`, which names two.

    `paths`: the commands, words joined by a blank; `options`: those beside it; `statuses`: of the table of commands.
    """

    written: str
    paths: tuple[str, ...]
    options: frozenset[str]
    statuses: frozenset[int] = frozenset()


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def named(written: str, statuses: frozenset[int] = frozenset()) -> Named:
    words = written.replace("\\|", "|").removeprefix("sync-assets").split()
    path = list(itertools.takewhile(re.compile(r"[a-z][a-z|-]*").fullmatch, words))
    path = path[: 2 if path and path[0] in GROUPS else 1]
    paths = tuple(" ".join(one) for one in itertools.product(*(word.split("|") for word in path)))
    return Named(written, paths, frozenset(re.findall(r"--[a-z-]+", written)), statuses)


def commands() -> dict[str, set[str]]:
    """Command -> its options, from the program itself. Those of every command go without saying."""

    def leaves(command: object, path: str) -> Iterator[tuple[str, set[str]]]:
        further: dict[str, object] = getattr(command, "commands", {})
        for name, one in further.items():
            yield from leaves(one, f"{path} {name}".strip())
        if further and not vars(command)["invoke_without_command"]:
            return
        names = {name for parameter in vars(command)["params"] for name in parameter.opts if name.startswith("--")}
        yield path, names - {"--json", "--help", *main.FILES}

    return dict(one for name in main.COMMANDS for one in leaves(main.load(name), name))


COMMANDS = commands()
GROUPS = {path.split()[0] for path in COMMANDS if " " in path}


def table_of_commands(text: str = TABLE_OF_COMMANDS) -> list[Named]:
    """The rows of the section Commands: the commands of the first cell, the exit statuses of the third (else 0)."""
    section = text.partition("\n## Commands\n")[2].partition("\n## ")[0]
    found: list[Named] = []
    for row in re.findall(r"^\|(.+)\|$", section, re.MULTILINE):
        cells = re.split(r"(?<!\\)\|", row)
        statuses = frozenset(map(int, re.findall(r"\b\d\b", cells[2]))) if len(cells) > 2 else frozenset[int]()
        found += [named(written, statuses or frozenset({0})) for written in re.findall(r"`([^`]+)`", cells[0])]
    return found


def mentions(text: str) -> list[Named]:
    """Every command of a page, without what a shell adds: `sync-assets …` in a line of code or in a block, and what
    stands in a line of code and begins like a command, as `hold add` does."""
    fence = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    blocks = [line for block in fence.findall(text) for line in re.findall(r"\bsync-assets [^#;&|<>\n]*", block)]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", fence.sub("", text))]
    begins = {"sync-assets", *(path.split()[0] for path in COMMANDS)}
    return [named(one) for one in (*blocks, *spans) if " " in one.strip() and one.split()[0] in begins]


def wrong(told: list[Named]) -> list[str]:
    """What of it the program does not know."""
    known = {**COMMANDS, "": set[str]()}  # without a command it has its help
    return [
        one.written
        for one in told
        if not (set(one.paths) <= (known.keys() if one.options else COMMANDS.keys()))
        or (one.options if not set(one.paths) <= DAGSTERS else set())
        - {"--json", "--help", "--version", "--install-completion", *main.FILES}
        - set[str]().union(*(known[path] for path in one.paths))
    ]


def test_the_table_of_commands_is_complete_with_every_option() -> None:
    told: dict[str, set[str]] = {}
    for one in table_of_commands():
        for path in one.paths:
            told.setdefault(path, set()).update(one.options - {"--json", *main.FILES})
    assert told == COMMANDS


def test_the_short_table_of_the_read_me_names_every_command() -> None:
    told = table_of_commands(README)
    assert {path for one in told for path in one.paths} == COMMANDS.keys()
    assert wrong(told) == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_command_is_named_wrongly_anywhere(page: Path) -> None:
    assert wrong(mentions(page.read_text(encoding="utf-8"))) == []


def test_the_read_me_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    "text",
    [
        "`sync-assets synchronise`",
        "`sync-assets hold drop ID`",
        "`hold drop`",
        "`sync-assets status --table T`",
        "```sh\nsync-assets plans\n```",
    ],
)
def test_a_wrong_name_would_be_noticed(text: str) -> None:
    assert len(wrong(mentions(text))) == 1


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    return sorted(set(re.findall(r"\]\((?!\w+://)([^)]+)\)", page.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_a_link_within_the_project_leads_somewhere(page: Path) -> None:
    for link in links(page):
        address, _, anchor = link.partition("#")
        target = page.parent / address if address else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_reached_from_the_read_me() -> None:
    reached = {(ROOT / link.partition("#")[0]).resolve() for link in links(PAGES[0])}
    assert {page for page in PAGES[1:] if page.resolve() not in reached} == set()


def keys() -> dict[str, str]:
    """Every key of the configuration -> its default, as the page writes it, from the JSON Schema. Keys are as in
    `tables[].links[].field`; those of a mapping's long form stand beside it, as in `tables[].fields.to`."""
    schema = json.loads(PACKAGED.read_bytes())

    def referred(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"].rpartition("/")[2]] if "$ref" in value else [])
        if isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                yield from referred(part)

    def below(part: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
        for name, one in part["properties"].items():
            key = f"{path}.{name}".lstrip(".")
            is_map, is_list = "patternProperties" in one, "items" in one
            further = list(dict.fromkeys(referred(one))) if name != "defaults" else []  # the keys of a table again
            if is_map or not further:
                yield key, "required" if name in part.get("required", ()) else default(one.get("default"))
            for reference in further:
                yield from below(schema["$defs"][reference], f"{key}[]" if is_list else key)

    def default(value: Any) -> str:
        if value in (None, []):
            return "none"
        if isinstance(value, list):
            return ", ".join(map(default, value))
        return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"

    return dict(below(schema, ""))


def told_keys(text: str = CONFIGURATION) -> dict[str, str]:
    """The same from the tables of the section Keys; the first cell of a head says what its keys are below."""
    section = text.partition("\n## Keys\n")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    for table in re.findall(r"(?:^\|.+\|\n)+", section, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        if head[1:2] != ["default"]:
            continue
        for name, preset, *_ in rows:
            found |= {f"{head[0]}.{one}".replace("`", "").removeprefix("key."): preset for one in name.split(", ")}
    return found


def test_every_key_of_the_configuration_is_told_with_its_default() -> None:
    assert told_keys() == keys()


@pytest.mark.parametrize(
    ("text", "tables"),
    [(README, {"contact"}), (CONFIGURATION, {"contact", "new_order"})],
    ids=["README.md", "configuration.md"],
)
def test_the_example_of_a_configuration_is_taken(text: str, tables: set[str], tmp_path: Path) -> None:
    [example] = re.findall(r"^```yaml\n(privacy_acknowledged.*?)^```$", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "sync_assets.yaml"
    file.write_text(example, encoding="utf-8")
    assert {table.table for table in load_config(file).tables} == tables


# What the program does


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


def test_every_command_ends_as_told(story: Story) -> None:
    for chapter in (begin, first_sync, look_after_the_ledger, mass_deletion, maintenance, privacy_delete):
        chapter(story)
    for chapter in (watching, notices, migration, trouble, sandbox):
        chapter(story)
    for one in table_of_commands():
        for path in one.paths:
            if path not in NOT_RUN:
                assert path in story.options, f"{path} is told and was not run"
                assert story.options[path] == COMMANDS[path], f"an option of {path} was not tried"
                assert story.statuses[path] == one.statuses | (story.statuses[path] & {1}), one.written


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
    assert "No record waits." in story.type("rejects --waiting")
    assert "No record is tried again." in story.type("rejects --retried")
    story.type(f"explain {refused} --json", 2)
    assert "No record is orphaned." in story.type("rejects contact --orphaned")
    story.admin.change("contact", [refused], emailaddress1="right@example.org")
    story.type(f"retry contact --id {refused}")
    story.type("sync --json")
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


def look_after_the_ledger(story: Story) -> None:
    story.type("backup copy.db")
    story.type("rebuild contact --new-ledger --json")
    story.type("replay contact --from 2020-01-01 --to 2020-01-02 --force")
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
