"""`SyncComponent`: the attributes of an instance, and several installations in one code location."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import dagster as dg
import pytest

from sync_assets.component import SyncComponent, first_configuration
from sync_assets.config.files import CONFIG, DEFAULT_NAME, DEFS, complete, component_of
from sync_assets.config.installation import Installation
from sync_assets.config.loader import ConfigError
from sync_assets.config.variables import NEEDED, SettingsError
from sync_assets.defs.partitions import INSTALLATION_TAG
from sync_assets.defs.resources import Dynamics365
from sync_assets.defs.tables.asset_metadata import TABLE_NAME
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime

CONFIGURATION = first_configuration("contact").replace("acknowledged: false", "acknowledged: true")
OPT_OUT = "opt_out: {direction: bidirectional, mappings: {donotemail: blackListEmail}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / DEFAULT_NAME
    path.write_text(CONFIGURATION + OPT_OUT)
    return path


def objects(defs: dg.Definitions) -> dict[str, set[str]]:
    """Return the names of all objects that must be unique in a code location."""
    repository = defs.get_repository_def()
    graph = defs.resolve_asset_graph()
    return {
        "assets": {key.to_user_string() for key in graph.get_all_asset_keys()},
        "steps": {node.name for node in repository.get_implicit_global_asset_job_def().nodes},
        "jobs": {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "schedules": {schedule.name for schedule in repository.schedule_defs},
        "resources": set(repository.get_top_level_resources()),
        "partitions": {
            str(one.partitions_def.name)
            for one in graph.asset_nodes
            if isinstance(one.partitions_def, dg.DynamicPartitionsDefinition)
        },
    }


def test_installations_stand_side_by_side_in_one_code_location_each_with_its_own_names(file: Path) -> None:
    documented = SyncComponent().definitions(str(file))
    others = {name: SyncComponent(name=name).definitions(str(file)) for name in ("stage", "production")}
    merged = dg.Definitions.merge(documented, *others.values())
    dg.Definitions.validate_loadable(merged)
    names, together = objects(documented), objects(merged)
    for name, defs in others.items():
        for kind, ours in objects(defs).items():
            starts = (f"{name}/",) if kind == "assets" else (f"{name}_", f"{name}__")  # __ in steps that are assets
            assert {one.removeprefix(starts[-1]).removeprefix(starts[0]) for one in ours} == names[kind]
    assert {kind: len(entry) for kind, entry in together.items()} == {kind: 3 * len(one) for kind, one in names.items()}
    jobs = {job.name: job.tags.get(INSTALLATION_TAG) for job in merged.get_repository_def().get_all_jobs()}
    assert all(tag == next((one for one in others if name.startswith(f"{one}_")), None) for name, tag in jobs.items())
    assert names["jobs"] >= {"sync", "send_backlog", "replay", "watch", "prune_history"}
    specs = {spec.key.to_user_string(): spec for spec in merged.resolve_all_asset_specs()}
    groups = {key: spec.group_name for key, spec in specs.items()}
    assert (groups["d365/contact"], groups["stage/d365/contact"]) == ("d365", "stage_d365")
    linked = [key for key, spec in specs.items() if spec.metadata.get(TABLE_NAME) == "stage.d365.contact"]
    assert sorted(linked) == ["stage/d365/contact", "stage/d365/contact_opt_out"]  # these, Dagster links


def test_key_prefix_groups_owners_and_tags_are_those_of_the_instance(file: Path) -> None:
    component = SyncComponent(
        name="crm", key_prefix="europe/crm", groups={"d365": "sources"}, owners=["team:europe"], tags={"region": "eu"}
    )
    specs = {spec.key.to_user_string(): spec for spec in component.definitions(str(file)).resolve_all_asset_specs()}
    contact, profile = specs["europe/crm/d365/contact"], specs["europe/crm/campaign/profile"]
    assert (contact.group_name, profile.group_name) == ("sources", "crm_campaign")
    assert contact.owners == ["team:crm", "team:europe"]
    assert contact.tags.items() >= {"region": "eu", "sync/pii": "true"}.items()
    assert [dep.asset_key for dep in profile.deps] == [contact.key]
    assert all(name.startswith("europe/crm/") for name in specs)


@pytest.mark.parametrize(
    ("variables", "env_file", "url"),
    [
        ({"STAGE_D365_URL": "https://stage.example.com"}, "", "https://stage.example.com"),
        ({}, "STAGE_D365_URL=https://stage.example.com\nD365_URL=https://x.example.com\n", "https://stage.example.com"),
        ({}, "", None),
    ],
    ids=["prefixed", "prefixed in .env", "of another installation only"],
)
def test_an_installation_reads_the_variables_with_its_prefix_and_no_others(
    file: Path, monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], env_file: str, url: str | None
) -> None:
    for name, value in {**variables, "D365_URL": "https://live.example.com"}.items():
        monkeypatch.setenv(name, value)
    if env_file:
        file.with_name(".env").write_text(env_file)
    component, before = SyncComponent(name="stage", environment_prefix="STAGE_"), dict(os.environ)
    resource = (component.definitions(str(file)).resources or {})["stage_dynamics_365"]
    assert isinstance(resource, Dynamics365)
    named = "https://stage.example.com" if variables else ""  # of the process; a run takes that of a file from the file
    assert (dg.EnvVar("STAGE_D365_URL").get_value() or "", bool(resource.url)) == (named, bool(variables))
    built: list[Runtime] = []
    monkeypatch.setattr("sync_assets.defs.build.build_definitions", built.append)
    component.definitions(str(file))
    assert built[0].environment.get("D365_URL") == url
    assert built[0].settings.ledger_url.endswith("/ledger_stage.db")
    assert dict(os.environ) == before


def test_a_missing_variable_is_named_with_the_prefix_that_it_must_have(file: Path) -> None:
    environment = {CONFIG: str(file), "CAMPAIGN_URL": "http://campaign.example.com"}
    runtime = Runtime(environment, installation=Installation("crm", variables="CRM_"))
    with pytest.raises(SettingsError) as raised:
        runtime.settings.require("d365", "campaign")
    names = re.findall(r"\w+(?:D365|CAMPAIGN)_\w+", str(raised.value))
    assert {"CRM_D365_URL", "CRM_D365_CLIENT_SECRET", "CRM_CAMPAIGN_URL"} <= {*names}
    assert not re.search(r"\b(D365|CAMPAIGN)_", str(raised.value))
    with pytest.raises(SettingsError, match=r"CRM_D365_URLS\b.*CRM_D365_URL\b"):
        Runtime({"D365_URLS": "x"}, installation=runtime.installation).settings  # noqa: B018


def of_yaml(attributes: str) -> SyncComponent:
    """Return a component with the attributes of a `defs.yaml`."""
    return SyncComponent.resolve_from_yaml(attributes)


def test_schedules_run_at_the_times_of_the_instance_or_not_at_all(file: Path) -> None:
    defs = of_yaml('name: crm\nschedules: {audit: "0 6 * * 1", daily_report: off}').definitions(str(file))
    times = {one.name: one.cron_schedule for one in defs.get_repository_def().schedule_defs}
    assert times == {
        "crm_audit_schedule": "0 6 * * 1",
        "crm_watch_schedule": "*/30 * * * *",
        "crm_prune_history_schedule": "0 3 * * *",
    }
    with pytest.raises(ConfigError, match="schedules: audits has no schedule; only watch, audit, "):
        of_yaml("name: crm\nschedules: {audits: off}").definitions(str(file))


TRANSLATION = """
owners: [team:europe]
translation:
  group_name: "sources_{{ spec.key.path[-1] }}"
  tags: {domain: sales}
  automation_condition: "{{ automation_condition.eager() }}"
