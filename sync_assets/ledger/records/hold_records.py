"""Store which records belong to a person under a privacy hold, or to a deleted person whose hold was released.

Here: membership alone (`sync_hold_record`). Holds are begun and released in privacy_holds.py.

Invariants: a record belongs to the person that one of its links leads to, directly or through other records. It still
does when that lookup is cleared, as it is by the person's deletion in Dynamics 365, and no longer does when the lookup
names a record that is not the person's. During a hold, a record also belongs to the person that Campaign's copy of it
is linked to. What `hold add` saw in the systems counts until the row is captured: its stored links may be older. Only
ids are stored, also those of records that the ledger has not captured.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from sync_assets.ledger.rules.dependencies import FormerParent, Key, Link
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import Transaction, by_first

PERSON = ""
"""Stands for the attribute of a link: the record is the held person itself."""
UNKNOWN = "unknown"
"""The same, of a person whom neither the ledger nor the systems had when the hold was forced. No link is named so."""

_OF_RECORDS = """
    SELECT id, person, attribute, CASE WHEN person IN (SELECT h.id FROM sync_hold h) THEN 0 ELSE 1 END, noted
    FROM sync_hold_record WHERE table_name = :table AND id IN :ids
"""
_ADD = """
    INSERT INTO sync_hold_record (person, table_name, id, attribute, noted) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""
_CAPTURED = "UPDATE sync_hold_record SET noted = 0 WHERE table_name = :table AND id IN :ids"
_OF_PERSON = "SELECT table_name, id, attribute FROM sync_hold_record WHERE person = :person"
_REMOVE = "DELETE FROM sync_hold_record WHERE person = ? AND table_name = ? AND id = ? AND attribute = ?"


class HoldReason(NamedTuple):
    """Why a record belongs to a person.

    person: the id of a contact. attribute: of the link that leads to the person, or PERSON. excluded: 1 if the person
    had been deleted in Dynamics 365 when the hold was released, so that the record is no longer held. noted: 1 if
    `hold add` saw the link in one of the systems, and the row was not captured since.
    """

    person: str
    attribute: str
    excluded: int = 0
    noted: int = 0


class HeldRecord(NamedTuple):
    """A record of a held person, by table and id. attribute: of the link to the person, PERSON or UNKNOWN."""

    table: str
    id: str
    attribute: str = PERSON


ReasonsByRecord = Mapping[Key, Set[HoldReason]]


def hold_reasons(
    known: Set[HoldReason], links: Sequence[Link], former: Sequence[FormerParent], of_parents: ReasonsByRecord
) -> set[HoldReason]:
    """Compute the reasons why a record is held or excluded, from its links.

    Args:
        known: the reasons stored so far.
        links: all links of the record, as captured.
        former: the parents that these no longer name, and that Campaign's record is or may be linked to.
        of_parents: the stored reasons of the parents, by table and id.
    """
    linked = {link.attribute for link in links}
    noted = {reason for reason in known if reason.noted}
    now = {reason for reason in known if reason.attribute not in linked}
    cleared = {link.attribute for link in links if link.parent_id is None}
    for parent in former:
        through = of_parents.get((parent.parent_table, parent.parent_id), set[HoldReason]())
        if parent.attribute not in cleared:
            through = {reason for reason in through if not reason.excluded}
        now |= {reason._replace(attribute=parent.attribute, noted=0) for reason in through}
    for link in links:
        if link.parent_id is None:
            now |= {reason for reason in known if reason.attribute == link.attribute}
        else:
            through = of_parents.get((link.parent_table, link.parent_id), set[HoldReason]())
            now |= {reason._replace(attribute=link.attribute, noted=0) for reason in through}
    return {reason for reason in now if reason._replace(noted=1) not in noted} | noted


class HoldRecords(Repository):
    """Reads and writes `sync_hold_record`."""

    def reasons(
        self,
        transaction: Transaction,
        records: Sequence[RecordState],
        links: Mapping[int, Sequence[Link]],
        former: Mapping[int, Sequence[FormerParent]],
    ) -> tuple[ReasonsByRecord, ReasonsByRecord]:
        """Return the hold reasons of these records as stored, with those of their parents, and as they should be."""
        # Most ledgers have none, and skip the queries.
        if not transaction.is_true("SELECT EXISTS (SELECT 1 FROM sync_hold_record)"):
            return {}, {}
        keys = {(record.table_name, record.id) for record in records}
        for named in (*links.values(), *former.values()):
            keys |= {(link.parent_table, link.parent_id) for link in named if link.parent_id}
        known = self._stored_reasons(transaction, keys)
        now: dict[Key, Set[HoldReason]] = {}
        for record in records:
            key = (record.table_name, record.id)
            now[key] = hold_reasons(known[key], links.get(record.seq, ()), former.get(record.seq, ()), known)
        return known, now

    def follow(
        self,
        transaction: Transaction,
        records: Sequence[RecordState],
        links: Mapping[int, Sequence[Link]],
        former: Mapping[int, Sequence[FormerParent]],
    ) -> tuple[ReasonsByRecord, set[Key]]:
        """Update the hold reasons of these records.

        Returns:
            The reasons by record, and the records whose reasons changed: their children must be re-evaluated in turn.
        """
        known, now = self.reasons(transaction, records, links, former)
        changed = {key for key, reasons in now.items() if reasons != known[key]}
        added = [(*_ids(key, reason), reason.noted) for key in sorted(changed) for reason in now[key] - known[key]]
        removed = [_ids(key, reason) for key in sorted(changed) for reason in known[key] - now[key]]
        transaction.for_each(_ADD, added)
        transaction.for_each(_REMOVE, removed)
        return now, changed

    def _stored_reasons(self, transaction: Transaction, keys: Iterable[Key]) -> defaultdict[Key, set[HoldReason]]:
        """Return the stored hold reasons of these records, by record."""
        reasons: defaultdict[Key, set[HoldReason]] = defaultdict(set)
        for table, ids in by_first(keys):
            for id_, *reason in transaction.run(_OF_RECORDS, ids=ids, table=table):
                reasons[table, id_].add(HoldReason(*reason))
        return reasons

    def add(self, transaction: Transaction, person: str, records: Iterable[HeldRecord]) -> None:
        """Store records as those of the held person."""
        links = [(person, *record, int(record.attribute not in (PERSON, UNKNOWN))) for record in sorted(records)]
        transaction.for_each(_ADD, links)

    def captured(self, transaction: Transaction, table: str, ids: list[str]) -> None:
        """Let the stored links of these rows decide again, since they were captured."""
        if transaction.is_true("SELECT EXISTS (SELECT 1 FROM sync_hold_record WHERE noted = 1)"):
            transaction.run(_CAPTURED, ids=ids, table=table)

    def records_of(self, transaction: Transaction, person: str) -> list[HeldRecord]:
        return sorted(HeldRecord(*row) for row in transaction.run(_OF_PERSON, person=person))


def is_held(reasons: Set[HoldReason]) -> bool:
    """Return True if one of the reasons is a hold that was not released."""
    return any(not reason.excluded for reason in reasons)


def is_excluded(reasons: Set[HoldReason]) -> bool:
    """Return True if a record belongs only to persons who were deleted when their hold was released."""
    return bool(reasons) and not is_held(reasons)


def _ids(key: Key, reason: HoldReason) -> tuple[str, str, str, str]:
    return (reason.person, *key, reason.attribute)
