"""A runtime is only read: a caller that uses the ledger otherwise takes a copy, and flows return what they counted."""

import ast
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

import sync_assets
from sync_assets.config.files import CONFIG, SANDBOX_CONFIG
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions

MOST = 109
"""Parameters of the package that are a whole `Runtime`: a function takes what it uses."""
PACKAGE = Path(sync_assets.__file__).parent
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parameters(tree: ast.AST) -> Iterator[str]:
    """Yield the name of each parameter that is a `Runtime`."""
    for function in ast.walk(tree):
        if isinstance(function, FUNCTIONS):
            of = function.args
            for one in (*of.posonlyargs, *of.args, *of.kwonlyargs):
                if one.annotation and "Runtime" in ast.unparse(one.annotation).replace('"', "").split(" | "):
                    yield one.arg


def assignments(tree: ast.AST) -> Iterator[str]:
    """Yield each assignment to an attribute of a runtime."""
    names = {*parameters(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            owner = ast.unparse(node.value).rpartition(".")[2]
            if owner in names or owner.endswith("runtime"):
                yield ast.unparse(node)


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for file in PACKAGE.rglob("*.py"):
        yield file, ast.parse(file.read_text("utf-8"))


def test_nothing_assigns_an_attribute_of_a_runtime() -> None:
    assert [(file.name, found) for file, tree in modules() for found in assignments(tree)] == []
    wrong = ast.parse("runtime.a, self._runtime.b = 1, 2\nrun_runtime.c += 1\nother.d = 1")
    assert {*assignments(wrong)} == {"runtime.a", "self._runtime.b", "run_runtime.c"}
    runtime: Any = Runtime({})
    with pytest.raises(FrozenInstanceError):
        runtime.use = RunOptions()


def test_few_functions_take_the_whole_runtime() -> None:
    assert len([name for _, tree in modules() for name in parameters(tree)]) < MOST


def test_a_copy_has_another_use_and_a_ledger_of_its_own(tmp_path: Path) -> None:
    said: list[str] = []
    url = f"sqlite:///{tmp_path}/ledger.db"
    runtime = Runtime({CONFIG: str(SANDBOX_CONFIG), "SYNC_ASSETS_LEDGER_URL": url})
    copy = runtime.using(may_create=False, announce=said.append)
    assert copy.ledger is not runtime.ledger
    assert (runtime.use.may_create, runtime.access.missing) == (True, "")
    assert said == [copy.access.missing]
    assert "There is no ledger" in said[0]
    copy.close()
    runtime.close()
