"""How the objects of one installation are named in Dagster, since a code location may hold several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


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

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Self:
        """Return the installation of a component, by the attributes of its `defs.yaml` that the command line reads."""
        name = attributes.get("name") or ""
        prefix = prefix_of_keys(name, attributes.get("key_prefix"))
        return cls(name, prefix, attributes.get("environment_prefix") or "")

    def named(self, name: str) -> str:
        """Return the name of an object of this installation."""
        return f"{self.name}_{name}" if self.name else name

    def group(self, name: str) -> str:
        """Return the name of a group of assets."""
        return self.groups.get(name) or self.named(name)


def prefix_of_keys(name: str, key_prefix: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the prefix of asset keys of an installation with this name, which `key_prefix` may replace."""
    prefix = name if key_prefix is None else key_prefix
    return tuple((prefix.split("/") if prefix else []) if isinstance(prefix, str) else prefix)
