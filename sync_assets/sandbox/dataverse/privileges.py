"""Privileges of the caller's role: their enforcement, and the Web API's functions and metadata about them.

Source: docs/dev/references/dataverse.md 1.1, 3.4, 5, which has only the error codes of the functions bound to the user.
The shape of their answers is that of Microsoft's pages on `RetrieveUserSetOfPrivilegesByNames` and the complex type
`RolePrivilege`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse.call import Call, json_answer
from sync_assets.sandbox.dataverse.columns import Table, metadata_id
from sync_assets.sandbox.dataverse.errors import DataverseError, bad_query
from sync_assets.sandbox.dataverse.store import Store
from sync_assets.sandbox.dataverse.switches import Access
from sync_assets.sandbox.dataverse.tables import BUSINESS_UNIT_ID, USER_ID

ACCESSES: tuple[Access, ...] = ("Read", "Write")
ROLES = "systemuserroles_association"
BY_NAMES = "Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames"


def name(table: Table, access: Access) -> str:
    return f"prv{access}{table.schema_name}"


def missing(privilege: str) -> DataverseError:
    return DataverseError(403, "0x80040220", f"Principal user (Id={USER_ID}, type=8) is missing {privilege} privilege")


def demand(call: Call, store: Store, access: Access) -> None:
    """Raise DataverseError if the role does not have the privilege at any depth."""
    if call.org.switches.depth(store.table.name, access) == "None":
        raise missing(name(store.table, access))


def described(table: Table) -> list[dict[str, Any]]:
    """Return the member `Privileges` of a table's metadata."""
    return [
        {
            "CanBeBasic": True,
            "CanBeDeep": True,
            "CanBeGlobal": True,
            "CanBeLocal": True,
            "CanBeEntityReference": False,
            "CanBeParentEntityReference": False,
            "Name": name(table, access),
            "PrivilegeId": metadata_id("privilege", name(table, access)),
            "PrivilegeType": access,
        }
        for access in ACCESSES
    ]


def of_the_user(call: Call) -> Answer | None:
    """Answer a request for the user's roles or privileges below `systemusers(<id>)`; None for any other request."""
    names = [segment.name for segment in call.segments]
    if names == ["systemusers", ROLES]:
        return _roles(call)
    return _by_names(call, call.segments[1].key or "") if names == ["systemusers", BY_NAMES] else None


def _roles(call: Call) -> Answer:
    """Answer `systemusers(<id>)/systemuserroles_association`."""
    call.touches("read")
    if not call.org.switches.privileges_told:
        raise missing("prvReadRole")
    listed = [{"roleid": metadata_id("role", role), "name": role} for role in call.org.switches.roles]
    return json_answer({"@odata.context": f"{call.api}/$metadata#roles", "value": listed})


def _by_names(call: Call, arguments: str) -> Answer:
    """Answer `RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=@p1)?@p1=["prvReadContact"]`.

    The answer has those of the privileges that the user has by its roles and its teams' roles, with their depths.
    """
    call.touches("read")
    if not call.org.switches.privileges_told:
        raise missing("prvReadUser")
    _, _, value = arguments.partition("=")
    value = call.options.get(value, value) if value.startswith("@") else value
    try:
        names = msgspec.json.decode(value.replace("'", '"'), type=list[str])
    except msgspec.DecodeError:
        raise bad_query(f"Bad Request - Error in query syntax: '({arguments})'.") from None
    depths = {
        name(store.table, access): call.org.switches.depth(table, access)
        for table, store in call.org.stores.items()
        for access in ACCESSES
    }
    if unknown := [privilege for privilege in names if privilege not in depths]:
        raise bad_query(f"Privilege with name {unknown[0]} does not exist.")
    listed = [
        {
            "Depth": depths[privilege],
            "PrivilegeId": metadata_id("privilege", privilege),
            "BusinessUnitId": BUSINESS_UNIT_ID,
            "PrivilegeName": privilege,
            "RecordFilterId": "00000000-0000-0000-0000-000000000000",
            "RecordFilterUniqueName": None,
        }
        for privilege in names
        if depths[privilege] != "None"
    ]
    context = f"{call.api}/$metadata#Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNamesResponse"
    return json_answer({"@odata.context": context, "RolePrivileges": listed})
