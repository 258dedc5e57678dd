"""A story of test_any_sequence.py in a position of premises.py, with everything that can be found out `auto`.

STORY_SEED=<number> plays the stories of an earlier run again; a failure names it.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from random import Random

from sync_assets_tests.property.test_any_sequence import Story
from sync_assets_tests.support.premises import POSITIONS
from sync_assets_tests.support.world import Systems

SEED = int(os.environ.get("STORY_SEED") or secrets.randbelow(2**32))
QUICK_SEED = int(os.environ.get("STORY_SEED") or 20261126)
"""Each run plays the same few stories; `-m premises` looks for new ones."""


class PlacedStory(Story):
    """`log`: the steps, in order; a failure shows them."""

    keyed = "auto"

    def __init__(self, systems: Systems, random: Random, told: Counter[str], position: str) -> None:
        self.position = position
        self.log: list[str] = []
        super().__init__(systems, random, told)

    def begin(self) -> None:
        super().begin()
        for rules in self.world.config.tables.values():
            rules.address = "auto"
        self.stand(self.position)

    def stand(self, position: str) -> None:
        self.position = position
        self.log.append(f"the services: {position}")
        self.world.stand(POSITIONS[position])

    def say(self, what: str) -> None:
        self.log.append(what)
        super().say(what)

    def play(self, most_rounds: int, name: str) -> None:
        """Runs the story, and closes its world. name: of the story, for a failure."""
        try:
            self.run(self.random.randint(2, most_rounds))
        except Exception as error:
            error.add_note(f"STORY_SEED={SEED}, {name}:")
            error.add_note("\n".join(self.log))
            raise
        finally:
            self.world.close()
        self.told["stories"] += 1
