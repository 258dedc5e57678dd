"""What Dagster loads: the names people script against, and that loading needs nothing but the configuration."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import yaml

from sync_assets.config.files import CONFIG, SANDBOX_CONFIG
from sync_assets.config.loader import ConfigError
from sync_assets.defs.asset_keys import all_keys
from sync_assets.defs.build import build_definitions
from sync_assets.defs.resources import LedgerDatabase, bound, systems
from sync_assets.ledger.errors import LedgerError
from sync_assets.runtime.context import Runtime

CONTACT, PROFILE = dg.AssetKey(["d365", "contact"]), dg.AssetKey(["campaign", "profile"])
AUDIT, REPORT = dg.AssetKey(["campaign", "profile_audit"]), dg.AssetKey(["report", "daily_sync"])


def definitions(**environment: str) -> dg.Definitions:
    return build_definitions(Runtime({CONFIG: str(SANDBOX_CONFIG)} | environment))


def specs(defs: dg.Definitions) -> dict[dg.AssetKey, dg.AssetSpec]:
    return {spec.key: spec for spec in defs.resolve_all_asset_specs()}


def test_a_mapped_table_is_two_assets_in_their_groups_one_behind_the_other() -> None:
    result = specs(definitions())
    assert {key: spec.group_name for key, spec in result.items()} == {
        CONTACT: "d365",
        PROFILE: "campaign",
        AUDIT: "audit",
        REPORT: "report",
    }
    assert [dep.asset_key for dep in result[PROFILE].deps] == [CONTACT]


def test_each_table_of_the_file_has_its_own(tmp_path: Path) -> None:
    tables = [
        {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}},
        {"table": "new_order", "resource": "cusOrder", "key": "cusOrderId", "fields": {"new_name": "cusName"}},
    ]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"privacy_acknowledged": True, "tables": tables}))
    defs = definitions(SYNC_ASSETS_CONFIG=str(file))
    keys = {key.to_user_string() for key in specs(defs)}
    both = {"d365/contact", "campaign/profile", "d365/new_order", "campaign/cusOrder"}
    assert keys == both | {"campaign/profile_audit", "campaign/cusOrder_audit", "report/daily_sync"}
    assert {sensor.name for sensor in defs.sensors or ()} == {"d365_changes", "backlog"}
    opt_out = {"direction": "bidirectional", "mappings": {"donotemail": "blackListEmail"}}
    document = {"privacy_acknowledged": True, "tables": tables, "opt_out": opt_out, "results": {"to": "results"}}
    file.write_text(yaml.safe_dump(document))
    runtime = Runtime({CONFIG: str(file)})
    assert specs(build_definitions(runtime)).keys() == all_keys(runtime)


def test_each_asset_has_few_checks_and_none_of_them_blocks() -> None:
    """A run decides by itself what it may do; the check `ready` tells why not."""
    graph = definitions().resolve_asset_graph()
    checks = {(key.asset_key.to_user_string(), key.name): graph.get_check_spec(key) for key in graph.asset_check_keys}
    assert checks.keys() == {
        ("d365/contact", "ready"),
        ("d365/contact", "no_deletion_is_held_back"),
        ("d365/contact", "change_feed_is_polled"),
        ("campaign/profile", "ready"),
        ("campaign/profile", "no_record_is_rejected"),
        ("campaign/profile", "no_record_waits_long"),
        ("campaign/profile", "backlog_is_young"),
        ("campaign/profile", "no_refused_attribute_differs"),
        ("campaign/profile_audit", "campaign_agrees_with_what_was_sent"),
        ("campaign/profile_audit", "no_key_occurs_twice"),
    }
    assert not any(spec.blocking for spec in checks.values())


def test_each_resource_has_the_variables_of_its_system() -> None:
    result = {name: set(resource.variables().values()) for name, resource in systems({}).items()}
    assert result == {
        "dynamics_365": {
            "D365_URL",
            "D365_AUTHORITY",
            "D365_TENANT_ID",
            "D365_CLIENT_ID",
            "D365_CLIENT_SECRET",
            "D365_CLIENT_CERTIFICATE",
            "D365_CLIENT_CERTIFICATE_PASSWORD",
            "D365_FEDERATED_TOKEN_FILE",
        },
        "campaign_standard": {
            "CAMPAIGN_URL",
            "CAMPAIGN_IMS_URL",
            "CAMPAIGN_CLIENT_ID",
            "CAMPAIGN_CLIENT_SECRET",
            "CAMPAIGN_SCOPES",
        },
        "campaign_sftp": {
            "CAMPAIGN_SFTP_HOST",
            "CAMPAIGN_SFTP_PORT",
            "CAMPAIGN_SFTP_USER",
            "CAMPAIGN_SFTP_PRIVATE_KEY",
            "CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE",
            "CAMPAIGN_SFTP_HOST_KEY",
        },
        "ledger": {"SYNC_ASSETS_LEDGER_URL"},
    }


@pytest.mark.parametrize("file", ["ours.db", "other.db"])
def test_a_run_closes_the_ledger_that_its_resources_name(file: str, tmp_path: Path) -> None:
    ours, named = (f"sqlite:///{tmp_path / name}" for name in ("ours.db", file))
    runtime = Runtime({"SYNC_ASSETS_LEDGER_URL": ours, CONFIG: str(SANDBOX_CONFIG)})
    with bound(runtime, SimpleNamespace(ledger=LedgerDatabase(url=named)), ["ledger"]) as of_run:
        ledger = of_run.ledger
        assert (ledger.where, of_run is runtime) == (str(tmp_path / file), file == "ours.db")
    with pytest.raises(LedgerError, match="was used after it was closed"):
        ledger.reports.backlog("contact")


@pytest.mark.parametrize(
    ("job", "chosen"),
    [
        ("replay", ["table"]),
        ("retry_rejected", ["table"]),
        ("approve_deletes", ["table"]),
        ("maintenance", ["tables"]),
        ("explain", ["table"]),
        ("privacy_hold", []),
        ("sync", []),
    ],
)
def test_the_launchpad_describes_each_setting_and_lists_the_tables(job: str, chosen: list[str]) -> None:
    [op] = definitions().resolve_job_def(job).all_node_defs
    schema: Any = op.config_schema
    fields = schema.as_field().config_type.fields
    assert all(field.description for field in fields.values())
    choices: dict[str, list[str]] = {}
    for name, field in fields.items():
        kind = getattr(field.config_type, "inner_type", field.config_type)
        if str(kind.given_name).startswith("Table"):
            choices[name] = kind.config_values
    assert choices == {name: ["contact"] for name in chosen}


def test_a_capture_that_does_not_happen_goes_stale() -> None:
    policy = specs(definitions())[CONTACT].freshness_policy
    assert policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(hours=2))


@pytest.mark.parametrize(("autostart", "running"), [("", False), ("0", False), ("1", True)])
def test_sensors_and_the_schedule_start_by_themselves_with_autostart_only(autostart: str, running: bool) -> None:
    defs = definitions(SYNC_ASSETS_AUTOSTART=autostart)
    sensors = {sensor.name: sensor.default_status for sensor in defs.sensors or ()}
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    assert sensors == {"d365_changes": status, "backlog": status}
    schedules = {s.job_name: s for s in defs.schedules or () if isinstance(s, dg.ScheduleDefinition)}
    assert {name: schedule.cron_schedule for name, schedule in schedules.items()} == {
        "watch": "*/30 * * * *",
        "audit": "30 4 * * *",
        "prune_history": "0 3 * * *",
        "daily_report": "0 5 * * *",
    }
    assert all(schedule.description for schedule in schedules.values())
    assert {s.default_status is dg.DefaultScheduleStatus.RUNNING for s in schedules.values()} == {running}


def test_a_broken_file_is_reported_with_its_line_and_what_to_write_instead(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(
        "privacy_acknowledged: true\n"
        "tables:\n"
        "  - table: contact\n"
        "    resource: profile\n"
        "    key: externalId\n"
        "    field: {lastname: lastName}\n"
    )
    with pytest.raises(ConfigError) as raised:
        definitions(SYNC_ASSETS_CONFIG=str(file))
    assert f"{file}:6" in str(raised.value)
    assert "did you mean `fields`?" in str(raised.value)


def test_dagster_ends_a_job_that_was_killed_if_it_writes_no_heartbeats() -> None:
    defs = definitions()
    names = {job.name for job in defs.jobs or ()}
    ended = {name for name in names if "dagster/max_runtime" in defs.resolve_job_def(name).tags}
    assert ended >= {"watch", "audit", "daily_report", "prune_history", "retry_rejected"}
    assert not ended & {"sync", "send_backlog", "replay"}  # which may take days
