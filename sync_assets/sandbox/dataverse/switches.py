"""Everything about the sandbox's Dataverse that can be set while it runs.

Most of these answer a question that no public source settles (docs/references/dataverse.md 8); the default is the
choice that the page names.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

OnDelete = Literal["remove_link", "cascade", "restrict"]
"""`CascadeConfiguration.Delete`: the lookup is emptied, the child goes too, the delete is refused"""
Child = Literal["contact", "new_order", "new_orderline"]
"""tables with a lookup to a parent: parentcustomerid, new_contactid, new_orderid"""
Depth = Literal["None", "Basic", "Local", "Deep", "Global"]
"""How far a privilege reaches: not held, own rows, the business unit, with those below it, the organization"""
Access = Literal["Read", "Write"]


class Switches(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    # Section 8, in its order
    status_expired: int = 400
    """HTTP status of an expired delta token"""
    status_tracking_off: int = 400
    status_forbidden_option: int = 400
    """HTTP status of `$filter`, `$orderby`, `$expand`, `$top` with change tracking"""
    delta_link_taken: Literal["start", "end"] = "start"
    """at which end of a read of several pages, first or delta; end: what changes meanwhile (updates, inserts and
    deletions of what was read already) is lost to a client that trusts the link"""
    tracked_skiptoken: Literal["cookie", "opaque"] = "cookie"
    delta_repeats: bool = False
    """a delta tells every change of a row, with its present state, and updates of rows that it also tells deleted"""
    page_repeats: bool = False
    """a page of a delta holds a row that was there before twice: first as it was before its last change, then as it is.
    Such a page has half as many rows as asked for, each once or twice; a page size of 1 shows no repeats"""
    delta_count_capped: bool = False
    count_with_tracking: bool = False
    """`$count=true` is answered on tracked reads, not omitted"""
    hidden_is_deleted: bool = False
    """rows that the admin hides from the caller's role come as deleted in the delta"""
    removed_column_error: Literal["expired", "unknown_property"] = "expired"
    milliseconds: bool = False
    """times of the server's own making show milliseconds"""
    inactive_read_only: bool = False
    """PATCH of an inactive row is refused"""

    # Other behaviour
    metadata_change_expires: bool = True
    """a metadata change of a table expires its delta tokens (1.4)"""
    delta_link_first: bool = False
    """`@odata.deltaLink` and `@odata.nextLink` stand before `value` (1.2: order is free)"""
    organization_read: bool = True
    """false: the role reads less than the organization, so tracked reads are refused with 403 (1.1)"""
    privileges: dict[str, dict[Access, Depth]] = {}
    """by table; what is not named is held for the whole organization"""
    privileges_told: bool = True
    """false: the role may not read users and roles, so neither its own privileges"""
    roles: list[str] = msgspec.field(default_factory=lambda: ["sync_assets"])
    """security roles that the application user has itself"""
    application_user: bool = True
    """false: the application user was never made, every call is refused with 403"""
    clock_offset_seconds: int = 0
    """moves the organization's clock, e.g. past the window of change tracking"""
    on_parent_delete: dict[Child, OnDelete] = msgspec.field(
        default_factory=lambda: {"contact": "remove_link", "new_order": "remove_link", "new_orderline": "cascade"}
    )
    """by child table: what becomes of its rows when their parent is deleted; what is not named stays as it was"""
    page_limit: int = msgspec.field(default=5000)
    """most rows in one page"""
    memory_limit_rows: int | None = None
    """a page for which more rows than these are asked is a 500, "insufficient memory"; None: no limit"""
    count_limit: int = 5000
    """where `$count` is cut"""

    # Limits (section 4); None: none
    limit_requests: int | None = None
    limit_seconds: float | None = None
    limit_concurrent: int | None = None
    limit_window_seconds: float = 300
    retry_after: float | None = None
    """seconds; None: as long as the window needs, and longer while the client pushes"""

    def depth(self, table: str, access: Access) -> Depth:
        """How far a privilege on a table reaches."""
        held = self.privileges.get(table, {}).get(access, "Global")
        return "Local" if held == "Global" and access == "Read" and not self.organization_read else held

    def parent_delete(self, child: str) -> OnDelete:
        """`on_parent_delete` of a table, `remove_link` for one that has no say in it."""
        told: dict[str, OnDelete] = {**self.on_parent_delete}
        return told.get(child, "remove_link")

    def change(self, values: dict[str, Any]) -> None:
        """Sets the switches given. Raises msgspec.ValidationError, naming the wrong one, and then changes nothing."""
        told = {**msgspec.to_builtins(self), **values}
        if isinstance(per_table := values.get("on_parent_delete"), dict):
            told["on_parent_delete"] = {**self.on_parent_delete, **per_table}
        changed = msgspec.convert(told, Switches)
        for name in values:
            setattr(self, name, getattr(changed, name))
