"""Metadata: docs/references/dataverse.md 2.5 and 7, item 3."""

from __future__ import annotations

from typing import Any

import pytest

from sync_assets.sandbox.dataverse.columns import metadata_id
from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

CONTACT = "EntityDefinitions(LogicalName='contact')"
CAST = "Microsoft.Dynamics.CRM."


def by_name(reply_rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["LogicalName"]: row for row in reply_rows}


def labels(options: list[dict[str, Any]]) -> dict[int, str]:
    return {option["Value"]: option["Label"]["UserLocalizedLabel"]["Label"] for option in options}


def test_the_service_document_lists_the_sets(api: WebApi) -> None:
    document = api.get("").json
    assert document["@odata.context"] == "https://org.example/api/data/v9.2/$metadata"
    assert {"name": "contacts", "kind": "EntitySet", "url": "contacts"} in document["value"]
    assert {"contacts", "new_orders", "new_orderlines", "organizations"} <= {s["name"] for s in document["value"]}


def test_a_table_by_name_by_id_and_by_filter_is_the_same(api: WebApi) -> None:
    select = "$select=LogicalName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,ChangeTrackingEnabled"
    wanted = {
        "MetadataId": metadata_id("contact"), "LogicalName": "contact", "EntitySetName": "contacts",
        "PrimaryIdAttribute": "contactid", "PrimaryNameAttribute": "fullname", "ChangeTrackingEnabled": True,
    }  # fmt: skip
    one = api.get(f"{CONTACT}?{select}").json
    assert one.pop("@odata.context").endswith("$metadata#EntityDefinitions/$entity")
    assert one == wanted
    assert api.get(f"EntityDefinitions?{select}&$filter=LogicalName eq 'contact'").rows == [wanted]
    assert api.get(f"EntityDefinitions({metadata_id('contact')})?{select}").json.items() >= wanted.items()


def test_tables_with_change_tracking(api: WebApi) -> None:
    reply = api.get("EntityDefinitions?$select=LogicalName&$filter=ChangeTrackingEnabled eq true")
    assert set(by_name(reply.rows)) == {"contact", "new_order", "new_orderline", "account"}


def test_unknown_tables_and_properties(api: WebApi) -> None:
    assert api.get("EntityDefinitions(LogicalName='nosuch')").status == 404
    assert api.get("EntityDefinitions?$filter=LogicalName eq 'nosuch'").rows == []
    assert api.get(f"{CONTACT}?$select=Nosuch").error == "0x80060888"


def test_string_functions_are_impossible_on_metadata(api: WebApi) -> None:
    reply = api.get("EntityDefinitions?$filter=startswith(LogicalName,'new_')")
    assert (reply.status, reply.error) == (501, "0x8006088a")
    assert reply.message.endswith("isn't supported for Metadata Entities.")


def test_attributes_tell_type_and_what_hides_behind_virtual(api: WebApi) -> None:
    select = "$select=LogicalName,AttributeType,AttributeTypeName,IsValidForRead,IsValidForUpdate,RequiredLevel"
    found = by_name(api.get(f"{CONTACT}/Attributes?{select}").rows)
    types = {name: (row["AttributeType"], row["AttributeTypeName"]["Value"]) for name, row in found.items()}
    assert types["contactid"] == ("Uniqueidentifier", "UniqueidentifierType")
    assert types["new_interests"] == ("Virtual", "MultiSelectPicklistType")
    assert types["entityimage"] == ("Virtual", "ImageType")
    assert types["parentcustomerid"] == ("Customer", "CustomerType")
    assert types["ownerid"] == ("Owner", "OwnerType")
    assert {row["AttributeType"] for row in found.values()} >= {
        "BigInt", "Boolean", "DateTime", "Decimal", "Double", "EntityName", "Integer", "Lookup", "Memo", "Money",
        "Picklist", "State", "Status", "String",
    }  # fmt: skip
    assert not found["fullname"]["IsValidForUpdate"]
    assert found["lastname"]["RequiredLevel"]["Value"] == "ApplicationRequired"


def test_attributes_can_be_expanded_with_the_table(api: WebApi) -> None:
    document = api.get(f"{CONTACT}?$select=EntitySetName&$expand=Attributes($select=LogicalName),Keys").json
    assert document["EntitySetName"] == "contacts"
    assert {"contactid", "donotemail"} <= set(by_name(document["Attributes"]))
    assert set(document["Attributes"][0]) == {"@odata.type", "MetadataId", "LogicalName"}
    assert document["Keys"][0]["KeyAttributes"] == ["externaluseridentifier"]


