"""Metadata: docs/dev/references/dataverse.md 2.5 and 7, item 3."""

from __future__ import annotations

from typing import Any

import pytest

from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

CONTACT = "EntityDefinitions(LogicalName='contact')"
CAST = "Microsoft.Dynamics.CRM."


def by_name(reply_rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["LogicalName"]: row for row in reply_rows}


def labels(options: list[dict[str, Any]]) -> dict[int, str]:
    return {option["Value"]: option["Label"]["UserLocalizedLabel"]["Label"] for option in options}


def test_tables_with_change_tracking(api: WebApi) -> None:
    reply = api.get("EntityDefinitions?$select=LogicalName&$filter=ChangeTrackingEnabled eq true")
    assert set(by_name(reply.rows)) == {"contact", "new_order", "new_orderline", "account"}


@pytest.mark.parametrize(
    ("cast", "column", "wanted"),
    [
        ("Picklist", "gendercode", {1: "Male", 2: "Female"}),
        ("MultiSelectPicklist", "new_interests", {1: "Cycling", 2: "Cooking", 9: "Other"}),
        ("State", "statecode", {0: "Active", 1: "Inactive"}),
        ("Status", "statuscode", {1: "Active", 2: "Inactive"}),
    ],
)
def test_labels_by_cast(api: WebApi, cast: str, column: str, wanted: dict[int, str]) -> None:
    address = (
        f"{CONTACT}/Attributes/{CAST}{cast}AttributeMetadata?$select=LogicalName&$expand=OptionSet,GlobalOptionSet"
    )
    found = by_name(api.get(address).rows)[column]
    assert found["GlobalOptionSet"] is None
    assert labels(found["OptionSet"]["Options"]).items() >= wanted.items()
    if cast == "Status":
        assert {option["Value"]: option["State"] for option in found["OptionSet"]["Options"]} == {1: 0, 2: 1}


@pytest.mark.parametrize(
    ("change", "member", "shown"),
    [({"readable": False}, "IsValidForRead", False), ({"secured": True}, "IsSecured", True)],
)
def test_a_column_that_may_not_be_read_comes_as_null(
    api: WebApi, change: dict[str, Any], member: str, shown: bool
) -> None:
    api.new(firstname="Ada")
    store = api.org.stores["contact"]
    before = api.get("contacts", 'odata.include-annotations="*"').json["@Microsoft.Dynamics.CRM.globalmetadataversion"]
    api.org.change_column(store, "firstname", change)
    reply = api.get("contacts?$select=firstname", 'odata.include-annotations="*"')
    assert reply.rows[0]["firstname"] is None
    assert reply.json["@Microsoft.Dynamics.CRM.globalmetadataversion"] != before
    assert api.get("contacts?$select=firstname").rows[0]["firstname"] is None
    attribute = api.get(f"{CONTACT}/Attributes(LogicalName='firstname')?$select={member}").json
    assert attribute[member] is shown