"""


def test_a_translation_sets_attributes_of_assets_but_not_their_keys_or_partitions(file: Path) -> None:
    defs = of_yaml(TRANSLATION).definitions(str(file))
    dg.Definitions.validate_loadable(defs)
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    profile = specs["campaign/profile"]
    assert (profile.group_name, profile.owners) == ("sources_profile", ["team:marketing", "team:europe"])
    assert profile.tags.items() >= {"domain": "sales", "sync/pii": "true"}.items()
    assert profile.automation_condition
    for refused in ("key_prefix: europe", "partitions_def: {type: daily, start_date: '2026-01-01'}"):
        with pytest.raises(SyncAssetsError, match=r"the key or the partitions of d365/contact\. Set `key_prefix`"):
            of_yaml(f"translation: {{{refused}}}").definitions(str(file))


class CrmSyncComponent(SyncComponent):
    """As a project defines it."""

    def get_asset_spec(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        ours = super().get_asset_spec(spec)
        return ours.replace_attributes(group_name=f"crm_{ours.key.path[-1]}", key=ours.key.with_prefix([*self.tags]))


def test_a_subclass_overrides_the_assets_but_not_their_keys(file: Path) -> None:
    component = CrmSyncComponent(translation=of_yaml("translation: {tags: {domain: sales}}").translation)
    specs = {spec.key.to_user_string(): spec for spec in component.definitions(str(file)).resolve_all_asset_specs()}
    assert specs["campaign/profile"].group_name == "crm_profile"
    assert specs["campaign/profile"].tags["domain"] == "sales"
    with pytest.raises(SyncAssetsError, match=r"`get_asset_spec` changes the key or .* of d365/contact\. Set"):
        CrmSyncComponent(tags={"x": "y"}).definitions(str(file))
    with pytest.raises(SyncAssetsError, match=r"Crm is a subclass of .* Rename it, as in `CrmSyncComponent`"):
        type("Crm", (SyncComponent,), {})


TEMPLATES = """
configuration: "{{ env.STAGE }}/sync_assets.yaml"
environment_file: "{{ env('STAGE') }}.env"
environment_prefix: "{{ env.STAGE }}_"
name: crm_{{ env.STAGE }}
key_prefix: ["{{ env.STAGE }}", crm]
owners: ["team:{{ env.STAGE }}"]
tags: {stage: "{{ env.STAGE }}"}
groups: {d365: "{{ env.STAGE }}_sources"}
schedules: {audit: "{{ env.AUDIT }}"}
"""


def test_each_field_takes_variables_and_the_command_line_takes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE", "eu")
    monkeypatch.setenv("AUDIT", "0 6 * * 1")
    expected = {
        "configuration": "eu/sync_assets.yaml",
        "environment_file": "eu.env",
        "environment_prefix": "eu_",
        "name": "crm_eu",
        "key_prefix": ["eu", "crm"],
    }
    component = of_yaml(TEMPLATES).model_dump()
    assert expected.items() <= component.items()
    assert (component["owners"], component["tags"]) == (["team:eu"], {"stage": "eu"})
    assert (component["groups"], component["schedules"]) == ({"d365": "eu_sources"}, {"audit": "0 6 * * 1"})
    attributes = TEMPLATES.replace("\n", "\n  ")
    (tmp_path / DEFS).write_text(f"type: .lib.CrmSyncComponent\nattributes:{attributes}\n")
    for stage in ("eu", "a-b"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / DEFAULT_NAME).touch()
    assert expected.items() <= component_of(tmp_path / "eu" / DEFAULT_NAME).items()
    monkeypatch.setenv("STAGE", "a-b")
    with pytest.raises(ValueError, match="environment_prefix"):
        of_yaml(TEMPLATES)
    with pytest.raises(SyncAssetsError, match="`environment_prefix` must be letters"):
        component_of(tmp_path / "a-b" / DEFAULT_NAME)


def test_a_scaffolded_installation_names_the_variables_that_have_no_default(file: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        Runtime({CONFIG: str(file)}).settings.require("d365", "campaign")
    assert set(re.findall(r"\b(?:D365|CAMPAIGN)_\w+", str(raised.value))) >= set(NEEDED)
    assert len(raised.value.problems) == len(NEEDED)


@pytest.mark.parametrize(
    "attributes", [{"name": "a b"}, {"environment_prefix": "STAGE-"}, {"nmae": "x"}, {"groups": {"d356": "x"}}]
)
def test_a_wrong_attribute_is_refused(attributes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(attributes))):
        SyncComponent.model_validate(attributes)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the components `crm` and `eu` of a project of Dagster's."""
    package = tmp_path / "src" / "shop"
    (tmp_path / "pyproject.toml").write_text(
        "[tool.dg]\ndirectory_type = 'project'\n[tool.dg.project]\nroot_module = 'shop'"
    )
    for name in ("crm", "eu"):
        (folder := package / "defs" / name).mkdir(parents=True)
        (folder / DEFS).write_text(
            f"type: sync_assets.SyncComponent\nattributes: {{name: {name}, environment_prefix: A_}}"
        )
        (folder / DEFAULT_NAME).write_text(CONFIGURATION)
    for path in ("__init__.py", "defs/__init__.py"):
        (package / path).touch()
    monkeypatch.syspath_prepend(str(package.parent))
    yield package / "defs"
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("{name: crm}", r"crm/defs\.yaml and \S+/eu/defs\.yaml have installations with the same `name`\. Give each"),
        ("{name: eu, key_prefix: crm}", r"eu/defs\.yaml have installations with the same `key_prefix`\. Give each"),
        (
            "{configuration: x.yaml}",
            r"eu/defs\.yaml: `configuration` names \S+/eu/x\.yaml, which does not exist\. Correct",
        ),
        ("{environment_file: x.env}", r"eu/defs\.yaml: `environment_file` names \S+/eu/x\.env, which does not exist"),
        ("{name: eu}", ""),
    ],
)
def test_an_error_of_a_component_names_the_file_that_must_be_corrected(
    project: Path, attributes: str, message: str
) -> None:
    (project / "eu" / DEFS).write_text(f"type: sync_assets.SyncComponent\nattributes: {attributes}\n")
    with pytest.raises(Exception) if message else nullcontext() as raised:  # noqa: PT011  one of Dagster's
        dg.load_from_defs_folder(path_within_project=project.parent)
    assert raised is None or (raised.value.__cause__ and re.search(message, str(raised.value.__cause__)))