@pytest.mark.parametrize("literal", ["'Picklist'", f"{CAST}AttributeTypeCode'Picklist'"])
def test_attributes_by_type(api: WebApi, literal: str) -> None:
    reply = api.get(f"{CONTACT}/Attributes?$select=LogicalName&$filter=AttributeType eq {literal}")
    assert set(by_name(reply.rows)) == {
        "gendercode", "familystatuscode", "preferredcontactmethodcode", "new_tier",
    }  # fmt: skip


def test_one_attribute_by_name_and_by_id(api: WebApi) -> None:
    one = api.get(f"{CONTACT}/Attributes(LogicalName='firstname')").json
    assert one["@odata.type"] == "#Microsoft.Dynamics.CRM.StringAttributeMetadata"
    assert one["MaxLength"] == 50
    assert api.get(f"{CONTACT}/Attributes({one['MetadataId']})").json == one
    assert api.get(f"{CONTACT}/Attributes(LogicalName='nosuch')").status == 404


def test_what_a_type_has_of_its_own_is_selected_behind_a_cast(api: WebApi) -> None:
    assert api.get(f"{CONTACT}/Attributes?$select=LogicalName,MaxLength").error == "0x80060888"
    assert api.get(f"{CONTACT}/Attributes?$expand=OptionSet").error == "0x80060888"
    texts = by_name(api.get(f"{CONTACT}/Attributes/{CAST}StringAttributeMetadata?$select=LogicalName,MaxLength").rows)
    assert texts["firstname"]["MaxLength"] == 50
    assert texts["address1_line1"]["MaxLength"] == 250
    assert "description" not in texts, "that one is a memo"
    dates = by_name(
        api.get(
            f"{CONTACT}/Attributes/{CAST}DateTimeAttributeMetadata?$select=Format,DateTimeBehavior,LogicalName"
        ).rows
    )
    behaviours = {name: (row["Format"], row["DateTimeBehavior"]["Value"]) for name, row in dates.items()}
    assert behaviours["birthdate"] == ("DateOnly", "DateOnly")
    assert behaviours["new_membersince"] == ("DateOnly", "UserLocal"), "the format says nothing about the value"
    assert behaviours["new_appointment"] == ("DateAndTime", "TimeZoneIndependent")
    one = api.get(f"{CONTACT}/Attributes(LogicalName='firstname')/{CAST}StringAttributeMetadata?$select=MaxLength")
    assert one.json["MaxLength"] == 50
    lookups = by_name(api.get(f"{CONTACT}/Attributes/{CAST}LookupAttributeMetadata?$select=LogicalName,Targets").rows)
    assert lookups["parentcustomerid"]["Targets"] == ["account", "contact"]


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


def test_labels_of_booleans(api: WebApi) -> None:
    address = f"{CONTACT}/Attributes/{CAST}BooleanAttributeMetadata?$select=LogicalName&$expand=OptionSet"
    options = by_name(api.get(address).rows)["donotemail"]["OptionSet"]
    assert labels([options["FalseOption"], options["TrueOption"]]) == {0: "Allow", 1: "Do Not Allow"}


def test_keys(api: WebApi) -> None:
    [key] = api.get(f"{CONTACT}/Keys").rows
    assert (key["KeyAttributes"], key["EntityKeyIndexStatus"]) == (["externaluseridentifier"], "Active")


def test_a_single_property_of_a_table(api: WebApi) -> None:
    assert api.get(f"{CONTACT}/ChangeTrackingEnabled").json["value"] is True


def test_a_column_that_is_not_readable_comes_as_null(api: WebApi) -> None:
    api.new(firstname="Ada")
    store = api.org.stores["contact"]
    before = api.get("contacts", 'odata.include-annotations="*"').json["@Microsoft.Dynamics.CRM.globalmetadataversion"]
    api.org.change_column(store, "firstname", {"readable": False})
    reply = api.get("contacts?$select=firstname", 'odata.include-annotations="*"')
    assert reply.rows[0]["firstname"] is None
    assert reply.json["@Microsoft.Dynamics.CRM.globalmetadataversion"] != before
    assert api.get("contacts?$select=firstname").rows[0]["firstname"] is None
    attribute = api.get(f"{CONTACT}/Attributes(LogicalName='firstname')?$select=IsValidForRead").json
    assert attribute["IsValidForRead"] is False


def test_what_is_not_built_is_said_plainly(api: WebApi) -> None:
    for address in ("$metadata", "contacts?$expand=ownerid", "contacts?$apply=x", "contacts?fetchXml=<fetch/>"):
        reply = api.get(address)
        assert reply.status == 501
        assert "not built into the sandbox" in reply.message
