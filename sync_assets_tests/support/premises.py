"""Positions: combinations of undocumented behaviour that the real services may have. Flows must work in each of them.

To run a test in each position (the documented one always, the others by `pytest -m premises`):

    @on_positions()                                  # all; or on_positions("links empty", "links refused")
    def test_...(program: Program) -> None: ...      # the fixture `program` is in that position; `position` is its name

To run all flow tests in another position: `PREMISE="links empty" pytest sync_assets_tests/flows`. It applies to each
sandbox that a test starts. Tests that count calls may fail then, without an error of the program.

To use one within a test: `with POSITIONS["links empty"].on(admin): ...`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sync_assets_tests.support.sandbox_process import Admin

Values = dict[str, Any]

PREMISE = "PREMISE"
"""Environment variable with the default position of sandboxes."""
DOCUMENTED = "as documented"
V8 = "as Campaign v8"
RESOURCES = ("profile", "cusOrder", "cusOrderLine", "cusStore")


@dataclass(frozen=True)
class Position:
    """Settings and permanent faults of the sandbox, and what a configuration needs with them.

    Attributes:
        campaign: Settings of the Campaign emulator.
        d365: Switches of the Dataverse emulator.
        faults: Rules for faults.
        filters: True if each table of the configuration needs the name of the published filter on its key.
        location_by_inserts: True if Campaign takes no update of `location`.
    """

    campaign: Values = field(default_factory=dict[str, Any])
    d365: Values = field(default_factory=dict[str, Any])
    faults: tuple[Values, ...] = ()
    filters: bool = False
    location_by_inserts: bool = False

    def __or__(self, other: Position) -> Position:
        """Combine two positions. Settings of the other one take precedence."""
        return Position(
            self.campaign | other.campaign,
            self.d365 | other.d365,
            self.faults + other.faults,
            self.filters or other.filters,
            self.location_by_inserts or other.location_by_inserts,
        )

    def apply(self, admin: Admin) -> None:
        """Put a sandbox into this position. Its other settings are kept."""
        if self.campaign:
            admin.settings("campaign", **self.campaign)
        if self.d365:
            admin.settings("d365", **self.d365)
        if self.faults:
            admin.faults(*self.faults)

    @contextmanager
    def on(self, admin: Admin) -> Iterator[None]:
        """Put a sandbox into this position for the block. At the end, restore the settings and remove all faults."""
        before = {system: admin.settings(system) for system in ("campaign", "d365")}
        self.apply(admin)
        try:
            yield
        finally:
            admin.clear_faults()
            admin.settings("campaign", **before["campaign"])
            admin.settings("d365", **{name: before["d365"][name] for name in self.d365})

    def table(self, table: Values) -> Values:
        """Return a table of the configuration as it must be in this position."""
        if self.location_by_inserts:
            by_inserts = {
                column: {"to": to, "apply_updates": False}
                for column, to in table["fields"].items()
                if str(to).startswith("location.")
            }
            table = table | {"fields": table["fields"] | by_inserts}
        if not self.filters or "filter" in table or table.get("address") == "url":
            return table
        key = str(table["key"])
        return table | {"filter": {"name": f"by{key[0].upper()}{key[1:]}", "parameter": f"{key}_parameter"}}


SMALL_PAGES = Position(d365={"page_limit": 7})
"""Fifty rows are read in several pages."""
NO_KEYS_IN_URLS = Position({"key_in_url": False}, filters=True)
NO_UNIQUE_KEYS = Position({"unique_keys": dict.fromkeys(RESOURCES, False)}, filters=True)
NO_KEY_IN_PATCH = Position({"key_in_patch": "refused"})
BARE_ERRORS = Position({"bare_errors": True})
CAMPAIGN_V8 = Position({"dialect": "v8"}, location_by_inserts=True)
TOKEN_AT_END = Position(d365={"delta_link_taken": "end"}) | SMALL_PAGES
REPEATS = Position(d365={"page_repeats": True})


def _every(kind: str, every: int, *methods: str, **parameters: Any) -> Position:
    """Return a position with a fault at every k-th request of each method to Campaign, beginning with the second."""
    rules = (
        {"system": "campaign", "kind": kind, "method": m, "skip": 1, "every": every, **parameters} for m in methods
    )
    return Position(faults=tuple(rules))


WRITES = ("POST", "PATCH", "DELETE")

POSITIONS: dict[str, Position] = {
    DOCUMENTED: Position(),
    # Keys
    "no keys in URLs": NO_KEYS_IN_URLS,
    "keys in URLs are bad PKeys": NO_KEYS_IN_URLS | Position({"untaken_key": "bad_pkey"}),
    "keys in URLs of profiles only": Position({"keys_in_url": dict.fromkeys(RESOURCES[1:], False)}, filters=True),
    "deletes by key": Position({"delete_by_key": True}),
    "no key is unique": NO_UNIQUE_KEYS,
    "the key of profiles is not unique": Position({"unique_keys": {"profile": False}}, filters=True),
    "no key in a PATCH": NO_KEY_IN_PATCH,
    # Links
    "links empty": Position({"links_by_key": "empty"}),
    "links refused": Position({"links_by_key": "refused"}),
    "links shown in POST": Position({"link_values_in_post": True}),
    # Answers
    "bare errors": BARE_ERRORS,
    "hollow answers": _every("hollow", 4, *WRITES),
    "hollow answers after the deed": _every("hollow", 4, *WRITES, executed=True),
    "cut answers": _every("hollow", 4, *WRITES, body='{"PKey":"@ab'),
    "empty answers": _every("hollow", 4, *WRITES, body=""),
    "throttled without a time": _every("throttle", 5, *WRITES, retry_after=None),
    V8: CAMPAIGN_V8,
    "as Campaign v8, without keys in URLs": CAMPAIGN_V8 | NO_KEYS_IN_URLS,
    "older links": Position({"relative_links": True, "double_slash_links": True, "line_count": 7}),
    # Dynamics 365
    "small pages": SMALL_PAGES,
    "the delta link is taken at the end": TOKEN_AT_END,
    "repeated ids": REPEATS,
    "repeated ids and deleted rows": REPEATS | Position(d365={"delta_repeats": True}) | SMALL_PAGES,
    "no memory for large pages": Position(d365={"memory_limit_rows": 1250}),
    "empty pages between": Position(
        faults=(
            {"system": "d365", "kind": "empty_pages", "path": r"/(contact|new_order)", "every": 3, "method": "GET"},
        )
    ),
    "etags are no versions": Position(d365={"etags": "opaque"}) | SMALL_PAGES,
    "the clock of Dynamics 365 is a day ahead": Position(d365={"clock_offset_seconds": 86_400}),
    "the clock of Dynamics 365 is a day behind": Position(d365={"clock_offset_seconds": -86_400}),
    "another dialect of Dataverse": Position(
        d365={"tracked_skiptoken": "opaque", "milliseconds": True, "delta_link_first": True, "status_expired": 410}
    ),
    # Together
    "nothing as documented": NO_KEYS_IN_URLS
    | NO_UNIQUE_KEYS
    | NO_KEY_IN_PATCH
    | BARE_ERRORS
    | Position({"links_by_key": "empty"})
    | TOKEN_AT_END
    | REPEATS
    | Position(d365={"etags": "opaque"}),
}


def on_positions(*names: str, quick: tuple[str, ...] = (DOCUMENTED,)) -> pytest.MarkDecorator:
    """Return a mark that runs a test in each of these positions.

    The test must use the fixture `program` or `position`. Can also be the `pytestmark` of a module.

    Args:
        names: Positions; all if empty.
        quick: Positions that always run; the others run with `-m premises` only.
    """
    chosen = names or tuple(POSITIONS)
    marked = [pytest.param(name, marks=() if name in quick else pytest.mark.premises, id=name) for name in chosen]
    return pytest.mark.parametrize("position", marked, indirect=True)


def of_the_environment() -> Position:
    """Return the position in PREMISE, else the documented one. Raises ValueError for an unknown one."""
    name = os.environ.get(PREMISE) or DOCUMENTED
    if name not in POSITIONS:
        raise ValueError(f"{PREMISE} is {name!r}; one of: {', '.join(POSITIONS)}")
    return POSITIONS[name]
