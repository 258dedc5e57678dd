"""Two installations in one code location, and in a project of Dagster's with an asset of its own.

Each has systems, variables and a ledger of its own.
"""

import logging
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml

import sync_assets
from sync_assets.component import SyncComponent
from sync_assets.config.files import DEFAULT_NAME
from sync_assets.defs.partitions import INSTALLATION_TAG, LEDGER_TAG, TABLE_TAG, today
from sync_assets.defs.tables.run_requests import record_runs
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.dagster_dev import dagster_daemon
from sync_assets_tests.support.orchestra import QUIET
from sync_assets_tests.support.program import OURS, Program
from sync_assets_tests.support.waiting import until

README = Path(sync_assets.__file__).parents[1] / "README.md"


def test_stage_and_production_stand_side_by_side_and_each_sends_to_its_own_campaign(
    sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in (None, "httpx"):  # as a project's process may log: `logs.configure` is called in our own ones only
        caplog.set_level(logging.DEBUG, logger)
    installations = {"stage": sandbox_factory(contacts=5), "production": sandbox_factory(contacts=8)}
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    built: list[dg.Definitions] = []
    for name, sandbox in installations.items():
        (home := tmp_path / name).mkdir()
        program, prefix = Program(sandbox, home), f"{name.upper()}_"
        for variable, value in program.env.items():
            if variable.startswith(OURS) and variable not in ("DAGSTER_HOME", "SYNC_ASSETS_CONFIG"):
                monkeypatch.setenv(prefix + variable, value)
        built.append(SyncComponent(name=name, environment_prefix=prefix).definitions(str(home / "config.yaml")))
    location = dg.Definitions.merge(*built)
    with dg.DagsterInstance.ephemeral() as instance:
        ledgers = set[str]()
        for name in installations:  # as a user of the UI starts them: a job, and assets without one
            selected = {dg.AssetKey([name, "d365", "contact"]), dg.AssetKey([name, "campaign", "profile"])}
            assets = location.resolve_implicit_global_asset_job_def().get_subset(asset_selection=selected)
            job = location.resolve_job_def("stage_sync") if name == "stage" else assets
            ran = job.execute_in_process(
                instance=instance, partition_key=today(), run_config=QUIET, raise_on_error=False
            )
            assert ran.success
            assert {key.path[0] for key in instance.get_asset_keys()} >= {name}
            [record] = instance.get_run_records(limit=1)
            tags, during = record.dagster_run.tags, datetime.fromtimestamp(record.start_time or 0, UTC)
            assert (tags[INSTALLATION_TAG], tags[TABLE_TAG]) == (name, "contact")
            ledgers.add(tags[LEDGER_TAG])
            [explained] = record_runs(instance, tags[LEDGER_TAG], "contact", [during])
            assert explained.run_id == ran.run_id
        assert len(ledgers) == 2
        sensor = location.resolve_sensor_def("stage_d365_changes")
        installations["stage"].admin.change("contact", 1, jobtitle="Later")
        with dg.build_sensor_context(instance=instance, repository_def=location.get_repository_def()) as context:
            (request,) = list(sensor.evaluate_tick(context).run_requests or ())
    assert (request.job_name, request.tags[INSTALLATION_TAG]) == ("stage_follow", "stage")
    sent = {name: len(sandbox.admin.dump_campaign()) for name, sandbox in installations.items()}
    assert sent == {"stage": 5, "production": 8}
    admins = tuple(one.env["SANDBOX_ADMIN_URL"] for one in installations.values())
    logged = [one for one in caplog.records if not any(admin in one.getMessage() for admin in admins)]
    addresses = [one.getMessage() for one in logged if one.levelno >= logging.INFO and "://" in one.getMessage()]
    assert not [text for text in addresses if "?" in text]  # httpx logs endpoints
    rows = [row for one in installations.values() for row in one.admin.dump_d365()]
    personal = ("contactid", "emailaddress1", "lastname", "jobtitle")
    values = {row[name] for row in rows for name in personal} - {None}
    values |= {value for one in installations.values() for name, value in one.env.items() if "SECRET" in name}
    assert not [one.getMessage() for one in logged if any(value in one.getMessage() for value in values)]
    assert sorted(path.name for path in tmp_path.glob("ledger*.db")) == ["ledger_production.db", "ledger_stage.db"]


PROJECT = """
[project]
name = "shop"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "shop"
"""
DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
ASSET = """
import dagster as dg

eager = dg.AutomationCondition.eager()

@dg.asset(deps=[dg.AssetKey(["crm", "campaign", "profile"])], automation_condition=eager)
def segments() -> None: ...

running = dg.DefaultSensorStatus.RUNNING
automation = dg.AutomationConditionSensorDefinition(
    "automation", target="*", default_status=running, minimum_interval_seconds=1
)
"""


def python_path(project: Path) -> str:
    return os.pathsep.join([str(project / "src"), str(README.parent)])


def dg_command(project: Path, *arguments: str, status: int = 0) -> str:
    code = "import sys; from dagster_dg_cli.cli import main; sys.argv[0] = 'dg'; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=project, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": python_path(project), "DAGSTER_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr if status else done.stdout


def scaffold(project: Path, folder: str, *options: str) -> Path:
    """Add an installation, and acknowledge what a person must. Return its configuration file."""
    dg_command(project, "scaffold", "defs", "sync_assets.SyncComponent", folder, *options)
    return acknowledge(project / "src" / "shop" / "defs" / folder / DEFAULT_NAME)


def acknowledge(file: Path) -> Path:
    file.write_text(file.read_text().replace("acknowledged: false", "acknowledged: true"))
    return file


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package of a project with an asset of its own, in the layout of `create-dagster project`."""
    package = tmp_path / "src" / "shop"
    (package / "defs").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    for path, text in {
        "__init__.py": "",
        "definitions.py": DEFINITIONS,
        "defs/__init__.py": "",
        "defs/own.py": ASSET,
    }.items():
        (package / path).write_text(text)
    return package


def test_a_project_of_dagsters_adds_two_installations_with_its_own_commands(package: Path, tmp_path: Path) -> None:
    new = "scaffold", "defs", "sync_assets.SyncComponent"
    dg_command(tmp_path, *new, "crm")
    dg_command(
        tmp_path, *new, "eu/2-stage", "--prefix", "EU_", "--table", "contact", "--table", "new_order=cusOrder:id"
    )
    written = yaml.safe_load((package / "defs" / "crm" / "defs.yaml").read_text())
    [documented] = re.findall(r"^```yaml\n(type: .*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert written == yaml.safe_load(documented)
    first, second = (package / "defs" / folder / DEFAULT_NAME for folder in ("crm", "eu/2-stage"))
    configuration = yaml.safe_load(first.read_text())
    assert str(configuration["runs"]["start_date"]) == today()  # days before are partitions that no run materialises
    assert {"CRM_D365_CLIENT_SECRET", "EU_CAMPAIGN_URL"} <= set(
        re.findall(r"\w+", dg_command(tmp_path, "list", "envs"))
    )
    refused = dg_command(tmp_path, "list", "defs", status=1)
    line = first.read_text().split("\n").index("privacy_acknowledged: false") + 1
    assert f"{first}:{line}: privacy requests are your task" in refused
    assert "write `privacy_acknowledged: true` once that is arranged" in refused
    assert "names no resource and key" in dg_command(tmp_path, *new, "x", "--table", "new_order", status=1)
    acknowledge(first)
    acknowledge(second).write_text(second.read_text().replace("fields: {}", "fields: {new_name: cusName}"))
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for local, status in {
        ".dagster/ledger_crm.db": 0,
        f".{DEFAULT_NAME}.ledgers": 0,
        f".{DEFAULT_NAME}.types": 1,
    }.items():
        ignored = ["git", "check-ignore", "--quiet", str(package / "defs" / "crm" / local)]
        assert subprocess.run(ignored, cwd=tmp_path, check=False).returncode == status
    dg_command(tmp_path, "check", "yaml")
    listed = dg_command(tmp_path, "list", "defs", "--json")
    names = ("crm/campaign/profile", "sync_2_stage/campaign/cusOrder", "segments", "crm_d365_changes")
    assert all(name in listed for name in names)


def test_sync_on_the_command_line_uses_the_names_and_variables_of_the_component_that_names_its_configuration(
    package: Path, sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, configuration = sandbox_factory(contacts=5), scaffold(tmp_path, "crm")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    variables = {name: one for name, one in sandbox.env.items() if one and name != "SYNC_ASSETS_CONFIG"}
    others = {name: value for name, value in os.environ.items() if not name.startswith((*OURS, "SANDBOX"))}
    others |= {"DAGSTER_HOME": str(tmp_path), "PYTHONPATH": python_path(tmp_path)}
    of_another = {"D365_URL": "https://other.example.com"}

    def sync(environment: dict[str, str], *options: str) -> None:
        command = [sys.executable, "-m", "sync_assets.cli", "sync", "--config", str(configuration), *options]
        done = subprocess.run(command, env=others | environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    sync(of_another | {f"CRM_{name}": value for name, value in variables.items()})
    sandbox.admin.change("contact", 1, lastname="Later")
    (tmp_path / "sandbox.env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    sync(of_another, "--env-file", str(tmp_path / "sandbox.env"))
    assert "Later" in [one["lastName"] for one in sandbox.admin.dump_campaign()]
    assert [path.name for path in tmp_path.glob("ledger*.db")] == ["ledger_crm.db"]
    with dg.DagsterInstance.get() as instance:
        assert {key.path[0] for key in instance.get_asset_keys()} == {"crm"}
        runs = instance.get_runs()
        assert {run.tags[INSTALLATION_TAG] for run in runs} == {"crm"}
        assert {run.job_name for run in runs} == {"crm_sync"}


@pytest.mark.parametrize("in_project", [True, False])
def test_dev_serves_a_project_whose_components_name_their_configurations(
    package: Path, tmp_path: Path, in_project: bool
) -> None:
    code = (
        "from sync_assets.cli import servers\n"
        "servers.supervise = lambda _, locations, *__: print(*(one['location_name'] for one in locations))\n"
        "servers.serve_dev(['--port', '0'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {"DAGSTER_HOME": str(tmp_path), "PYTHONPATH": python_path(tmp_path)}
    folder = tmp_path if in_project else package
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == ("shop.definitions\n" if in_project else "")
    assert ("There is no configuration" in done.stderr) is not in_project


@pytest.mark.slow
def test_two_installations_and_an_asset_of_the_project_run_at_once_each_in_its_way(
    package: Path, sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installations = {"crm": sandbox_factory(contacts=5), "stage": sandbox_factory(contacts=8)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {"DAGSTER_HOME": str(tmp_path), "PYTHONPATH": python_path(tmp_path)}
    (tmp_path / "dagster.yaml").write_text("sensors: {use_threads: true}\n")
    for name, sandbox in installations.items():
        scaffold(tmp_path, name)
        variables = {"SYNC_ASSETS_AUTOSTART": "1", **sandbox.env, "SYNC_ASSETS_CONFIG": ""}
        environment |= {f"{name.upper()}_{key}": one for key, one in variables.items() if one and key.startswith(OURS)}

    def names() -> list[list[str]]:
        return [[one["lastName"] for one in each.admin.dump_campaign()] for each in installations.values()]

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dagster_daemon(tmp_path, environment, "shop.definitions"), dg.DagsterInstance.get() as instance:
        until(lambda: [len(one) for one in names()] == [5, 8], seconds=120)
        until(lambda: instance.get_latest_materialization_event(dg.AssetKey("segments")) is not None, seconds=120)
        for each in installations.values():  # both runs stay, and each gets the change of its own system only
            each.admin.change("contact", 1, lastname="Later")
        until(lambda: all("Later" in one for one in names()))
        runs = instance.get_runs()
        executors = {run.run_id: multiprocess(instance, run.run_id) for run in runs}
    ledgers: dict[str, set[str]] = {}
    for run in runs:
        ledgers.setdefault(run.tags.get(INSTALLATION_TAG, ""), set()).add(run.tags.get(LEDGER_TAG, ""))
        assert run.status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.STARTED)
        assert executors[run.run_id] is (INSTALLATION_TAG not in run.tags)
    assert {name: len(ids) for name, ids in ledgers.items()} == {"crm": 1, "stage": 1, "": 1}
    assert ledgers["crm"] != ledgers["stage"]


def multiprocess(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Return True if each step of a run had a process of its own."""
    return bool(instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED))
