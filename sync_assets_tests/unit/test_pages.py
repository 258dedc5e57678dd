"""README.md and the other pages name each command with its options and each key with its default; links are right."""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sync_assets.cli import main
from sync_assets.commands import document_schema
from sync_assets.config.json_schema import PACKAGED
from sync_assets.config.loader import load_config

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
    result: list[Named] = []
    for row in re.findall(r"^\|(.+)\|$", section, re.MULTILINE):
        cells = re.split(r"(?<!\\)\|", row)
        statuses = frozenset(map(int, re.findall(r"\b\d\b", cells[2]))) if len(cells) > 2 else frozenset[int]()
        result += [named(written, statuses or frozenset({0})) for written in re.findall(r"`([^`]+)`", cells[0])]
    return result


def mentions(text: str) -> list[Named]:
    """Every command of a page, without what a shell adds: `sync-assets …` in a line of code or in a block, and what
    stands in a line of code and begins like a command, as `hold add` does."""
    fence = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    blocks = [line for block in fence.findall(text) for line in re.findall(r"\bsync-assets [^#;&|<>\n]*", block)]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", fence.sub("", text))]
    begins = {"sync-assets", *(path.split()[0] for path in COMMANDS)}
    return [named(one) for one in (*blocks, *spans) if " " in one.strip() and one.split()[0] in begins]


def wrong(mentioned: list[Named]) -> list[str]:
    """What of it the program does not know."""
    known = {**COMMANDS, "": set[str]()}  # without a command it has its help
    return [
        one.written
        for one in mentioned
        if not (set(one.paths) <= (known.keys() if one.options else COMMANDS.keys()))
        or (one.options if not set(one.paths) <= DAGSTERS else set())
        - {"--json", "--help", "--version", "--install-completion", *main.FILES}
        - set[str]().union(*(known[path] for path in one.paths))
    ]


def test_the_table_of_commands_is_complete_with_every_option() -> None:
    result: dict[str, set[str]] = {}
    for one in table_of_commands():
        for path in one.paths:
            result.setdefault(path, set()).update(one.options - {"--json", *main.FILES})
    assert result == COMMANDS


def test_the_short_table_of_the_read_me_names_every_command() -> None:
    result = table_of_commands(README)
    assert {path for one in result for path in one.paths} == COMMANDS.keys()
    assert wrong(result) == []


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


def test_the_page_of_json_documents_has_the_schema_of_the_structs() -> None:
    text = document_schema.PAGE.read_text(encoding="utf-8")
    assert text == document_schema.page(), "run: python -m sync_assets.commands.document_schema"


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
    result: dict[str, str] = {}
    for table in re.findall(r"(?:^\|.+\|\n)+", section, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        if head[1:2] != ["default"]:
            continue
        for name, preset, *_ in rows:
            result |= {f"{head[0]}.{one}".replace("`", "").removeprefix("key."): preset for one in name.split(", ")}
    return result


def test_every_key_of_the_configuration_is_documented_with_its_default() -> None:
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
