"""Read a Dynamics 365 id as users write it."""

from __future__ import annotations

from sync_assets.errors import SyncAssetsError
from sync_assets.guids import GUID


def record_id(given: str, needs: str) -> str:
    """Return an id in the ledger's form: lower case, without braces. Raises SyncAssetsError if it is none.

    The error does not repeat the text, which may be a name. needs: its beginning, such as `A hold needs the contact's`.
    """
    id_ = given.strip().removeprefix("{").removesuffix("}").lower()
    if not GUID.fullmatch(id_):
        raise SyncAssetsError(
            f"{needs} D365 id, a GUID such as 0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b.",
            "Find it in the record's address in Dynamics 365 (id=...) or in its key attribute in Campaign, such as "
            "`externalId`.",
        )
    return id_
