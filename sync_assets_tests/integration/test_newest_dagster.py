"""The newest Dagster that a resolver selects within the ranges of `pyproject.toml`, in an environment of its own.

The set depends on what else is asked for: each of Dagster's packages pins the others, and they appear one by one.
"""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sync_assets.config.files import SANDBOX_CONFIG

ROOT = Path(__file__).parents[2]
PRIVATE_NAMES = "sync_assets_tests/unit/defs/test_dagster_internals.py"
CHECKS = {
    "": [
        ["python", "-c", "import dagster_aws.s3, dagster_aws.ecs"],
        ["dagster", "definitions", "validate", "-m", "sync_assets.definitions"],
    ],
    "prod": [["python", "-c", "import dagster_postgres"]],
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("extra", CHECKS)
def test_the_newest_set_that_resolves_is_no_old_one_and_has_the_names_that_we_use(extra: str, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = project["dependencies"] + project["optional-dependencies"].get(extra, [])
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    variables |= {"SYNC_ASSETS_CONFIG": str(SANDBOX_CONFIG), "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(tmp_path)}

    def run(*command: str) -> None:
        command = (str(tmp_path / "venv" / "bin" / command[0]), *command[1:])
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    report = tmp_path / "report.json"
    run("pip", "install", "--quiet", "--report", str(report), *texts, "pytest", "pytest-asyncio")
    installed = {
        one["metadata"]["name"]: one["metadata"]["version"] for one in json.loads(report.read_text())["install"]
    }
    for wanted in map(Requirement, texts):
        if wanted.name.startswith("dagster"):
            assert wanted.specifier.contains(installed[wanted.name]), installed
    for command in CHECKS[extra]:
        run(*command)
    run("python", "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-o", "addopts=", PRIVATE_NAMES)
