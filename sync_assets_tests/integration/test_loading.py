"""Loading the code location in a process of its own needs nothing but the configuration, and reads no more."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sync_assets
from sync_assets.config.files import SANDBOX_CONFIG
from sync_assets.launching.processes import OWN

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
    ("direction", "read"), [("disabled", []), ("campaign_to_d365", ["paramiko", *OPT_OUT_MODULES])]
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
    environment = {"DAGSTER_HOME": str(tmp_path), "SYNC_ASSETS_CONFIG": str(SANDBOX_CONFIG), OWN: "1"}
    done = in_a_process(code, folder=tmp_path, PYTHONPATH=str(PROJECT), **environment)
    assert done[:2] == (0, "0"), done[2]


def test_workspace_yaml_names_the_code_location() -> None:
    """`.ci/run` validates it with the command that an operator would use."""
    [entry] = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"] == {"module_name": "sync_assets.definitions"}  # which is then its name, too


STATE = """
import asyncio, ctypes, gc, logging, os, sys, threading, warnings; import dagster as dg
from dagster._core.execution import compute_logs
from dagster._core.storage import sql
real, called = ctypes.CDLL, []
class Watched(real):
    def __init__(self, name, *more, **options):
        called.append(name); super().__init__(name, *more, **options)
ctypes.CDLL = Watched
def state():
    loggers = {name: (one.level, one.propagate, len(one.handlers))
        for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger) and one.level}
    return {
        "collector": (gc.isenabled(), gc.get_freeze_count(), gc.get_threshold()),
        "warnings": [one for one in warnings.filters if "dagster" in one[2].__module__ or "sync_assets" in str(one)],
        "threads": (sys.getswitchinterval(), threading.active_count()),
        "loop": type(asyncio.get_event_loop_policy()), "memory": None in called,
        "logs": (logging.getLogRecordFactory(), len(logging.root.handlers), logging.root.level, loggers),
        "Dagster": (compute_logs.subprocess, sql.ALEMBIC_SCRIPTS_LOCATION),
        "variables": {n: v for n, v in os.environ.items() if n != "_RJEM_MALLOC_CONF"},  # Polars sets that
        "hooks": (sys.excepthook, sys.meta_path[:], threading.excepthook),
    }
def changed(before):
    now = state()
    return [name for name in now if now[name] != before[name]]
"""


@pytest.mark.parametrize(
    ("own", "changes"), [({}, []), ({OWN: "1"}, ["collector", "memory", "logs", "Dagster"])], ids=["any", "our own"]
)
def test_importing_and_building_the_definitions_changes_nothing_in_a_process_that_is_not_our_own(
    tmp_path: Path, own: dict[str, str], changes: list[str]
) -> None:
    """A code location may hold other people's assets, too. What the program sets, its own entry points ask for."""
    (tmp_path / "sync_assets.yaml").write_bytes(SANDBOX_CONFIG.read_bytes())
    (tmp_path / ".env").write_text("D365_CLIENT_ID=of-the-file\nSYNC_ASSETS_LOG_LEVEL=debug\n")
    code = STATE + (
        "before = state(); from sync_assets.definitions import defs; made = defs()\n"
        "assert made.resolve_all_asset_specs() and made.executor is None\n"
        "print(changed(before))"
    )
    assert in_a_process(code, folder=tmp_path, **own) == (0, str(changes), "")
