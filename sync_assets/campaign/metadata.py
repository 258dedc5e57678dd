"""The metadata of a resource: its attributes with types, lengths and enumeration values.

Here: plain values. Not here: how they are fetched (`client.py`). Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/global-concepts/metadata-mechanism.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

AttributeType = Literal[
    "string", "integer", "float", "boolean", "date", "datetime", "enumeration", "link", "collection", "group"
]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a resource.

    `path`: dotted for a sub-field (`location.city`). `length`: in characters; None: unlimited or unknown.
    """

    path: str
    type: AttributeType
    length: int | None = None
    read_only: bool = False
    mandatory: bool = False
    values: tuple[str, ...] = ()  # of an enumeration, in the order of the stored values: the first is its empty value
    target: str | None = None  # of a link: the resource it points to
    cascades: bool | None = None  # of a link: if a record is deleted with its target; None: not in the metadata
    sortable: bool | None = field(default=None, compare=False)  # None: not in the metadata


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource under its API endpoint (`profileAndServicesExt` or `customResources`)."""

    name: str
    api: str
    attributes: dict[str, Attribute]
    filters: tuple[str, ...] = ()
