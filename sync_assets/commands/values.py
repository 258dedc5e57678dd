"""Read ids and names of tables as users write them, and turn objects into parts of documents."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sync_assets.config.models import Config
from sync_assets.config.values import GUID
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.times import iso
from sync_assets.words import did_you_mean


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a command: its document, empty if there is none; why not all was done; notes for people."""

    document: dict[str, Any]
    problems: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])
    notes: list[str] = field(default_factory=list[str])


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


def plain(value: Any) -> Any:
    """Return a value for a document: a time as text, others as they are."""
    return iso(value) if isinstance(value, datetime) else value


def fields(instance: object, *names: str) -> dict[str, Any]:
    """Return these attributes of an object by their names."""
    return {name: plain(getattr(instance, name)) for name in names}
