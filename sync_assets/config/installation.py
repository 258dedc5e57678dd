"""How the objects of one installation are named in Dagster, since a code location may hold several."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Installation:
    """Names of one installation. The one that `definitions.py` loads has the names of the documentation.

    Attributes:
        name: Prefix of the names of jobs, sensors, steps, resources and dynamic partitions; empty: none.
        key_prefix: Of the keys of assets.
        variables: Prefix of its environment variables, such as `STAGE_`.
        groups: By the group of the documentation (`d365`, for example), the group to use in its place.
        schedules: By the name of a job in the documentation, its cron expression; empty: no schedule.
        translate: Returns an asset's spec with the installation's own attributes.
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
