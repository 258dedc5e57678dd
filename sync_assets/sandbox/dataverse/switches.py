"""Settings of the Dataverse emulator that can be changed while it runs.

Most of them are for behaviour that no public source documents (docs/dev/references/dataverse.md 8); the default is the
choice of that page.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

OnDelete = Literal["remove_link", "cascade", "restrict"]
"""`CascadeConfiguration.Delete`: set the lookup to null, delete the child too, or refuse the delete."""
Child = Literal["contact", "new_order", "new_orderline"]
"""Tables with a lookup to a parent: parentcustomerid, new_contactid, new_orderid."""
Depth = Literal["None", "Basic", "Local", "Deep", "Global"]
"""Depth of a privilege: none, own rows, the business unit, also the units below it, the organization."""
Access = Literal["Read", "Write"]


class Switches(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    # In the order of docs/dev/references/dataverse.md 8
    status_expired: int = 400
    """HTTP status for an expired delta token."""
    later_link_error: Literal["expired", "bad_query"] = "expired"
    """The error for a delta token, or a page of a delta, that is later than the present data, as after a restore."""
    delta_link_taken: Literal["start", "end"] = "start"
    """The moment of a read that its delta link stands for. end: changes during a read of several pages (updates,
    inserts and deletions of rows already read) are lost for a client that relies on the link alone."""
    tracked_skiptoken: Literal["cookie", "opaque"] = "cookie"
    delta_repeats: bool = False
    """A delta contains a row once for each change, with its present values, and updates of rows deleted since."""
    page_repeats: bool = False
    """A page of a delta contains a changed row twice: with the values before its last change, then with the present
    ones. Such a page has half as many rows as requested; with a page size of 1 there are no repeats."""
    removed_column_error: Literal["expired", "unknown_property"] = "expired"
    milliseconds: bool = False
    """Times set by the server have milliseconds."""
    inactive_read_only: bool = False
    """Refuse a PATCH of an inactive row."""

    etags: Literal["version", "opaque"] = "version"
    """Form of a row's etag. version: `W/"<versionnumber>"`; opaque: another text for each version, without an order."""
    lagging_queries: bool = False
    """Reads without change tracking return rows as they were before their last write, as a replica that lags does."""

    # Other behaviour
    metadata_change_expires: bool = True
    """A metadata change of a table lets its delta tokens expire (1.4)."""
    delta_link_first: bool = False
    """`@odata.deltaLink` and `@odata.nextLink` precede `value` (1.2: the order is not defined)."""
    organization_read: bool = True
    """False: the role cannot read the whole organization, so tracked reads are refused with 403 (1.1)."""
    privileges: dict[str, dict[Access, Depth]] = {}
    """By table; others have the depth Global."""
    privileges_told: bool = True
    """False: the role cannot read users and roles, so it cannot read its own privileges."""
    roles: list[str] = msgspec.field(default_factory=lambda: ["sync_assets"])
    """Security roles assigned to the application user itself."""
    application_user: bool = True
    """False: the application user does not exist, so each request is refused with 403."""
    clock_offset_seconds: int = 0
    """Offset of the organization's clock and Date header, for example to exceed the lifetime of delta tokens."""
    on_parent_delete: dict[Child, OnDelete] = msgspec.field(
        default_factory=lambda: {"contact": "remove_link", "new_order": "remove_link", "new_orderline": "cascade"}
    )
    """By child table: effect of the delete of its rows' parent. Tables that a change omits keep their value."""
    page_limit: int = msgspec.field(default=5000)
    """Largest page, in rows."""
    memory_limit_rows: int | None = None
    """Answer 500 "insufficient memory" to requests for larger pages, in rows; None: no limit."""
    count_limit: int = 5000
    """Largest number that `$count` returns."""

    def depth(self, table: str, access: Access) -> Depth:
        """Return the depth of a privilege on a table."""
        depth = self.privileges.get(table, {}).get(access, "Global")
        return "Local" if depth == "Global" and access == "Read" and not self.organization_read else depth

    def parent_delete(self, child: str) -> OnDelete:
        """Return `on_parent_delete` of a table; `remove_link` for a table that is not in it."""
        merged: dict[str, OnDelete] = {**self.on_parent_delete}
        return merged.get(child, "remove_link")

    def change(self, values: dict[str, Any]) -> None:
        """Set some switches. Raises msgspec.ValidationError for an invalid one; nothing is changed then."""
        merged = {**msgspec.to_builtins(self), **values}
        if isinstance(per_table := values.get("on_parent_delete"), dict):
            merged["on_parent_delete"] = {**self.on_parent_delete, **per_table}
        changed = msgspec.convert(merged, Switches)
        for name in values:
            setattr(self, name, getattr(changed, name))
