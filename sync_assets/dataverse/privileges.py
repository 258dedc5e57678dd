"""What our application user may do in Dynamics 365, and how much it would have to read: for `doctor`.

Privileges are asked with `RetrieveUserSetOfPrivilegesByNames`, which tells the depth that roles of teams give, too
(Microsoft: `RetrieveUserPrivileges` shows those as `Basic`, whatever they are). Their names stand in each table's
metadata. Errors and the need of organisation-level read: dataverse-web-api.md sections 1.1, 3.4, 5.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.dataverse.client import DataverseClient, refusal
from sync_assets.dataverse.metadata import Table
from sync_assets.http.client import HttpError

ORGANISATION = "Global"
"""The depth that reaches every row."""
MOST_COUNTED = 5000
"""Where `$count` ends (section 2.3)."""


async def roles(client: DataverseClient, user: str) -> list[str]:
    """The names of the security roles that the user has itself, not by a team. Raises D365Refused, HttpError."""
    told = await _asked(client, f"systemusers({user})/systemuserroles_association?$select=name")
    return sorted(str(role["name"]) for role in _listed(told, "value") if role.get("name"))


async def privilege_names(client: DataverseClient, table: str) -> dict[str, str]:
    """What the table's privileges are called, by what they allow: {"Read": "prvReadContact"}. Raises D365Refused,
    HttpError."""
    path = f"EntityDefinitions(LogicalName='{quote(table)}')?$select=LogicalName,Privileges"
    told = _listed(await _asked(client, path, table), "Privileges")
    return {str(one["PrivilegeType"]): str(one["Name"]) for one in told if one.get("PrivilegeType") and one.get("Name")}


async def depths(client: DataverseClient, user: str, names: Collection[str]) -> dict[str, str]:
    """How far each of these privileges reaches (`Basic`, `Local`, `Deep`, `Global`), by its own roles and its teams';
    those that the user does not hold are left out. Raises D365Refused, HttpError."""
    function = "Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=@p1)"
    listed = quote(msgspec.json.encode(sorted(names)).decode())
    told = _listed(await _asked(client, f"systemusers({user})/{function}?@p1={listed}"), "RolePrivileges")
    return {str(one["PrivilegeName"]): str(one.get("Depth")) for one in told if one.get("PrivilegeName")}


async def try_to_follow(client: DataverseClient, table: Table) -> None:
    """Reads the id of one row as a capture would. Raises D365Refused if the role does not allow it."""
    await client.page(client.first_page(table, [table.key]), tracked=True, size=1, table=table.name)


async def modified_since(client: DataverseClient, table: Table, since: datetime) -> int:
    """How many rows were modified since then, at most MOST_COUNTED. Raises D365Refused, HttpError."""
    which = quote(f"modifiedon ge {since:%Y-%m-%dT%H:%M:%SZ}")
    answer = await client.endpoint.send("GET", f"{table.set_name}/$count?$filter={which}")
    if answer.status != 200:
        raise refusal(answer, table.name)
    text = answer.body.decode("utf-8-sig", "replace").strip()
    if not text.isascii() or not text.isdecimal():
        raise _senseless(f"the number of rows of {table.name}")
    return int(text)


async def _asked(client: DataverseClient, path: str, table: str = "") -> Any:
    answer = await client.endpoint.send("GET", path)
    if answer.status != 200:
        raise refusal(answer, table)
    try:
        return answer.json()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _senseless("the application user") from error


def _listed(told: Any, member: str) -> list[dict[str, Any]]:
    listed = told.get(member) if isinstance(told, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise _senseless("the application user")
    return listed


def _senseless(what: str) -> HttpError:
    return HttpError(f"Dynamics 365 tells of {what} in a way that makes no sense.", "Check D365_URL.")
