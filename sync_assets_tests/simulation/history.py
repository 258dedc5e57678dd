"""A run by row, record and moment: what the rules of the checker look up. Knows facts, no rules."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from sync_assets_tests.simulation.contract import Contract, Link
from sync_assets_tests.simulation.observed import (
    CallKind,
    EngineCall,
    Hold,
    Moment,
    Observed,
    Record,
    Row,
    RowChange,
    Table,
)

Id = tuple[str, str]
"""Table and id, or resource and key."""
_VOLATILE = frozenset({"created", "lastModified", "href", "title", "_visible"})


def content(record: Record | None) -> dict[str, Any] | None:
    """Return what a record holds, without what Campaign computes; links as the parent's PKey."""
    if record is None:
        return None
    return {
        name: value["PKey"] if isinstance(value, dict) and "PKey" in value else value
        for name, value in record.items()
        if name not in _VOLATILE and not (isinstance(value, dict) and set(value) == {"href"})  # a collection
    }


@dataclass(frozen=True)
class Request:
    """A request of the program. `calls`: what the engine handled; more than one if the network repeated it."""

    calls: tuple[EngineCall, ...]

    @property
    def first(self) -> EngineCall:
        return self.calls[0]

    @property
    def sent(self) -> Moment:
        return self.first.sent

    @property
    def method(self) -> Literal["POST", "PATCH", "DELETE", "GET"]:
        return self.first.method

    @property
    def kind(self) -> CallKind:
        return self.first.kind

    @property
    def body(self) -> dict[str, Any]:
        return dict(self.first.body or {})

    @property
    def answer(self) -> EngineCall | None:
        """The call whose answer reached the program; None if none did."""
        return next((call for call in self.calls if call.delivered), None)

    @property
    def delivered(self) -> Moment | None:
        return self.answer.delivered if self.answer else None

    @property
    def acknowledged(self) -> bool:
        """Return True if the program got a 2xx, or for a DELETE rightly that there is no such record.

        Campaign may take no keys in the URL of a DELETE: then it answers 404 for a record that it holds.
        """
        if self.answer is None:
            return False
        gone = self.method == "DELETE" and self.answer.status == 404 and self.answer.before is None
        return 200 <= self.answer.status < 300 or gone

    def shows_absent(self, key: str) -> bool:
        """Return True if its answer says that Campaign has no such record: deleted, or not among those read."""
        unlisted = self.method == "GET" and self.answer is not None and key not in self.answer.shown
        return self.acknowledged and (self.method == "DELETE" or unlisted)


