"""Read the application user's privileges in Dynamics 365, for `doctor`.

Privileges are read with `RetrieveUserSetOfPrivilegesByNames`, which includes the depth given by the roles of teams
(Microsoft: `RetrieveUserPrivileges` shows those as `Basic`, whatever they are). The names of privileges are in each
table's metadata. Errors and the need of organisation-level read: docs/dev/references/dataverse.md 1.1, 3.4, 5.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.dataverse.client import DataverseClient, refusal, unreadable
from sync_assets.dataverse.metadata import Table

ORGANISATION = "Global"
"""The depth that covers every row of the organisation."""


async def roles(client: DataverseClient, user: str) -> list[str]:
    """Return the names of the user's own security roles, without those of its teams. Raises D365Refused, HttpError."""
    answer = await _asked(client, f"systemusers({user})/systemuserroles_association?$select=name")
    return sorted(str(role["name"]) for role in _listed(answer, "value") if role.get("name"))


async def privilege_names(client: DataverseClient, table: str) -> dict[str, str]:
    """Return the names of the table's privileges by what they allow: {"Read": "prvReadContact"}.

    Raises D365Refused, HttpError.
    """
    path = f"EntityDefinitions(LogicalName='{quote(table)}')?$select=LogicalName,Privileges"
    answer = _listed(await _asked(client, path, table), "Privileges")
    return {
        str(one["PrivilegeType"]): str(one["Name"]) for one in answer if one.get("PrivilegeType") and one.get("Name")
    }


async def depths(client: DataverseClient, user: str, names: Collection[str]) -> dict[str, str]:
    """Return the depth of each privilege (`Basic`, `Local`, `Deep`, `Global`), by the user's own roles and its teams'.

    Privileges that the user does not have are missing. Raises D365Refused, HttpError.
    """
    function = "Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=@p1)"
    listed = quote(msgspec.json.encode(sorted(names)).decode())
    answer = _listed(await _asked(client, f"systemusers({user})/{function}?@p1={listed}"), "RolePrivileges")
    return {str(one["PrivilegeName"]): str(one.get("Depth")) for one in answer if one.get("PrivilegeName")}


async def try_to_follow(client: DataverseClient, table: Table) -> None:
    """Read the id of one row as a capture would. Raises D365Refused if the role does not allow it."""
    await client.page(client.first_page(table, [table.key]), tracked=True, size=1, table=table.name)


async def _asked(client: DataverseClient, path: str, table: str = "") -> Any:
    answer = await client.endpoint.send("GET", path)
    if answer.status != 200:
        raise refusal(answer, table)
    try:
        return answer.json()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unreadable("the application user") from error


def _listed(answer: Any, member: str) -> list[dict[str, Any]]:
    listed = answer.get(member) if isinstance(answer, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise unreadable("the application user")
    return listed
