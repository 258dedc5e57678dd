"""Store records in memory: one table per resource, indexed by serial number, identification key and link."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from sync_assets.sandbox.campaign.schema import Link, Resource


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
        if (key := self.key_of(record)) and self.by_key.setdefault(key, record) is not record:
            self._further.setdefault(key, {})[record.serial] = record
        for name, link in self.resource.links.items():
            if reference := self.reference(link, record):
                self.children[name].setdefault(reference, set()).add(record.serial)

    def _unindex(self, record: Record) -> None:
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