class History:
    """Indexes of what was observed."""

    def __init__(self, seen: Observed) -> None:
        self.seen = seen
        self.contracts = {table.table: self._contract(table) for table in seen.tables}
        self.by_resource = {table.resource: self.contracts[table.table] for table in seen.tables}
        self.changes: defaultdict[Id, list[RowChange]] = defaultdict(list)
        for change in seen.rows:
            self.changes[change.table, change.id].append(change)
        self._times: defaultdict[str, defaultdict[str, list[tuple[int, Record | None]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._pkeys: dict[str, str] = {}
        for n, resource, pkey, after in sorted(self._record_changes(), key=lambda one: one[0]):
            self._times[resource][pkey].append((n, after))
            if after is not None and resource in self.by_resource:
                self._pkeys[pkey] = after[self.by_resource[resource].table.key]

    def _contract(self, table: Table) -> Contract:
        earlier = [Contract(table, document) for _, document in self.seen.replaced]
        return Contract(table, self.seen.configuration, earlier)

    def configuration_changed(self, since: datetime, until: int) -> bool:
        """Return True if another configuration came into force from `since` to before event `until`."""
        return any(since <= moment.at and moment.n < until for moment, _ in self.seen.replaced)

    def restored(self, since: int, until: int) -> bool:
        """Return True if the ledger was set back between two events, or before the first one was stored in it."""
        return any(copied.n <= until and since <= moment.n for copied, moment in self.seen.restored)

    def _record_changes(self) -> Iterator[tuple[int, str, str, Record | None]]:
        for call in self.seen.calls:
            if call.took_effect:
                pkey = (call.after or call.before or {})["PKey"]
                yield call.handled.n, call.resource, pkey, call.after
        for change in self.seen.others:
            yield change.moment.n, change.resource, change.pkey, change.after

    # Dynamics 365

    def row(self, record: Id, n: int) -> Row | None:
        """Return the row before event `n`."""
        changes = self.changes[record]
        at = bisect_left(changes, n, key=lambda change: change.moment.n)
        return changes[at - 1].after if at else None

    def rows(self, record: Id, since: datetime, until: int) -> list[Row | None]:
        """Return the versions of a row in force from `since` to before event `until`, oldest first."""
        changes = self.changes[record]
        first = bisect_right(changes, since, key=lambda change: change.moment.at)
        last = bisect_left(changes, until, key=lambda change: change.moment.n)
        before = [changes[first - 1].after] if first else [None]
        return [*before, *(change.after for change in changes[first:last])]

    def rows_read(self, record: Id, since: datetime, until: int) -> list[Row | None]:
        """Return those of `rows` that the program may have read before event `until`."""
        return [
            change.after
            for change, end in self._versions(record)
            if change.moment.n < until and end.at > since and self._read(change, min(end.n, until))
        ]

    def _versions(self, record: Id) -> Iterator[tuple[RowChange, Moment]]:
        """Yield the versions of a row, each with the moment at which it ended."""
        changes = self.changes[record]
        return zip(changes, [*(change.moment for change in changes[1:]), self.seen.end], strict=False)

    def _read(self, change: RowChange, until: int) -> bool:
        """Return True if the program may have read a version of a row before event `until`."""
        return any(change.moment.n < moment.n < until for moment, table in self.seen.reads if table == change.table)

    def unknown_to_a_copy(self, record: Id) -> bool:
        """Return True if the row had left when an older copy of the ledger, from before the insert, took its place.

        The id is not in the copy and of no row in scope, or of an orphan: the rebuild counts the record as unknown and
        leaves it.
        """
        table = self.contracts[record[0]].table
        requests = self.writes.get((table.resource, record[1]), ())
        sent = (one.sent.n for one in requests if one.method == "POST")
        inserted = min((*self.inserted_otherwise(record), *sent), default=0)
        return any(
            copied.n < inserted < moment.n
            and any(self._has_left(record[0], row, moment.n) for row in self.rows(record, moment.at, moment.n))
            for copied, moment in self.seen.restored
        )

    def inserted_otherwise(self, record: Id) -> list[int]:
        """Return the events that inserted the record by a file, or by the program before a change of the target."""
        table = self.contracts[record[0]].table
        return [
            change.moment.n
            for change in self.seen.others
            if change.by != "others" and (change.resource, change.before) == (table.resource, None)
            if change.after and change.after.get(table.key) == record[1]
        ]

    def _has_left(self, table: str, row: Row | None, n: int) -> bool:
        """Return True if the row is not in scope, or was an orphan before event `n`."""
        contract = self.contracts[table]
        if row is None or not contract.passes(row):
            return True
        required = [(link.parent, row[f"_{link.column}_value"]) for link in contract.links if link.required]
        return any(id_ is None or self._has_left(parent, self.row((parent, id_), n), n) for parent, id_ in required)

    def made_anew(self, record: Id, n: int) -> int:
        """Return the event at which the row before event `n` was inserted after a deletion; 0 if it was not."""
        changes = [change for change in self.changes[record] if change.moment.n < n]
        deleted = max((at for at, change in enumerate(changes) if change.after is None), default=-1)
        return changes[deleted + 1].moment.n if 0 <= deleted < len(changes) - 1 else 0

    def parents_ever(
        self, record: Id, until: int | None = None, *, since: int = 0, read: bool = False
    ) -> set[tuple[Link, Id]]:
        """Return the parents that the lookups of a row have named, from event `since`, before `until` if it is given.

        read: count only versions of the row that the program may have read.
        """
        return {
            (link, (link.parent, parent))
            for link in self.contracts[record[0]].links
            for change, end in self._versions(record)
            if change.after and since <= change.moment.n and (until is None or change.moment.n < until)
            if (parent := change.after[f"_{link.column}_value"]) is not None
            if not read or self._read(change, end.n if until is None else min(end.n, until))
        }

    def missing_at_release(self, hold: Hold) -> bool:
        """Return True if Dynamics 365 did not have the contact at some time while its hold was released."""
        if hold.until is None or hold.released is None:
            return False
        return None in self.rows(("contact", hold.contact), hold.until.at, hold.released.n)

    def known(self, record: Id) -> bool:
        """Return True if there ever was such a row."""
        return bool(self.changes.get(record))

    def final_row(self, record: Id) -> Row | None:
        return self._final_rows.get(record)

    @cached_property
    def _final_rows(self) -> dict[Id, Row]:
        return {
            (table.table, row[table.id]): row
            for table in self.seen.tables
            for row in self.seen.final_rows.get(table.table, ())
        }

    # Campaign

    def records_at(self, resource: str, n: int) -> list[Record]:
        """Return the records of a resource before event `n`."""
        result: list[Record] = []
        for times in self._times[resource].values():
            at = bisect_left(times, n, key=lambda one: one[0])
            record = times[at - 1][1] if at else None
            if record is not None:
                result.append(record)
        return result

    def with_key(self, resource: str, key: str, n: int) -> list[Record]:
        """Return the records with our id before event `n`."""
        name = self.by_resource[resource].table.key
        return [record for record in self.records_at(resource, n) if record[name] == key]

    def final_records(self, table: Table, key: str) -> list[Record]:
        return [one for one in self.seen.final_records.get(table.resource, ()) if one[table.key] == key]

    def target(self, value: Any) -> str | None:
        """Return the id of the parent that the value of a link names, by key or PKey; None for an empty link."""
        if isinstance(value, dict):
            value = value.get("PKey")
        return self._pkeys.get(value, value) if value else None

    def others_changed(self, resource: str, key: str, since: int, until: int) -> bool:
        """Return True if other people changed the record between two events."""
        name = self.by_resource[resource].table.key
        return any(
            since <= change.moment.n <= until
            and change.resource == resource
            and key in ((change.before or {}).get(name), (change.after or {}).get(name))
            for change in self.seen.others
        )

    @cached_property
    def removed_by_others(self) -> set[Id]:
        """Records of ours that other people deleted in Campaign, by table and id."""
        former = self.seen.former_keys
        return {
            (table.table, one.before.get(table.key) or one.before[former.get(table.table, table.key)])
            for table in self.seen.tables
            for one in self.seen.others
            if one.resource == table.resource and one.by == "others" and one.before and one.after is None
        }

    def orphaned_by_others(self, record: Id) -> bool:
        """Return True if others removed a parent: Campaign may have hidden the record, and no request finds it then."""
        return not self.removed_by_others.isdisjoint(parent for _, parent in self.parents_ever(record))

    def hidden_for_good(self, record: Id) -> bool:
        """Return True if Campaign hides the record at the end since a parent was removed: no request mends that.

        By others, or by the program for a link whose orphans Campaign keeps; or since profiles have another key
        attribute, and the one that the record in Campaign leads to was not inserted by it.
        """
        contract = self.contracts[record[0]]
        held = self.final_records(contract.table, record[1])
        return any(not one.get("_visible", True) for one in held) and (
            self.orphaned_by_others(record)
            or any(
                contract.ever_keeps(link.to, keeps=True) or self._lacks_the_new_key(parent)
                for link, parent in self.parents_ever(record)
            )
        )

    def _lacks_the_new_key(self, parent: Id) -> bool:
        """Return True if the key attribute of a table has changed, and no record was inserted with it for an id."""
        table, id_ = parent
        requests = self.writes.get((self.contracts[table].table.resource, id_), ())
        return table in self.seen.former_keys and not any(
            call.method == "POST" and call.took_effect for request in requests for call in request.calls
        )

    # Requests

    @cached_property
    def requests(self) -> list[Request]:
        """All requests in the order in which they were sent."""
        grouped: defaultdict[int, list[EngineCall]] = defaultdict(list)
        for call in self.seen.calls:
            grouped[call.sent.n].append(call)
        return [Request(tuple(grouped[n])) for n in sorted(grouped)]

    @cached_property
    def writes(self) -> dict[Id, list[Request]]:
        """Writes by resource and our id, in the order in which they were sent."""
        result: defaultdict[Id, list[Request]] = defaultdict(list)
        for request in self.requests:
            if request.method != "GET" and request.first.key and request.first.resource in self.by_resource:
                result[request.first.resource, request.first.key].append(request)
        return result

    def inserted_unseen(self, resource: str, record: Record, key: str, until: int) -> bool:
        """Return True if others inserted the record by a late run of an import, and the program cannot know.

        The last answer before that said that it was absent, and no request about it since was answered before `until`.
        """
        inserts = (one for one in self.seen.others if one.by == "others" and one.before is None)
        inserted = max((one.moment.n for one in inserts if one.pkey == record["PKey"]), default=0)
        answered = [one for one in self.about(resource, key) if one.delivered and one.delivered.n < until]
        before = [one for one in answered if one.sent.n < inserted and one.acknowledged]
        return bool(before) and before[-1].shows_absent(key) and not any(one.sent.n > inserted for one in answered)

    def repeats_a_late_import(self, resource: str, key: str, insert: Request) -> bool:
        """Return True if a late import had inserted all records of this id before, and no answer had shown them."""
        there = self.with_key(resource, key, insert.first.handled.n)
        return bool(there) and all(self.inserted_unseen(resource, one, key, insert.sent.n) for one in there)

    def crashed(self, process: int, since: int, until: int) -> bool:
        """Return True if the process crashed between two events."""
        return any(of == process and since <= moment.n <= until for moment, of in self.seen.crashes)

    def shown_before(self, resource: str, key: str, n: int) -> bool:
        """Return True if an answer before event `n` showed the program that Campaign holds the record."""
        name = self.by_resource[resource].table.key
        if any(one.by == "program" and (one.after or {}).get(name) == key for one in self.seen.others):
            return True
        return any(
            request.delivered is not None
            and request.delivered.n < n
            and request.acknowledged
            and (
                key in request.answer.shown
                if request.answer and request.method == "GET"
                else request.method != "DELETE"
            )
            for request in self.about(resource, key)
        )

    def about(self, resource: str, key: str) -> list[Request]:
        """Return the requests that name the record, and the reads whose answer contained it."""
        return self._about.get((resource, key), [])

    @cached_property
    def _about(self) -> dict[Id, list[Request]]:
        result: defaultdict[Id, list[Request]] = defaultdict(list)
        for request in self.requests:
            keys = {request.first.key, *(key for call in request.calls for key in call.shown)}
            for key in keys - {None}:
                result[request.first.resource, str(key)].append(request)
        return result
