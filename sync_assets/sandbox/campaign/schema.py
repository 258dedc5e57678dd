"""What a Campaign resource is made of. The resources themselves stand in `resources.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FieldType = Literal["string", "integer", "float", "boolean", "date", "datetime", "enumeration"]
Api = Literal["profileAndServices", "profileAndServicesExt", "customResources"]
Cardinality = Literal["one", "zero_or_one"]


@dataclass(frozen=True, slots=True)
class Field:
    """A stored or computed attribute. `values` of an enumeration: (name, label), in the order of the stored values."""

    name: str
    type: FieldType = "string"
    length: int = 255
    label: str = ""
    policy: str = ""
    """dataPolicy: `email` checks the value, `smartCase` changes it"""
    values: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    mandatory: bool = False
    default: Any = None
    """where it differs from the empty value of the type"""

    @property
    def empty(self) -> Any:
        """How no value is stored and shown: there is no null but for links."""
        if self.default is not None:
            return self.default
        if self.type == "enumeration":
            return self.values[0][0]
        return {"integer": 0, "float": 0, "boolean": False}.get(self.type, "")

    @property
    def extension(self) -> bool:
        """A custom attribute: shown and taken under the Ext API only."""
        return self.name.startswith("cus")


@dataclass(frozen=True, slots=True)
class Group:
    """An object with attributes of its own, e.g. `location`."""

    name: str
    fields: dict[str, Field]
    label: str = ""
    read_only: bool = False

    @property
    def empty(self) -> dict[str, Any]:
        return {name: self.fields[name].empty for name in sorted(self.fields)}


@dataclass(slots=True)
class Link:
    """A simple link. Cardinality and join are settings of the sandbox, so they can change.

    `join`: the link is "defined by specific join conditions": this plain attribute holds the key of the target.
    """

    name: str
    target: str
    cardinality: Cardinality = "zero_or_one"
    join: str | None = None
    ext_only: bool = True
    label: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """The far side of a link: `<record>/<name>/` lists the records of `source` whose `link` points here."""

    name: str
    source: str
    link: str
    ext_only: bool = True


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter for the path. `operator` text: the built-in search of `byText`; record: by PKey."""

    name: str
    parameter: str
    attribute: str
    operator: Literal["equal", "prefix", "text", "record"] = "equal"


@dataclass(slots=True)
class Resource:
    """One resource. `key`: the identification key, unique where not empty; it also works in the URL.

    Not `unique`: the key is an ordinary text, which only filters and joins find.
    """

    name: str
    label: str
    plural: str
    schema: str
    key: str | None
    fields: dict[str, Field]
    apis: tuple[Api, ...]
    groups: dict[str, Group] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    filters: dict[str, Filter] = field(default_factory=dict)
    unique: bool = True

    @property
    def custom(self) -> bool:
        return self.name.startswith("cus")

    @property
    def identification(self) -> str | None:
        """The key, if it identifies records."""
        return self.key if self.unique else None

    def constraint(self) -> tuple[str, str]:
        """Names of the unique index and of its column in the database: `nmsservice_name`, `sname`."""
        key = (self.key or "").lower()
        return f"{self.schema.replace(':', '').lower()}_{key}", f"s{key}"
