"""Read the application user's privileges in Dynamics 365, for `doctor`.

Privileges are read with `RetrieveUserSetOfPrivilegesByNames`, which includes the depth given by the roles of teams
(Microsoft: `RetrieveUserPrivileges` shows those as `Basic`, whatever they are). The names of privileges are in each
table's metadata. Errors and the need of organisation-level read: docs/dev/references/dataverse.md 1.1, 3.4, 5.
"""

from collections.abc import Collection
from urllib.parse import quote

import msgspec

from sync_assets.dataverse.client import DataverseClient, understood
from sync_assets.dataverse.metadata import Table

ORGANISATION = "Global"
"""The depth that covers every row of the organisation."""
_USER = "the application user"


async def roles(client: DataverseClient, user: str) -> list[str]:
    """Return the names of the user's own security roles, without those of its teams. Raises D365Refused, HttpError."""
    answer = await client.read(f"systemusers({user})/systemuserroles_association?$select=name")
    with understood(_USER):
        return sorted(str(role["name"]) for role in answer["value"] if role.get("name"))


async def privilege_names(client: DataverseClient, table: str) -> dict[str, str]:
    """Return the names of the table's privileges by what they allow: {"Read": "prvReadContact"}.

    Raises D365Refused, HttpError.
    """
    path = f"EntityDefinitions(LogicalName='{quote(table)}')?$select=LogicalName,Privileges"
    answer = await client.read(path, table)
    with understood(_USER):
        named = ((privilege.get("PrivilegeType"), privilege.get("Name")) for privilege in answer["Privileges"])
        return {str(kind): str(name) for kind, name in named if kind and name}


async def depths(client: DataverseClient, user: str, names: Collection[str]) -> dict[str, str]:
    """Return the depth of each privilege (`Basic`, `Local`, `Deep`, `Global`), by the user's own roles and its teams'.

    Privileges that the user does not have are missing. Raises D365Refused, HttpError.
    """
    function = "Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=@p1)"
    listed = quote(msgspec.json.encode(sorted(names)).decode())
    answer = await client.read(f"systemusers({user})/{function}?@p1={listed}")
    with understood(_USER):
        privileges = answer["RolePrivileges"]
        return {str(held["PrivilegeName"]): str(held.get("Depth")) for held in privileges if held.get("PrivilegeName")}


async def try_to_follow(client: DataverseClient, table: Table) -> None:
    """Read the id of one row as a capture would. Raises D365Refused if the role does not allow it."""
    await client.page(client.first_page(table, [table.key]), tracked=True, size=1, table=table.name)
