"""The walks of docs/dev/data-flows.md lead through files and functions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import sync_assets

PACKAGE = Path(sync_assets.__file__).parent
TEXT = (PACKAGE / "docs" / "dev" / "data-flows.md").read_text(encoding="utf-8")
WALKS = {
    title: re.findall(r"^\d+\. `([^`]+)` `([^`]+)`:", part, re.MULTILINE)
    for title, part in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    if "1. `" in part
}
DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
NAMED = re.findall(r"`([\w/]+\.py)`\s`([^`]+)`", TEXT)
"""Each file with a function beside it: the steps of the walks, and those in sentences."""


def names_of(file: Path) -> set[str]:
    """Functions, classes and methods that a module defines, as `Class.method`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = {node.name: node for node in tree.body if isinstance(node, DEFINED)}
    methods = {
        f"{name}.{node.name}"
        for name, owner in top.items()
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, DEFINED)
    }
    return top.keys() | methods


def test_each_step_names_a_function_of_its_file() -> None:
    assert [(file, name) for file, name in NAMED if name not in names_of(PACKAGE / file)] == []


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_passes_fifteen_files_at_most(walk: str) -> None:
    assert 2 <= len({file for file, _ in WALKS[walk]}) <= 15


def test_the_page_has_the_five_walks() -> None:
    assert len(WALKS) == 5
    assert len(NAMED) > sum(map(len, WALKS.values()))
