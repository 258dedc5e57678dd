"""What an asset's page shows: every column with where it goes or comes from, owners, links, code."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import sync_assets
from sync_assets.audit.daily_report import calls_by_day
from sync_assets.defs.build import build_definitions
from sync_assets.defs.tables import asset_metadata
from sync_assets.runtime.context import Runtime

DEMO = Path(sync_assets.__file__).parent / "sandbox" / "demo.yaml"


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime({"SYNC_ASSETS_CONFIG": str(DEMO)})


@pytest.fixture(scope="module")
def pages(runtime: Runtime) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in build_definitions(runtime).resolve_all_asset_specs()}


def columns(spec: dg.AssetSpec) -> dict[str, Any]:
    return {column.name: column.description for column in spec.metadata[asset_metadata.SCHEMA].columns}


def test_no_page_lacks_anything_that_a_person_looks_for(pages: dict[str, dg.AssetSpec]) -> None:
    assert len(pages) >= 10
    for name, spec in pages.items():
        assert spec.description, name
        assert "`" not in spec.description, name  # the catalogue shows it as plain text
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.group_name in ("d365", "campaign", "opt_out", "audit", "report"), name
        assert spec.metadata[asset_metadata.REFERENCES].code_references, name
        if asset_metadata.SCHEMA in spec.metadata:
            assert all(columns(spec).values()), name
        else:
            further = spec.group_name in ("audit", "report")
            assert asset_metadata.LINEAGE in spec.metadata or further, name


def test_a_step_is_named_after_its_linked_tables_as_far_as_they_fit(tmp_path: Path) -> None:
    assert "sync_contact_and_new_order_and_new_orderline" in steps(DEMO)
    file = tmp_path / "config.yaml"
    line = "  - {table: new_part, resource: cusPart, key: cusId, fields: {new_name: cusName}, links: [{field: new_l, "
    file.write_text(DEMO.read_text().replace("tables:\n", f"tables:\n{line}to: cusL, table: new_orderline}}]}}\n", 1))
    assert "sync_contact_and_3_more" in steps(file)


def steps(file: Path) -> set[str]:
    definitions = build_definitions(Runtime({"SYNC_ASSETS_CONFIG": str(file)}))
    return {one.op.name for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition)}


def test_before_the_first_run_each_mapped_column_says_where_it_goes(pages: dict[str, dg.AssetSpec]) -> None:
    result = columns(pages["d365/contact"])
    assert result["emailaddress1"] == "to profile.email"
    assert result["birthdate"] == "to profile.birthDate; on first load and replay only"
    assert result["jobtitle"] == "to profile.cusJobTitle; cut to its length"
    assert result["donotemail"] == "to profile.blackListEmail of new records; then by opt_out/changes"
    assert (
        columns(pages["d365/new_order"])["new_contactid"] == "to cusOrder.cusContactLink, the profile of this new_order"
    )


def test_each_attribute_says_where_it_comes_from(pages: dict[str, dg.AssetSpec]) -> None:
    result = columns(pages["campaign/profile"])
    assert result["externalId"] == "the id of the contact in Dynamics 365"
    assert result["location.city"] == "from contact.address1_city"
    assert result["birthDate"] == "from contact.birthdate; on first load and replay only"


def test_each_attribute_has_its_column_and_a_link_its_parents_key_as_lineage(pages: dict[str, dg.AssetSpec]) -> None:
    spec = pages["campaign/cusOrder"]
    lineage = spec.metadata[asset_metadata.LINEAGE].deps_by_column
    assert list(lineage) == [
        "cusOrderId", "cusName", "cusAmount", "cusQuantity", "cusOrderDate", "cusPlacedOn", "cusStatus", "cusExpress",
        "cusContactLink",
    ]  # fmt: skip
    order, profile = dg.AssetKey(["d365", "new_order"]), dg.AssetKey(["campaign", "profile"])
    assert lineage["cusAmount"] == [dg.TableColumnDep(order, "new_amount")]
    assert {(dep.asset_key, dep.column_name) for dep in lineage["cusContactLink"]} == {
        (order, "new_contactid"),
        (profile, "externalId"),
    }


def test_lineage_leads_to_columns_that_are_shown(pages: dict[str, dg.AssetSpec]) -> None:
    """Those of tables in Dynamics 365 lack their key until a run has read its name."""
    for spec in pages.values():
        for deps in spec.metadata.get(asset_metadata.LINEAGE, dg.TableColumnLineage({})).deps_by_column.values():
            for dep in deps:
                there = pages[dep.asset_key.to_user_string()]
                key = f"{dep.asset_key.path[-1]}id" if there.group_name == "d365" else ""
                assert dep.column_name in {*columns(there), key}


def test_the_code_of_a_page_is_the_mappings_line_and_the_function(pages: dict[str, dg.AssetSpec]) -> None:
    mapping, function = pages["campaign/cusOrder"].metadata[asset_metadata.REFERENCES].code_references
    assert mapping.file_path == str(DEMO)
    assert DEMO.read_text().splitlines()[mapping.line_number - 1].strip() == "- table: new_order"
    lines = Path(function.file_path).read_text().splitlines()
    assert lines[function.line_number - 1].startswith("async def push_table(")


def test_links_lead_to_the_record_lists_of_both_systems_as_far_as_they_are_known(runtime: Runtime) -> None:
    table = runtime.config.table("new_order")
    assert asset_metadata.links(runtime, table) == {}
    urls = {"D365_URL": "https://org.crm.dynamics.com", "CAMPAIGN_URL": "https://mc.adobe.io/acme-mkt-stage"}
    secrets = {f"{system}_{name}": "x" for system in ("D365", "CAMPAIGN") for name in ("CLIENT_ID", "CLIENT_SECRET")}
    result = asset_metadata.links(Runtime({**urls, **secrets, "D365_TENANT_ID": "x", "CAMPAIGN_SCOPES": "x"}), table)
    assert {name: value.value for name, value in result.items()} == {
        "dynamics_365": "https://org.crm.dynamics.com/main.aspx?pagetype=entitylist&etn=new_order",
        "campaign": "https://mc.adobe.io/acme-mkt-stage/campaign/profileAndServicesExt/cusOrder",
    }


def test_calls_are_counted_by_day_and_against_the_budget(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(DEMO.read_text() + "\nguardrails: {engine_calls_per_day: 200}\n")
    runtime = Runtime({"SYNC_ASSETS_CONFIG": str(file), "DAGSTER_HOME": str(tmp_path)})
    runtime.ledger.counts.add("engine_calls", "contact", {"insert": 40, "read": 10})
    result = calls_by_day(runtime.config.guardrails, runtime.ledger)
    runtime.close()
    [row] = result.rows
    assert dict(zip(result.names[1:], row[1:], strict=True)) == {
        "insert": 40, "update": 0, "delete": 0, "read": 10, "all": 50, "of budget": "25%",
    }  # fmt: skip
