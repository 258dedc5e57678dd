"""How the objects of one installation are named in Dagster, since a code location may hold several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Installation:
    """Names of one installation. The one that `definitions.py` loads has the names of the documentation.

    name: prefix of the names of jobs, sensors, steps, resources and dynamic partitions; empty: none. key_prefix: of the
    keys of assets. variables: prefix of its environment variables, such as `STAGE_`. groups: in place of a group of the
    documentation, such as `d365`. owners, tags: of all assets, besides the owners of the configuration.
    """

    name: str = ""
    key_prefix: tuple[str, ...] = ()
    variables: str = ""
    groups: Mapping[str, str] = field(default_factory=dict[str, str])
    schedules: Mapping[str, str] = field(default_factory=dict[str, str])
    translate: Callable[[Any], Any] = lambda spec: spec

    def named(self, name: str) -> str:
        """Return the name of an object of this installation."""
        return f"{self.name}_{name}" if self.name else name

    def group(self, name: str) -> str:
        """Return the name of a group of assets."""
        return self.groups.get(name) or self.named(name)
