"""The flows of docs/dev/data-flows.md and the recipes of .github/CONTRIBUTING.md name code that exists."""

import ast
import re
from pathlib import Path

import pytest

import sync_assets

PACKAGE = Path(sync_assets.__file__).parent
TEXT = (PACKAGE / "docs" / "dev" / "data-flows.md").read_text(encoding="utf-8")
FLOWS = {
    title: re.findall(r"^\d+\. `([^`]+)` `([^`]+)`:", part, re.MULTILINE)
    for title, part in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    if "1. `" in part
}
DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
NAMED = re.findall(r"`([\w/]+\.py)`\s`([^`]+)`", TEXT)
"""Each file with a function beside it: the steps of the flows, and those in sentences."""


def names_of(file: Path) -> set[str]:
    """Functions, classes, constants and methods that a module defines, as `Class.method`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = {node.name: node for node in tree.body if isinstance(node, DEFINED)}
    methods = {
        f"{name}.{node.name}"
        for name, owner in top.items()
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, DEFINED)
    }
    constants = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    return top.keys() | methods | constants


def test_each_step_names_a_function_of_its_file() -> None:
    assert [(file, name) for file, name in NAMED if name not in names_of(PACKAGE / file)] == []


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_counts_its_files_and_those_beside_it(flow: str) -> None:
    part = TEXT.partition(f"\n## {flow}\n")[2].partition("\n## ")[0]
    [number] = re.findall(r"(\d+) files\.", part)
    files = set(re.findall(r"`([\w/]+\.py)`", part))
    assert len(files) == int(number)
    assert 2 <= len({file for file, _ in FLOWS[flow]}) <= 15


def test_the_page_has_the_nine_flows() -> None:
    assert len(FLOWS) == 9
    assert len(NAMED) > sum(map(len, FLOWS.values()))


def test_each_recipe_names_files_and_their_definitions() -> None:
    tests = Path(__file__).parents[1]
    text = (tests.parent / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
    result: list[tuple[str, str]] = []
    table = "\n".join(re.findall(r"^\|.*", text.partition("\n## Recipes\n")[2].partition("\n## ")[0], re.MULTILINE))
    for cell in re.split(r" \| |\n", table):
        file = Path()
        for name in re.findall(r"`([^`\s]+)`", cell):
            if "/" in name:
                file = next((folder / name for folder in (PACKAGE, tests) if (folder / name).exists()), Path())
                assert file.name, name
            elif name.isidentifier() and file.suffix == ".py":
                result.append((file.name, name))
                assert name in names_of(file), result[-1]
    assert len(result) > 20
