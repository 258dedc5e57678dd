"""What the tests of `deploy/` read: its files, and the variables that its README explains."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    program = Path(sys.executable).with_name(words[0])
    told = subprocess.run([program, *words[1:], "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    for option in (word for word in command if word.startswith("--")):
        assert re.search(rf"{option}\b", told.stdout), f"{' '.join(words)} knows no {option}"
