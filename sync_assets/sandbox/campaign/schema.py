"""Types of the data model: resource, field, group, link, collection, filter. The resources are in `resources.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FieldType = Literal["string", "integer", "float", "boolean", "date", "datetime", "enumeration"]
Api = Literal["profileAndServices", "profileAndServicesExt", "customResources"]
Cardinality = Literal["one", "zero_or_one"]


@dataclass(frozen=True, slots=True)
class Field:
    """A stored or computed attribute. `values`: of an enumeration, (name, label) in the order of the stored numbers."""

    name: str
    type: FieldType = "string"
    length: int = 255
    label: str = ""
    policy: str = ""
    """The dataPolicy: `email` validates the value, `smartCase` changes its case."""
    values: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    default: Any = None
    """The empty value, if it differs from that of the type."""

    @property
    def empty(self) -> Any:
        """Return the stored and shown value of an empty attribute. Only links can be null."""
        if self.default is not None:
            return self.default
        if self.type == "enumeration":
            return self.values[0][0]
        return {"integer": 0, "float": 0, "boolean": False}.get(self.type, "")

    @property
    def extension(self) -> bool:
        """Return True for a custom attribute, which only the Ext API shows and accepts."""
        return self.name.startswith("cus")


@dataclass(frozen=True, slots=True)
class Group:
    """An attribute with attributes of its own, such as `location`."""

    name: str
    fields: dict[str, Field]
    read_only: bool = False

    @property
    def empty(self) -> dict[str, Any]:
        return {name: self.fields[name].empty for name in sorted(self.fields)}


@dataclass(slots=True)
class Link:
    """A simple link. Cardinality and join are settings of the emulator, so they can change.

    `join`: the attribute that holds the key of the target, for a link "defined by specific join conditions".
    """

    name: str
    target: str
    cardinality: Cardinality = "zero_or_one"
    join: str | None = None
    ext_only: bool = True


@dataclass(frozen=True, slots=True)
class Collection:
    """The reverse of a link: `<record>/<name>/` lists the records of `source` whose `link` leads to the record."""

    name: str
    source: str
    link: str
    ext_only: bool = True


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter in the path.

    `operator`: `text` is the built-in search of `byText`, `record` compares the PKey, `not_built` is described only.
    """

    name: str
    parameter: str
    attribute: str
    operator: Literal["equal", "prefix", "text", "record", "not_built"] = "equal"


@dataclass(slots=True)
class Resource:
    """One resource.

    `key`: the identification key, unique unless empty, which can also be used in URLs. If not `unique`, the key is an
    ordinary text that only filters and joins use.
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
        """Return the key, if it identifies records."""
        return self.key if self.unique else None

    def constraint(self) -> tuple[str, str]:
        """Return the names of the unique index and its column in the database, such as `nmsservice_name`, `sname`."""
        key = (self.key or "").lower()
        return f"{self.schema.replace(':', '').lower()}_{key}", f"s{key}"
