"""The default run repeats fixed seeds and examples; the nightly run draws fresh ones, and files failures as issues."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROPERTY = """
from hypothesis import given, strategies as st

@given(st.integers())
def test_any_number(number):
    with open("numbers", "a") as file:
        print(number, file=file)

@given(st.integers())
def test_no_large_number(number):
    assert number < 1000
"""


def run(folder: Path, *options: str) -> tuple[str, list[str]]:
    """Run the properties as a newcomer does, without CI. Return the output, and the numbers that were tried."""
    (folder / "test_properties.py").write_text(PROPERTY)
    (folder / "numbers").write_text("")
    environment = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "pytest", "-p", "sync_assets_tests.conftest", "--rootdir=.", *options, "."]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    return done.stdout, (folder / "numbers").read_text().split()


def test_examples_are_the_same_in_each_run_unless_fresh_ones_are_asked_for(tmp_path: Path) -> None:
    numbers = run(tmp_path)[1]
    assert run(tmp_path)[1] == numbers != []
    assert run(tmp_path, "--fresh")[1] != numbers


def test_the_nightly_run_alone_draws_fresh_ones_and_opens_an_issue() -> None:
    ci, nightly = (
        yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yaml").read_text()) for name in ("ci", "nightly")
    )
    steps = nightly["jobs"]["run"]["steps"]
    assert [step["env"]["PYTEST_ADDOPTS"] for step in steps if ".ci/run" in step.get("run", "")] == [
        '--thorough --fresh -m ""'
    ]
    assert [step["if"] for step in steps if ".ci/file_issue" in step.get("run", "")] == ["failure()"]
    assert "--fresh" not in str(ci)


@pytest.mark.parametrize("kind", ["a property", "a step without tests"])
def test_an_issue_has_the_example_and_the_text_of_the_failure(tmp_path: Path, kind: str) -> None:
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >arguments\ncat >body\n')
    gh.chmod(0o755)
    log = tmp_path / "log"
    log.write_text(run(tmp_path, "--fresh")[0] if kind == "a property" else "== ruff\nE501 Line too long\n")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_SHA": "0123abcd"}
    subprocess.run([ROOT / ".ci" / "file_issue", log], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "arguments").read_text().split()[:3] == ["issue", "create", "--title"]
    body = (tmp_path / "body").read_text()
    assert "0123abcd" in body
    if kind == "a property":
        assert "reproduce_failure" in body
        assert "number=1000" in body
        assert "FAILED test_properties.py::test_no_large_number" in body
    else:
        assert "E501 Line too long" in body
    assert len(body) < 65_536
