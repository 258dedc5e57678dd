"""What the tests of `deploy/` read: its files, and the variables that its README explains."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib.metadata import entry_points
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
INSTANCES = (DEPLOY / "dagster.yaml", DEPLOY / "compose" / "dagster.yaml")
NAME = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)`")


def explained(heading: str = "| variable | where | is |") -> set[str]:
    """The variables of the README's table with that heading."""
    rows = README.partition(heading)[2].strip().partition("\n\n")[0]
    assert rows, f"README.md has no table {heading}"
    return {name for row in rows.splitlines() for name in NAME.findall(row)}


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def parts(document: Any) -> Iterator[dict[str, Any]]:
    """All mappings in a document, at any depth."""
    if isinstance(document, dict):
        yield document
    for inner in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from parts(inner)


def variables(document: Any) -> set[str]:
    """Of a file of Dagster's: what it takes from the environment."""
    return {part["env"] for part in parts(document) if set(part) == {"env"}}


def command_exists(command: Sequence[str]) -> None:
    """The program is installed, knows the subcommand, and its help tells of each option."""
    words = [
        word for at, word in enumerate(command) if not word.startswith("-") and not command[at - 1].startswith("-")
    ]
    result = _help(*words)
    for option in (word for word in command if word.startswith("--")):
        assert re.search(rf"{option}\b", result), f"{' '.join(words)} knows no {option}"


def _help(program: str, *words: str) -> str:
    """Return the help of a command, by its entry point in this process: an interpreter imports Dagster for seconds."""
    assert Path(sys.executable).with_name(program).is_file()
    [script] = entry_points(group="console_scripts", name=program)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as result:
        patch.setattr(sys, "argv", [program, *words, "--help"])
        with pytest.raises(SystemExit) as ended:
            sys.exit(script.load()())
    assert not ended.value.code
    return result.getvalue()
