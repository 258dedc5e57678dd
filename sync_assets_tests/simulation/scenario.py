"""What happens in a simulated run, as plain data that follows from the seed: configuration, premises, moves.

A run replays from its scenario, with any of its moves left out: each move holds all that it needs, and does nothing if
that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from sync_assets_tests.simulation.timeline import DAY, OPT_OUTS, TABLES, WORKFLOWS, Move, Timeline
from sync_assets_tests.support.chain_configuration import JOINS, LINKS, PARENTS, RESOURCES, Configuration, TableRules
from sync_assets_tests.support.premises import DOCUMENTED, POSITIONS, Position

EDGES_FROM = 7_000_000
"""Seeds below are older than `add_edge_moves`, and keep their meaning."""
KEEPS_FROM = 9_500_000
"""Seeds below have no `keep_if_empty`."""
TURNS_FROM = 64_000_000
"""Seeds below change no mapping while requests are under way."""
CLOCKS_FROM = 70_000_000
"""Seeds below have no wrong clocks, and no full file at their end."""
LOADS_FROM = 90_000_000
"""Seeds below load nothing by file."""
UNMAPPED_FROM = 61_000_000
"""Seeds below have no link that Campaign requires and the configuration lacks for a time."""
DIRECTIONS = ("disabled", "d365_to_campaign", "campaign_to_d365", "bidirectional", "bidirectional")
NEW_KEY = "cusJobTitle"
"""The key attribute of profiles after a change of the target."""


@dataclass(frozen=True)
class Scenario:
    """Everything that a run is played from."""

    seed: int
    position_names: tuple[str, ...]
    rules: Mapping[str, TableRules]
    opt_out: Mapping[str, Any]
    moves: tuple[Move, ...]
    days: float
    bulk_load: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def position(self) -> Position:
        position = Position()
        for name in self.position_names:
            position |= POSITIONS[name]
        return position

    def document(self, rules: Mapping[str, TableRules] | None = None, profile_key: str | None = None) -> dict[str, Any]:
        """Return the configuration file.

        Args:
            rules: Of the tables; those of the start unless given.
            profile_key: The key attribute of profiles, if it was changed.
        """
        document = Configuration(dict(rules or self.rules), self.position).document()
        if profile_key:
            contact = document["tables"][-1]
            contact["key"] = profile_key
            if "filter" in contact:
                name = f"by{profile_key[0].upper()}{profile_key[1:]}"
                contact["filter"] = {"name": name, "parameter": f"{profile_key}_parameter"}
        parts = {"opt_out": self.opt_out, "bulk_load": self.bulk_load}
        return document | {name: dict(part) for name, part in parts.items() if part}

    def links(self) -> dict[str, Any]:
        """Return the definitions of the links in Campaign."""
        return {
            RESOURCES[table]: {
                LINKS[table]: {
                    "cardinality": self.rules[table].cardinality,
                    "join": JOINS[table] if self.rules[table].style == "join" else None,
                }
            }
            for table in PARENTS
        }

    def only(self, moves: tuple[Move, ...]) -> Scenario:
        return replace(self, moves=moves)


def scenario(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    random = Random(f"scenario {seed}")
    names = [DOCUMENTED] if random.random() < 0.3 else random.sample(list(POSITIONS), random.choice((1, 1, 2)))
    documented = names == [DOCUMENTED]
    rules = {table: _rules(random, documented=documented) for table in TABLES}
    keeps = Random(f"keeps {seed}")
    if seed >= KEEPS_FROM:
        rules = {table: replace(one, keep_if_empty=keeps.random() < 0.3) for table, one in rules.items()}
    timeline = Timeline(random)
    timeline.fill()
    timeline.add_rare_moves(
        Random(f"rare {seed}")
    )  # of its own, so that the seeds keep the meaning of their other moves
    direction = random.choice(DIRECTIONS)
    if seed >= EDGES_FROM:
        timeline.add_edge_moves(Random(f"edges {seed}"), files=direction in ("campaign_to_d365", "bidirectional"))
    if seed >= TURNS_FROM:
        timeline.add_turns(Random(f"turns {seed}"))
    if seed >= CLOCKS_FROM and direction != "disabled":
        timeline.add_wrong_clocks(Random(f"clocks {seed}"))
    if seed >= CLOCKS_FROM and direction == "campaign_to_d365":
        timeline.add_lost_opt_out(Random(f"lost {seed}"))
    required = [table for table in PARENTS if rules[table].cardinality == "one"]
    if seed >= UNMAPPED_FROM and required:
        timeline.add_unmapped_link(Random(f"without link {seed}"), required)
    opt_out: dict[str, Any] = {}
    if direction != "disabled":
        opt_out = {"direction": direction, "mappings": OPT_OUTS, "export": {"settle_seconds": random.choice((0, 60))}}
        if random.random() < 0.3:
            opt_out["poll_profiles_minutes"] = 60
        opt_out["export"]["after"] = random.choice(("keep", "delete"))
    loads, bulk_load = Random(f"loads {seed}"), dict[str, Any]()
    if seed >= LOADS_FROM and loads.random() < 0.5:
        timeline.add_loads(loads)
        workflows = {table: name for table, name in WORKFLOWS.items() if loads.random() < 0.8} or WORKFLOWS
        bulk_load = {"above": loads.choice((0, 0, 1, 2)), "workflows": dict(workflows), "wait_hours": 0.1}
        bulk_load["on_failure"] = loads.choice(("rest", "wait"))
    return Scenario(seed, tuple(names), rules, opt_out, timeline.in_order(), timeline.now / DAY, bulk_load)


def _rules(random: Random, *, documented: bool) -> TableRules:
    return TableRules(
        more=random.random() < 0.5,
        filtered=random.random() < 0.5,
        delete_filtered_out=random.random() < 0.5,
        apply_deletes=random.random() < 0.8,
        picklists=random.choice(("labels", "codes")),
        style=random.choice(("key", "auto", "join") if documented else ("auto", "auto", "join")),
        cardinality=random.choice(("one", "zero_or_one")),
        address=random.choice(("url", "auto", "filter")) if documented else "auto",
    )
