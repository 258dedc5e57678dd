"""Store records in memory: one table per resource, indexed by serial number, key and link; follow links."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any

from sync_assets.sandbox.campaign import errors
from sync_assets.sandbox.campaign.resources import resources
from sync_assets.sandbox.campaign.schema import Link, Resource
from sync_assets.sandbox.campaign.settings import Settings
from sync_assets.sandbox.campaign.tokens import RECORD, Tokens


class Record:
    """One record. `values`: stored values; a missing attribute is empty. `links`: serial of the target, 0 for none."""

    __slots__ = ("links", "pkey", "serial", "values")

    def __init__(self, serial: int, pkey: str, values: dict[str, Any], links: dict[str, int]) -> None:
        self.serial = serial
        self.pkey = pkey
        self.values = values
        self.links = links


class Table:
    """All records of a resource. `number` identifies the resource in tokens."""

    def __init__(self, resource: Resource, number: int) -> None:
        self.resource = resource
        self.number = number
        self.records: dict[int, Record] = {}
        self.order: list[int] = []
        """Serials, ascending: the order of lists."""
        self.by_key: dict[str, Record] = {}
        """Records by key value; if the key is not unique, one record of each value."""
        self._further: dict[str, dict[int, Record]] = {}
        """By key value that several records have: the other records, by serial."""
        self.children: dict[str, dict[Any, set[int]]] = {name: {} for name in resource.links}
        """By link and by reference to the target (see `reference`): serials of the records of this table."""
        self.changes = 0
        self.in_order: tuple[Any, list[Record]] = (None, [])
        """The records as they were sorted last, after the key of that sort."""
        self._last = 0

    def next_serial(self) -> int:
        self._last += 1
        return self._last

    def add(self, record: Record) -> None:
        self.records[record.serial] = record
        self.order.append(record.serial)
        self._index(record)

    def remove(self, record: Record) -> None:
        self._unindex(record)
        del self.records[record.serial]
        del self.order[bisect_left(self.order, record.serial)]

    def change(self, record: Record, values: dict[str, Any], links: dict[str, int]) -> None:
        self._unindex(record)
        record.values.update(values)
        record.links.update(links)
        self._index(record)

    def key_of(self, record: Record) -> str:
        """Return the value of the identification key; "" if there is none."""
        key = self.resource.key
        return record.values.get(key, "") if key else ""

    def with_key(self, value: str) -> list[Record]:
        """Return all records with this value of the key, which must not be empty."""
        first = self.by_key.get(value)
        return [] if first is None else [first, *self._further.get(value, {}).values()]

    @staticmethod
    def reference(link: Link, record: Record) -> Any:
        """Return the reference to a link's target: the value of the joined attribute, else the target's serial."""
        return record.values.get(link.join, "") if link.join else record.links.get(link.name, 0)

    def duplicate_key(self) -> str | None:
        """Return a value of the key that several records have; None if there is none."""
        keys: set[str] = set()
        for record in self.records.values():
            if key := self.key_of(record):
                if key in keys:
                    return key
                keys.add(key)
        return None

    def reindex(self) -> None:
        """Rebuild the indexes after a setting changed the key or a join."""
        self.by_key = {}
        self._further = {}
        self.children = {name: {} for name in self.resource.links}
        for record in self.records.values():
            self._index(record)

    def _index(self, record: Record) -> None:
        self.changes += 1
        if (key := self.key_of(record)) and self.by_key.setdefault(key, record) is not record:
            self._further.setdefault(key, {})[record.serial] = record
        for name, link in self.resource.links.items():
            if reference := self.reference(link, record):
                self.children[name].setdefault(reference, set()).add(record.serial)

    def _unindex(self, record: Record) -> None:
        self.changes += 1
        if key := self.key_of(record):
            self._unindex_key(key, record)
        for name, link in self.resource.links.items():
            if (serials := self.children[name].get(self.reference(link, record))) is not None:
                serials.discard(record.serial)
                if not serials:
                    del self.children[name][self.reference(link, record)]

    def _unindex_key(self, key: str, record: Record) -> None:
        further = self._further.get(key)
        if further is None:
            del self.by_key[key]
            return
        if self.by_key[key] is record:
            self.by_key[key] = further.pop(next(iter(further)))
        else:
            del further[record.serial]
        if not further:
            del self._further[key]


class Store:
    """The tables of an instance, and how their records are linked. clock: Unix time in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.settings = Settings()
        self.tokens = Tokens()
        self.tables = {name: Table(resource, n) for n, (name, resource) in enumerate(resources().items())}

    def children(self, table: Table, record: Record) -> Iterator[tuple[Table, Link, int]]:
        """Yield the records of other tables that link to this one: table, link, serial."""
        for child in self.tables.values():
            for link in child.resource.links.values():
                if link.target == table.resource.name:
                    reference = table.key_of(record) if link.join else record.serial
                    for serial in child.children[link.name].get(reference, ()):
                        yield child, link, serial

    def target(self, link: Link, record: Record) -> Record | None:
        """Return the record that a link leads to; None if it does not exist."""
        target = self.tables[link.target]
        reference = Table.reference(link, record)
        return target.by_key.get(reference) if link.join else target.records.get(reference)

    def visible(self, table: Table, record: Record) -> bool:
        """Return False for a child whose link of cardinality 1 has no target: the API neither shows nor changes it."""
        for link in table.resource.links.values():
            if link.cardinality == "one" and self.settings.hide_orphans and self.target(link, record) is None:
                return False
        return True

    def resolve_link(self, link: Link, value: Any) -> int:
        """Return the serial of the record that a link's `PKey` member identifies by PKey or by business key ("raw id").

        0 if it is stored as an empty link, depending on the settings. Raises CampaignError.
        """
        table = self.tables[link.target]
        resource = table.resource
        if not isinstance(value, str):
            raise errors.bad_value(value, "link", link.name)
        record = None
        if not value.startswith("@"):
            if self.settings.links_by_key == "empty":
                return 0
            if self.settings.links_by_key == "resolved" and resource.unique:
                record = table.by_key.get(value)
        else:
            reference = self.tokens.read(value)
            if reference is None:
                raise errors.undecodable_pkey(value, resource.plural, resource.schema)
            is_record = reference.kind == RECORD and reference.table == table.number
            record = table.records.get(reference.number) if is_record else None
        if record is None or not self.visible(table, record):
            raise errors.not_found(resource.label, resource.name, value, in_url=False)
        return record.serial
