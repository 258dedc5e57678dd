"""Loading the code location in a process of its own needs nothing but the configuration, and reads no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sync_assets

PROJECT = Path(sync_assets.__file__).parents[1]


def in_a_process(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_code_location_loads_without_any_environment_variable(tmp_path: Path) -> None:
    """As Dagster's code server does it; what a run needs is asked for by the run."""
    code = "from sync_assets.definitions import defs; print(len(defs().resolve_all_asset_specs()))"
    done = in_a_process(code, tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "4", "")
    assert list(tmp_path.iterdir()) == []


def test_loading_reads_no_library_that_only_a_sign_in_or_the_sandbox_needs(tmp_path: Path) -> None:
    """Each run's process loads the code location anew: what it imports is waited for at every change."""
    code = "import sys, sync_assets.definitions; print([name for name in sys.argv[1:] if name in sys.modules])"
    names = ["msal", "requests", "paramiko", "alembic", "starlette", "uvicorn", "typer", "sync_assets.sandbox"]
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


OPT_OUT_MODULES = ["sync_assets.defs.opt_out.assets", "sync_assets.defs.opt_out.sensors", "sync_assets.parquet.store"]


@pytest.mark.parametrize(
    ("direction", "read"),
    [
        ("disabled", []),
        ("d365_to_campaign", ["sync_assets.defs.opt_out.checks"]),  # the two sides are compared; no file, no SFTP
        ("campaign_to_d365", ["paramiko", "sync_assets.defs.opt_out.checks", *OPT_OUT_MODULES]),
    ],
)
def test_who_has_no_opt_outs_reads_nothing_of_them(tmp_path: Path, direction: str, read: list[str]) -> None:
    """The definitions too, by then: nothing but the configuration is there, and nothing else is asked for."""
    file = tmp_path / "config.yaml"
    contact = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}
    opt_out = {"direction": direction, "mappings": {"donotemail": "blackListEmail"}}
    file.write_text(yaml.safe_dump({"privacy_acknowledged": True, "tables": [contact], "opt_out": opt_out}))
    code = (
        "import sys; from sync_assets.definitions import defs; defs().resolve_asset_graph(); "
        "print(sorted(name for name in sys.argv[1:] if name in sys.modules))"
    )
    names = ["paramiko", "boto3", "sync_assets.defs.opt_out.checks", *OPT_OUT_MODULES]
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        cwd=tmp_path,
        env={"SYNC_ASSETS_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(sorted(read)), "")
    assert list(tmp_path.iterdir()) == [file]


def test_workspace_yaml_names_the_code_location() -> None:
    """With the command that an operator would use; validated in a process of its own."""
    [entry] = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"] == {"module_name": "sync_assets.definitions"}  # which is then its name, too
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(PROJECT / "workspace.yaml")]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "DAGSTER_HOME": ""},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location sync_assets.definitions" in done.stdout + done.stderr
