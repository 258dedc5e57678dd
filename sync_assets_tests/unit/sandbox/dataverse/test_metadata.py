"""Metadata: docs/dev/references/dataverse.md 2.5 and 7, item 3."""

from typing import Any

import pytest

from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

CONTACT = "EntityDefinitions(LogicalName='contact')"


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
