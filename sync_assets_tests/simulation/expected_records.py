"""What Campaign must hold of each record at the end of a run.

Where the contract leaves it open (a hold, a rejection, a parent out of scope that Campaign keeps), the expectation is
`open`, and other rules judge each call.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Literal, NamedTuple

from sync_assets_tests.simulation.contract import Link, Mapped
from sync_assets_tests.simulation.history import History, Id
from sync_assets_tests.simulation.observed import Refusal, Row


class Expected(NamedTuple):
    """What Campaign must hold. `present` has `mapped`; `kept`: what it had, if anything; `open`: not determined."""

    kind: Literal["present", "absent", "kept", "open"]
    mapped: Mapped | None = None


class ExpectedRecords:
    """What Campaign must hold of each record of a run."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._known: dict[Id, Expected] = {}

    def of(self, record: Id) -> Expected:
        if record not in self._known:
            self._known[record] = self._expected(record)
        return self._known[record]

    def _expected(self, record: Id) -> Expected:
        contract, row = self.history.contracts[record[0]], self.history.final_row(record)
        if record in self.held or self.rejected_once(record) or (row and record in self.excluded):
            return Expected("open")
        if row is None or not contract.passes(row):
            if not contract.leaves(row):
                return Expected("kept")
            if row is None and not all(one.apply_deletes for one in contract.versions):
                return Expected("open")  # deleted before `apply_deletes` was switched on
            if self.history.unknown_to_a_copy(record):
                return Expected("kept")
            if self.history.orphaned_by_others(record) or self.history.hidden_for_good(record):
                return Expected("open")  # it may have been hidden when it was to be deleted
            return Expected("open" if self._has_children_that_stay(record) else "absent")
        mapped = contract.mapped(row)
        if mapped.invalid:
            return Expected("open")
        if self.lost(record, row) or self.history.hidden_for_good(record):
            return Expected("open")  # an orphan: kept, maybe until its former parent goes, or deleted
        for link in contract.links:
            parent = mapped.parents[link.to]
            if parent is None:
                continue
            kind = self.of((link.parent, parent)).kind
            if kind in ("kept", "open") and not link.loose:
                return Expected("open")
            if kind == "absent" and not link.loose:
                mapped.parents[link.to] = None
        return Expected("present", mapped)

    def lost(self, record: Id, row: Row) -> list[Link]:
        """Return the required links of a row in scope whose parent is gone for good, or that name none."""
        contract = self.history.contracts[record[0]]
        parents = contract.mapped(row).parents
        return [
            link
            for link in contract.links
            if link.required
            and ((parent := parents[link.to]) is None or self.of((link.parent, parent)).kind == "absent")
        ]

    def _has_children_that_stay(self, record: Id) -> bool:
        """Return True if a child that cannot be moved or deleted is linked to the record: then it stays, too."""
        for contract in self.history.contracts.values():
            for link in contract.links:
                if link.parent != record[0]:
                    continue
                for child in self.history.seen.final_records.get(contract.table.resource, ()):
                    if self.history.target(child.get(link.to)) == record[1]:
                        kind = self._expected_of_child(contract.table.table, child[contract.table.key])
                        if kind in ("open", "kept"):
                            return True
        return False

    def _expected_of_child(self, table: str, id_: str) -> str:
        """Return what is expected of a child, as far as that does not depend on its parent."""
        record = (table, id_)
        contract, row = self.history.contracts[table], self.history.final_row(record)
        if record in self.held or self.rejected_once(record):
            return "open"
        if row is not None and contract.passes(row):
            if any(link.required and self._is_rejected(link, row) for link in contract.links):
                return "open"  # it waits for its new parent, and stays linked to the former one until then
            return (
                "present"  # moved, unlinked, or deleted, even if it has a validation error (how it works, link order)
            )
        return "absent" if contract.leaves(row) else "kept"

    def _is_rejected(self, link: Link, row: Row) -> bool:
        """Return True if the parent that a row names has a validation error and is not in Campaign."""
        contract, parent = self.history.contracts[link.parent], row[f"_{link.column}_value"]
        named = self.history.final_row((link.parent, parent)) if parent else None
        invalid = named is not None and contract.passes(named) and contract.mapped(named).invalid
        return bool(invalid) and not self.history.final_records(contract.table, parent)

    @cached_property
    def held(self) -> set[Id]:
        """Contacts that are held at the end, with all that was ever linked to them."""
        held = {("contact", hold.contact) for hold in self.history.seen.holds if hold.until is None}

        def parents(record: Id) -> set[Id]:
            return {parent for _, parent in self.history.parents_ever(record)}

        return self._with_children(held, parents)

    @cached_property
    def excluded(self) -> set[Id]:
        """Contacts that Dynamics 365 did not have when their last hold was released, with the persons' records.

        A row in scope that names another parent now belongs to that one (security and privacy, a privacy delete). A
        row out of scope stays the person's, as it is in Campaign.
        """
        last = {hold.contact: hold for hold in self.history.seen.holds}
        gone = {("contact", contact) for contact, hold in last.items() if self.history.missing_at_release(hold)}

        def parents(record: Id) -> set[Id]:
            row = self.history.final_row(record)
            if row is None or not self.history.contracts[record[0]].passes(row):
                row = {}
            return {
                parent
                for link, parent in self.history.parents_ever(record)
                if row.get(f"_{link.column}_value") in (None, parent[1])
            }

        return self._with_children(gone, parents)

    def _with_children(self, records: set[Id], parents: Callable[[Id], set[Id]]) -> set[Id]:
        result = set(records)
        for table in self.history.contracts:  # parents before their children
            own = [record for record in self.history.changes if record[0] == table]
            result |= {record for record in own if not result.isdisjoint(parents(record))}
        return result

    def rejected_once(self, record: Id) -> bool:
        """Return True if Campaign refused the record, and nothing made it pending again since."""
        return any((one.table, one.id) == record and not self._pending_again(one) for one in self.history.seen.refusals)

    def _pending_again(self, refusal: Refusal) -> bool:
        if refusal.until is None:
            return False
        since = refusal.until.n
        return any(one.table == refusal.table and one.moment.n > since for one in self.history.seen.replays)