@pytest.mark.parametrize(
    ("at", "attributes", "variables", "expected"),
    [
        ("", "{name: eu, environment_prefix: A_}", {"A_D365_URL": "a"}, ("a", "eu", ("eu",))),
        ("", "{name: eu, environment_prefix: B_, key_prefix: x/y}", {}, ("unprefixed", "eu", ("x", "y"))),
        ("", "{name: eu, environment_file: own.env}", {"A_D365_URL": "a"}, ("of the file", "eu", ("eu",))),
        ("conf", "{name: eu, configuration: conf/sync_assets.yaml}", {}, ("unprefixed", "eu", ("eu",))),
        ("", "{name: eu, configuration: other.yaml}", {}, ("unprefixed", "", ())),
        ("", "{name: eu, environment_prefix: C_}", {}, ("of --env-file", "eu", ("eu",))),
        ("", "", {}, ("unprefixed", "", ())),
    ],
)
def test_the_command_line_is_of_the_component_that_names_its_configuration(
    project: Path, at: str, attributes: str, variables: dict[str, str], expected: tuple[str, str, tuple[str, ...]]
) -> None:
    folder = project / "eu"
    (folder / at).mkdir(exist_ok=True)
    (folder / "own.env").write_text("D365_URL='of the file'")
    (folder / at / ".env").write_text("CAMPAIGN_URL=unprefixed\nA_CAMPAIGN_SFTP_HOST_KEY=hosts\nA_x=\n")
    ours = f"type: sync_assets.SyncComponent\nattributes: {attributes}\n---\n" if attributes else ""
    (folder / DEFS).write_text(f"{ours}type: shop.Other\nattributes: {{name: SyncComponent}}\n")
    environment = {"D365_URL": "unprefixed", "SYNC_ASSETS_LOG_LEVEL": "debug", **variables}
    given = project / "given.env"
    given.write_text("C_D365_URL='of --env-file'\n")
    complete(environment, config=str(folder / at / DEFAULT_NAME), env_file=str(given), of_component=True)
    assert environment["SYNC_ASSETS_LOG_LEVEL"] == "debug"  # of the process
    installation = Installation.of(component_of(Path(environment[CONFIG])))
    assert (environment["D365_URL"], installation.name, installation.key_prefix) == expected
    if expected[0] == "a":
        assert environment["CAMPAIGN_SFTP_HOST_KEY"] == str(folder / "hosts")
        assert "CAMPAIGN_URL" not in environment


