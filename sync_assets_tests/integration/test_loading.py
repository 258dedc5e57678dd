"""Loading the code location in a process of its own needs nothing but the configuration, and reads no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sync_assets
from sync_assets.config.files import SANDBOX_CONFIG

PROJECT = Path(sync_assets.__file__).parents[1]


def in_a_process(code: str, *names: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.strip(), done.stderr


def test_the_code_location_loads_without_any_environment_variable_or_library_that_only_a_sign_in_needs(
    tmp_path: Path,
) -> None:
    """As Dagster's code server does it; what a run needs is asked for by the run.

    Each run's process loads the code location anew: what it imports is waited for at every change.
    """
    code = (
        "import sys; from sync_assets.definitions import defs; made = defs().resolve_all_asset_specs(); "
        "print([name for name in sys.argv[1:] if name in sys.modules], len(made))"
    )
    names = ["msal", "requests", "paramiko", "alembic", "starlette", "uvicorn", "typer", "sync_assets.sandbox"]
    (tmp_path / "sync_assets.yaml").write_bytes(SANDBOX_CONFIG.read_bytes())
    assert in_a_process(code, *names, folder=tmp_path) == (0, "[] 4", "")
    assert [path.name for path in tmp_path.iterdir()] == ["sync_assets.yaml"]


OPT_OUT_MODULES = ["sync_assets.defs.opt_out.assets", "sync_assets.defs.opt_out.sensors"]


@pytest.mark.parametrize(
    ("direction", "read"),
    [
        ("disabled", []),
        ("d365_to_campaign", []),
        ("campaign_to_d365", ["paramiko", *OPT_OUT_MODULES]),
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
    names = ["paramiko", "boto3", *OPT_OUT_MODULES]
    done = in_a_process(code, *names, folder=tmp_path, SYNC_ASSETS_CONFIG=str(file))
    assert done == (0, str(sorted(read)), "")
    assert list(tmp_path.iterdir()) == [file]


def test_the_code_server_keeps_nothing_of_the_instances_that_its_ticks_open(tmp_path: Path) -> None:
    """Each tick of a sensor opens the instance anew: 1,000 times an hour, for months.

    As in the code server, the instance is opened once before the code location is loaded. Counted are the functions
    that Python keeps for the end of the process, with all that they refer to.
    """
    code = (
        "import atexit; import dagster as dg; ref = dg.DagsterInstance.get().get_ref()\n"
        "from sync_assets.definitions import defs; defs()\n"
        "def tick():\n"
        "    with dg.DagsterInstance.from_ref(ref) as instance:\n"
        "        instance.get_run_records(limit=1), instance.get_asset_records()\n"
        "tick(); before = atexit._ncallbacks(); tick(); tick(); print(atexit._ncallbacks() - before)"
    )
    environment = {"DAGSTER_HOME": str(tmp_path), "SYNC_ASSETS_CONFIG": str(SANDBOX_CONFIG)}
    done = in_a_process(code, folder=tmp_path, PYTHONPATH=str(PROJECT), **environment)
    assert done[:2] == (0, "0"), done[2]


def test_workspace_yaml_names_the_code_location() -> None:
    """`.ci/run` validates it with the command that an operator would use."""
    [entry] = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"] == {"module_name": "sync_assets.definitions"}  # which is then its name, too


def test_importing_the_package_changes_nothing_in_the_process(tmp_path: Path) -> None:
    """A code location may hold other people's assets, too. What the program sets, its own entry points set."""
    code = (
        "import asyncio, ctypes, gc, sys, warnings; import dagster\n"
        "real, called = ctypes.CDLL, []\n"
        "class Watched(real):\n"
        "    def __init__(self, name, *more, **options):\n"
        "        called.append(name); super().__init__(name, *more, **options)\n"
        "ctypes.CDLL = Watched\n"
        "def state():\n"
        "    policy = type(asyncio.get_event_loop_policy())\n"
        "    settings = [one for one in warnings.filters if 'dagster' in one[2].__module__]\n"
        "    return gc.isenabled(), gc.get_freeze_count(), settings, sys.getswitchinterval(), policy\n"
        "before = state(); import sync_assets.defs.build, sync_assets.definitions\n"
        "print(state() == before, None in called)"  # None: the C library, whose mallopt the program calls
    )
    assert in_a_process(code, folder=tmp_path) == (0, "True False", "")
