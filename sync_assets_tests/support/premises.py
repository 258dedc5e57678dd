"""Positions: ways in which the real services may be. A flow must be right in each of them.

A flow on every position, the documented one in each run and the others by `pytest -m premises`:

    @on_positions()                                  # all; or on_positions("links empty", "links refused")
    def test_...(program: Program) -> None: ...      # the fixture `program` is on that position; `position` names it

Flow tests as they are, all of them on one other position: `PREMISE="links empty" pytest sync_assets_tests/flows`;
every sandbox that a test starts is then on it. Tests that count calls may fail there, and rightly.

By hand: `with POSITIONS["links empty"].on(admin): ...`.
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
"""environment variable: the position of every sandbox that does not say otherwise"""
DOCUMENTED = "as documented"
RESOURCES = ("profile", "cusOrder", "cusOrderLine", "cusStore")


@dataclass(frozen=True)
class Position:
    """Switches of the sandbox, standing faults, and what a configuration needs there.

    filters: each table of the configuration names the published filter on its key.
    """

    campaign: Values = field(default_factory=dict[str, Any])
    d365: Values = field(default_factory=dict[str, Any])
    faults: tuple[Values, ...] = ()
    filters: bool = False

    def __or__(self, other: Position) -> Position:
        """Both at once; where they differ the other one's switch."""
        return Position(
            self.campaign | other.campaign,
            self.d365 | other.d365,
            self.faults + other.faults,
            self.filters or other.filters,
        )

    def apply(self, admin: Admin) -> None:
        """Puts a sandbox into this position; its other switches stay as they are."""
        if self.campaign:
            admin.settings("campaign", **self.campaign)
        if self.d365:
            admin.settings("d365", **self.d365)
        if self.faults:
            admin.faults(*self.faults)

    @contextmanager
    def on(self, admin: Admin) -> Iterator[None]:
        """The position for a while. At the end the switches are as before and no fault is left, of whatever origin."""
        before = {system: admin.settings(system) for system in ("campaign", "d365")}
        self.apply(admin)
        try:
            yield
        finally:
            admin.clear_faults()
            admin.settings("campaign", **{name: before["campaign"][name] for name in self.campaign})
            admin.settings("d365", **{name: before["d365"][name] for name in self.d365})

    def table(self, table: Values) -> Values:
        """A table of the configuration as it must be in this position."""
        if not self.filters or "filter" in table or table.get("address") == "url":
            return table
        key = str(table["key"])
        return table | {"filter": {"name": f"by{key[0].upper()}{key[1:]}", "parameter": f"{key}_parameter"}}


SMALL_PAGES = Position(d365={"page_limit": 7})
"""So that fifty rows are read in several pages."""
NO_KEYS_IN_URLS = Position({"key_in_url": False}, filters=True)
NO_UNIQUE_KEYS = Position({"unique_keys": dict.fromkeys(RESOURCES, False)}, filters=True)
NO_KEY_IN_PATCH = Position({"key_in_patch": "refused"})
BARE_ERRORS = Position({"bare_errors": True})
TOKEN_AT_END = Position(d365={"delta_link_taken": "end"}) | SMALL_PAGES
REPEATS = Position(d365={"page_repeats": True})


def _every(kind: str, every: int, *methods: str, **parameters: Any) -> Position:
    """A fault at every k-th writing request of each method to Campaign, beginning with the second."""
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
    "as Campaign v8": BARE_ERRORS
    | Position(
        {"empty_patch_204": True, "href_in_get": True, "link_values_in_post": True, "custom_delete_status": 200}
    ),
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
    | REPEATS,
}


def on_positions(*names: str, quick: tuple[str, ...] = (DOCUMENTED,)) -> pytest.MarkDecorator:
    """Runs a test on each of these positions, all without names; those that are not `quick` by `-m premises` only.

    The test uses the fixture `program` or `position`. Also as `pytestmark` of a module.
    """
    chosen = names or tuple(POSITIONS)
    marked = [pytest.param(name, marks=() if name in quick else pytest.mark.premises, id=name) for name in chosen]
    return pytest.mark.parametrize("position", marked, indirect=True)


def of_the_environment() -> Position:
    """The position that PREMISE names, else the documented one."""
    name = os.environ.get(PREMISE) or DOCUMENTED
    if name not in POSITIONS:
        raise ValueError(f"{PREMISE} is {name!r}; one of: {', '.join(POSITIONS)}")
    return POSITIONS[name]
