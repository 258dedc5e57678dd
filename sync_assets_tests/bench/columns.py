"""The columns of the benchmark's one table: 50 of realistic types. For servers and peers, so standard library only.

Types and proportions follow a real `contact` (docs/dev/references/dataverse.md 2.4): mostly texts, some choices, dates,
money, booleans, a memo, two lookups; many columns are often empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sync_assets.dataverse.metadata import ColumnType

TABLE_NAME, SET_NAME, KEY = "contact", "contacts", "contactid"
TOKEN = "x" * 1100
"""As long as the tokens of both systems."""

COLUMNS: dict[str, ColumnType] = {
    **dict.fromkeys(("firstname", "lastname", "middlename", "nickname"), "string"),
    **dict.fromkeys(("jobtitle", "department", "employeeid", "governmentid"), "string"),
    **dict.fromkeys(("emailaddress1", "emailaddress2", "websiteurl"), "string"),
    **dict.fromkeys(("telephone1", "mobilephone", "fax"), "string"),
    **dict.fromkeys(("address1_line1", "address1_line2", "address1_city", "address1_stateorprovince"), "string"),
    **dict.fromkeys(("address1_postalcode", "address1_country", "address2_line1", "address2_city"), "string"),
    "description": "memo",
    **dict.fromkeys(("gendercode", "familystatuscode", "preferredcontactmethodcode"), "picklist"),
    **dict.fromkeys(("customertypecode", "leadsourcecode", "territorycode", "haschildrencode"), "picklist"),
    "statecode": "state",
    "statuscode": "status",
    **dict.fromkeys(("birthdate", "anniversary"), "date"),
    **dict.fromkeys(("createdon", "lastonholdtime", "lastusedincampaign", "new_lastvisit"), "datetime"),
    **dict.fromkeys(("creditlimit", "annualincome", "new_revenue"), "money"),
    "exchangerate": "decimal",
    "address1_latitude": "double",
    **dict.fromkeys(("numberofchildren", "importsequencenumber"), "integer"),
    **dict.fromkeys(("donotemail", "donotphone", "donotpostalmail"), "boolean"),
    **dict.fromkeys(("ownerid", "parentcustomerid"), "lookup"),
}
"""The 50 data columns, in the order in which rows show them; the key and `modifiedon` come on top."""

OPTIONS: dict[str, dict[int, str]] = {
    "gendercode": {1: "Male", 2: "Female"},
    "familystatuscode": {1: "Single", 2: "Married", 3: "Divorced", 4: "Widowed"},
    "preferredcontactmethodcode": {1: "Any", 2: "Email", 3: "Phone", 4: "Fax", 5: "Mail"},
    "customertypecode": {1: "Default Value", 2: "Competitor", 3: "Reseller"},
    "leadsourcecode": {number: f"Lead source {number}" for number in range(1, 11)},
    "territorycode": {1: "Default Value", 2: "North", 3: "South"},
    "haschildrencode": {1: "Default Value", 2: "No", 3: "Yes"},
    "statecode": {0: "Active", 1: "Inactive"},
    "statuscode": {1: "Active", 2: "Inactive"},
}


def select_name(name: str) -> str:
    """How rows show a column: lookups have a name of their own."""
    return f"_{name}_value" if COLUMNS.get(name) == "lookup" else name


LABEL = "@OData.Community.Display.V1.FormattedValue"
LABELLED = frozenset(
    {"picklist", "state", "status", "boolean", "date", "datetime", "money", "decimal", "double", "integer", "lookup"}
)
"""Types whose values Dataverse also shows as people read them, if asked to (docs/dev/references/dataverse.md 2.4)."""


def prefer(page_rows: str, labels: bool) -> str:
    """The header by which a peer asks for a tracked page; labels: with formatted values, its only way to labels."""
    wanted = f',odata.include-annotations="{LABEL[1:]}"' if labels else ""
    return f"odata.track-changes,odata.maxpagesize={page_rows}{wanted}"


def entity_definition() -> dict[str, Any]:
    """As much of the table's metadata as Microsoft's client asks for before it lists rows."""
    return {"LogicalName": TABLE_NAME, "EntitySetName": SET_NAME, "PrimaryIdAttribute": KEY}