@pytest.mark.parametrize(("command", "url"), [("status", "prefixed"), ("dev", "unprefixed"), ("web", "unprefixed")])
def test_a_server_of_a_project_leaves_the_variables_of_its_other_installations_as_they_are(
    project: Path, monkeypatch: pytest.MonkeyPatch, command: str, url: str
) -> None:
    for name, value in {"D365_URL": "unprefixed", "A_D365_URL": "prefixed"}.items():
        monkeypatch.setenv(name, value)
    arguments = [command, "--config", str(project / "eu" / DEFAULT_NAME)]
    code = (
        "import os; from sync_assets.cli import main; main.app = lambda **_: print(os.environ['D365_URL']); main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == f"{url}\n"


NAMES_SAME_FILE = "{name: eu}\n---\ntype: sync_assets.SyncComponent\nattributes: {name: stage, environment_prefix: B_}"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('{name: "{{ env.NOT_SET }}"}', r"`name` is an expression.* set the variable"),
        ('{configuration: "{{ env.NOT_SET }}"}', r"`configuration` is an expression"),
        ("{name: 5}", r"`name` is not a text"),
        ("{name: ../eu}", r"`name` must be letters"),
        ("{environment_prefix: A-}", r"`environment_prefix` must be letters"),
        ("{environment_file: [a]}", r"`environment_file` is not a text"),
        ("{key_prefix: [1, b]}", r"`key_prefix` is not a text"),
        ("\n  name: eu\n  - b", r":4 cannot be read"),
        (NAMES_SAME_FILE, r"2 components name \S+/sync_assets\.yaml"),
    ],
)
def test_a_component_that_the_command_line_cannot_read_is_an_error(
    project: Path, attributes: str, message: str
) -> None:
    (project / "eu" / DEFS).write_text(f"type: sync_assets.SyncComponent\nattributes: {attributes}\n")
    with pytest.raises(SyncAssetsError, match=rf"/eu/defs\.yaml.*{message}"):
        component_of(project / "eu" / DEFAULT_NAME)


def test_a_component_is_read_beside_another_one_whose_name_is_an_expression(project: Path) -> None:
    file = project / "eu" / DEFS
    other = 'type: sync_assets.SyncComponent\nattributes: {name: "{{ env.NOT_SET }}", configuration: x.yaml}\n---\n'
    file.write_text(other + file.read_text())
    assert component_of(project / "eu" / DEFAULT_NAME)["name"] == "eu"
