"""The opt-out assets as Dagster's UI shows them, by direction: which there are, what each is, what depends on what."""

from datetime import timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from sync_assets.config.opt_out import ActiveDirection
from sync_assets.defs.build import build_definitions
from sync_assets.defs.partitions import opt_out_files
from sync_assets.runtime.context import Runtime

CONTACT = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}
ORDER = {"table": "new_order", "resource": "cusOrder", "key": "cusOrderId", "fields": {"new_name": "cusName"}}
EXPORT, DECISIONS = "campaign/opt_out_export", "opt_out/decisions"
TO_D365, TO_CAMPAIGN = "d365/contact_opt_out", "campaign/profile_opt_out"
TABLES = {"d365/contact", "campaign/profile", "d365/new_order", "campaign/cusOrder"} | {
    "campaign/profile_audit",
    "campaign/cusOrder_audit",
}
CHANGES = "opt_out/changes"
BACK = {EXPORT, DECISIONS, TO_D365, CHANGES}
PARITY, ARRIVES, ROOM = "opt_outs_agree", "export_arrives_in_time", "sftp_has_room"

REPORT = "report/daily_sync"


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    def write(direction: str, **export: Any) -> dg.Definitions:
        mappings = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}
        opt_out = {"direction": direction, "mappings": mappings, "export": export}
        file = tmp_path / "config.yaml"
        file.write_text(
            yaml.safe_dump({"privacy_acknowledged": True, "tables": [CONTACT, ORDER], "opt_out": opt_out}),
            encoding="utf-8",
        )
        return build_definitions(Runtime({"SYNC_ASSETS_CONFIG": str(file)}))

    return write


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def checks(definitions: dg.Definitions, asset: str) -> dict[str, bool]:
    """Check -> does it block?"""
    graph = definitions.resolve_asset_graph()
    result = [key for key in graph.asset_check_keys if key.asset_key.to_user_string() == asset]
    return {key.name: graph.get_check_spec(key).blocking for key in result}


@pytest.mark.parametrize(
    ("direction", "assets", "sensors"),
    [
        ("disabled", set(), set()),
        ("d365_to_campaign", set(), set()),  # there they are fields of the contact like any other
        ("campaign_to_d365", BACK, {"opt_out_file"}),
        ("bidirectional", BACK | {TO_CAMPAIGN}, {"opt_out_file"}),
    ],
)
def test_each_direction_has_its_assets_and_sensors(
    configured: Any, direction: ActiveDirection, assets: set[str], sensors: set[str]
) -> None:
    definitions = configured(direction)
    assert specs(definitions).keys() == TABLES | assets | {REPORT}
    assert {sensor.name for sensor in definitions.sensors or ()} == {"d365_changes", "backlog"} | sensors


@pytest.mark.parametrize("direction", ["disabled", "d365_to_campaign", "campaign_to_d365", "bidirectional"])
def test_every_job_behind_a_sensor_or_schedule_can_be_made(configured: Any, direction: ActiveDirection) -> None:
    """As the code server does it, which shows nothing at all if one of them cannot."""
    dg.Definitions.validate_loadable(configured(direction))


def test_groups_follow_each_other_in_one_direction(configured: Any) -> None:
    """With a circle of groups, the lineage page shows `campaign` before `d365`."""
    result = specs(configured("bidirectional"))
    groups = {name: str(spec.group_name) for name, spec in result.items()}
    assert {name for name, group in groups.items() if group == "opt_out"} == BACK | {TO_CAMPAIGN}
    assert {group for name, group in groups.items() if name.endswith("_audit")} == {"audit"}
    before: dict[str, set[str]] = {group: set() for group in groups.values()}
    for name, spec in result.items():
        before[groups[name]] |= {groups[dep.asset_key.to_user_string()] for dep in spec.deps} - {groups[name]}
    assert set(TopologicalSorter(before).static_order()) == {"d365", "campaign", "opt_out", "audit", "report"}


