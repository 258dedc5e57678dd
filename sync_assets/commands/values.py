"""Read ids and names of tables as users write them, and turn objects into parts of documents."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from sync_assets.config.models import Config
from sync_assets.config.values import GUID
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.times import iso
from sync_assets.words import counted, did_you_mean

Document = TypeVar("Document")


@dataclass(frozen=True, slots=True)
class Result(Generic[Document]):
    """The result of a command: its document, false if there is none; problems, with their exit status; notes."""

    document: Document
    problems: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])
    notes: list[str] = field(default_factory=list[str])
    status: int = 1


def record_id(id_text: str, needs: str) -> str:
    """Return an id in the ledger's form: lower case, without braces. Raises SyncAssetsError if it is none.

    The error does not repeat the text, which may be a name. needs: its beginning, such as `A hold needs the contact's`.
    """
    id_ = id_text.strip().removeprefix("{").removesuffix("}").lower()
    if not GUID.fullmatch(id_):
        raise SyncAssetsError(
            f"{needs} D365 id, a GUID such as 0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b.",
            "Find it in the record's address in Dynamics 365 (id=...) or in its key attribute in Campaign, such as "
            "`externalId`.",
        )
    return id_


def check_tables(config: Config, names: Sequence[str | None]) -> None:
    """Raise SyncAssetsError if a name is none of a mapped table. None and an empty text stand for all tables."""
    mapped = [table.table for table in config.tables]
    if unknown := [name for name in names if name and name not in mapped]:
        closest = did_you_mean(unknown[0], mapped)
        remedy = f"Did you mean {closest}?" if closest else f"Mapped are: {', '.join(mapped)}."
        raise SyncAssetsError(f"{', '.join(unknown)} is not a mapped table.", remedy)


def builtins(document: Any) -> Any:
    """Return a document as its JSON has it: dictionaries, lists, texts and numbers; times with whole seconds."""
    return json.loads(json.dumps(msgspec.to_builtins(document, builtin_types=(datetime,)), default=iso))


def plain(value: Any) -> Any:
    """Return a value for a document: a time as text, others as they are."""
    return iso(value) if isinstance(value, datetime) else value


def fields(instance: object, *names: str) -> dict[str, Any]:
    """Return these attributes of an object by their names."""
    return {name: plain(getattr(instance, name)) for name in names}


_FORMS = {
    "e-mail": re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+"),
    "number": re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "time": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?"),
}


def value_shape(value: Any) -> str:
    """Return the shape of a value, such as `text, 12 characters`. It contains no part of the value."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, str):
        kind = next((kind for kind, form in _FORMS.items() if form.fullmatch(value)), "text")
        return f"{kind}, {counted(len(value), 'character')}" if kind in ("e-mail", "text") else kind
    return "boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "other"


def value_text(value: Any) -> str:
    """Return a value, or its shape, on one line."""
    if value is None:
        return "-"
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)
