"""`.ci/dependencies.py`: licences and known vulnerabilities of the packages that the program brings."""

import datetime
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "dependencies.py"
TODAY = datetime.date(2026, 11, 27)


def _loaded() -> Any:
    spec = importlib.util.spec_from_file_location("dependencies", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dependencies = _loaded()


def requirements() -> list[Requirement]:
    """Return all requirements of `pyproject.toml`, with those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [
        Requirement(text)
        for part in (project["dependencies"], *project["optional-dependencies"].values())
        for text in part
    ]


def test_no_resolver_can_fall_back_to_an_old_release_of_dagster() -> None:
    """Its packages pin each other: of one without a lower bound, a resolver selects a release from before they did."""
    ranges = {one.name: {part.operator: Version(part.version) for part in one.specifier} for one in requirements()}
    ranges = {name: bounds for name, bounds in ranges.items() if name.startswith("dagster")}
    assert {"dagster", "dagster-webserver", "dagster-aws", "dagster-postgres", "dagster-dg-cli"} <= ranges.keys()
    for name, bounds in ranges.items():
        assert bounds.keys() == {">=", "<"}, name  # of a project that pins Dagster, `==` would be another version
        assert (bounds["<"].major, bounds["<"].minor) == (bounds[">="].major, bounds[">="].minor + 1), name
    assert len({bounds[">="].micro for bounds in ranges.values()}) == 1  # all were released together


def about(**fields: str | list[str]) -> Message:
    """Metadata of a package, as `importlib.metadata` returns it."""
    message = Message()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            message[name.replace("_", "-")] = value
    return message


def test_every_runtime_dependency_has_a_licence_that_is_allowed() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "licences"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    names = {line.partition(" ")[0] for line in done.stdout.splitlines()}
    assert {"dagster", "psycopg", "psycopg2-binary", "grpcio"} <= names  # direct ones, an extra's, an indirect one
    assert not names & {"sync-assets", "pytest", "playwright"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "MIT OR Apache-2.0"}, "MIT OR Apache-2.0"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "MPL-2.0 AND MIT"}, "MPL-2.0 AND MIT"),
        ({"License": "A long text", "Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}, ""),
        ({"License": "my own"}, ""),
        ({}, ""),
    ],
)
def test_a_licence_is_read_from_whichever_field_names_it(fields: dict[str, str | list[str]], expected: str) -> None:
    assert dependencies.licence(about(**fields)) == expected


@pytest.mark.parametrize(
    ("expression", "right"),
    [
        ("MIT", True),
        ("LGPL-3.0-only", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("", False),
    ],
)
def test_gpl_agpl_and_unknown_licences_are_refused(expression: str, right: bool) -> None:
    assert dependencies.allowed(expression) == right


def found(*fixed: str) -> dict[str, Any]:
    known = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": list(fixed)}
    return {"dependencies": [{"name": "x", "version": "1", "vulns": [known]}]}


def test_a_vulnerability_with_a_fix_is_to_be_mended_and_one_without_is_not() -> None:
    assert dependencies.to_do(found("1.1"), {}, TODAY) == [
        "x 1: PYSEC-2026-1. Install 1.1, or give a reason in .ci/vulnerabilities.toml."
    ]
    assert dependencies.to_do(found(), {}, TODAY) == []


@pytest.mark.parametrize(("until", "lines"), [(TODAY, 0), (TODAY - datetime.timedelta(days=1), 1)])
@pytest.mark.parametrize("name", ["PYSEC-2026-1", "CVE-2026-1"])
def test_a_reason_counts_by_each_name_until_its_last_day(name: str, until: datetime.date, lines: int) -> None:
    assert len(dependencies.to_do(found("1.1"), {name: {"reason": "r", "until": until}}, TODAY)) == lines


def test_an_exception_without_a_vulnerability_is_to_be_removed() -> None:
    [line] = dependencies.to_do(found(), {"CVE-2025-9": {"reason": "r", "until": TODAY}}, TODAY)
    assert line.startswith("CVE-2025-9 in .ci/vulnerabilities.toml is not found any more")


@pytest.mark.parametrize(
    ("document", "status", "message"),
    [
        (None, 0, "NOT CHECKED"),
        ({"dependencies": [{"name": "x", "skip_reason": "not found"}]}, 0, "NOT CHECKED"),
        (found("1.1"), 1, "Install 1.1"),
        (found(), 0, "1 packages looked up, 0 that the service does not have; 0 to do"),
    ],
)
def test_the_check_fails_for_defects_that_can_be_corrected_and_reports_an_empty_check(
    tmp_path: Path, document: dict[str, Any] | None, status: int, message: str
) -> None:
    if document is not None:
        (tmp_path / "found.json").write_text(json.dumps(document))
    asked = [sys.executable, SCRIPT, "audit", tmp_path / "found.json"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert message in done.stdout + done.stderr


def test_workflows_have_actions_by_commit_and_may_read_only_except_that_the_nightly_one_files_issues() -> None:
    for file in (ROOT / ".github" / "workflows").iterdir():
        workflow = yaml.safe_load(file.read_text("utf-8"))
        assert workflow["permissions"] == {}
        for job in workflow["jobs"].values():
            assert job["permissions"] == {"contents": "read"} | ({"issues": "write"} if file.stem == "nightly" else {})
            used = [step["uses"] for step in job["steps"] if "uses" in step]
            assert used
            assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []
            [checkout] = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
            assert checkout["with"]["persist-credentials"] is False