def test_a_file_leads_to_decisions_and_these_to_both_sides_and_a_change_of_d365_needs_no_file(configured: Any) -> None:
    result = specs(configured("bidirectional"))
    follows = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in result.items()}
    assert {name: follows[name] for name in BACK | {TO_CAMPAIGN}} == {
        EXPORT: set(),
        DECISIONS: {EXPORT, "d365/contact"},
        TO_D365: {DECISIONS},
        TO_CAMPAIGN: {DECISIONS},
        CHANGES: {"d365/contact"},
    }


def test_from_campaign_alone_no_change_of_d365_is_decided(configured: Any) -> None:
    assert list(specs(configured("campaign_to_d365"))[CHANGES].deps) == []


def test_each_file_is_a_partition_and_assets_without_files_have_none(configured: Any) -> None:
    result = specs(configured("bidirectional"))
    assert result[CHANGES].partitions_def is None
    for name in {EXPORT, DECISIONS, TO_D365, TO_CAMPAIGN}:
        partitions = result[name].partitions_def
        assert isinstance(partitions, dg.DynamicPartitionsDefinition)
        assert partitions.name == opt_out_files().name == "opt_out_files"


def test_each_resource_has_a_description(configured: Any) -> None:
    result = specs(configured("bidirectional", directory="a/folder", pattern="out_*.csv"))
    kinds = {name: result[name].kinds for name in BACK | {TO_CAMPAIGN}}
    assert kinds == {
        EXPORT: {"adobecampaign", "sftp", "polars"},
        DECISIONS: {"python"},
        TO_D365: {"dynamics365"},
        TO_CAMPAIGN: {"adobecampaign"},
        CHANGES: {"dynamics365", "adobecampaign"},
    }
    assert "(folder a/folder)" in (result[EXPORT].description or "")
    assert "direction bidirectional" in (result[DECISIONS].description or "")
    assert "direction bidirectional" in (result[CHANGES].description or "")
    assert "running it again retries the failed ones" in (result[TO_D365].description or "")


@pytest.mark.parametrize(
    ("hours", "warn", "fail"),
    [
        (24, timedelta(hours=24), timedelta(hours=30)),
        (0.5, timedelta(minutes=30), timedelta(minutes=37, seconds=30)),
        (0.001, timedelta(minutes=1), timedelta(minutes=2)),  # Dagster takes no window below a minute
    ],
)
def test_an_export_that_stopped_goes_stale(configured: Any, hours: float, warn: timedelta, fail: timedelta) -> None:
    policy = specs(configured("campaign_to_d365", expected_every_hours=hours))[EXPORT].freshness_policy
    assert policy == dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn)


def test_a_failed_check_of_columns_blocks_downstream_assets(configured: Any) -> None:
    definitions = configured("bidirectional")
    assert checks(definitions, EXPORT) == {
        "the_file_can_be_read": True,
        "every_row_is_valid": False,
        ARRIVES: False,
        ROOM: False,
    }
    assert checks(definitions, DECISIONS) == {
        "opt_out_columns_fit": True,
        "opt_out_attributes_fit": True,
        "everything_due_is_decided": False,
    }
    assert checks(definitions, TO_D365) == checks(definitions, TO_CAMPAIGN) == {"no_opt_out_is_rejected": False}
    assert checks(definitions, CHANGES) == {"everything_due_is_decided": False, "no_opt_out_is_rejected": False}


@pytest.mark.parametrize(
    ("direction", "compared"),
    [("disabled", False), ("d365_to_campaign", True), ("campaign_to_d365", True), ("bidirectional", True)],
)
def test_both_sides_are_compared_daily_in_every_direction_but_none(
    configured: Any, direction: ActiveDirection, compared: bool
) -> None:
    definitions = configured(direction)
    assert (PARITY in checks(definitions, "campaign/profile_audit")) is compared
    assert (PARITY in _checks_of_job(definitions, "audit")) is compared


def _checks_of_job(definitions: dg.Definitions, job: str) -> set[str]:
    layer = definitions.resolve_job_def(job).asset_layer
    return {key.name for key in layer.asset_graph.asset_check_keys}
