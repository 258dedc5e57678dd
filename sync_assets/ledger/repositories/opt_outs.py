"""Store opt-outs: the last values of both systems, and which are due for a decision or a write.

Here: reading and writing rows. The states are computed by rules/opt_outs.py.

Invariants: a row is only changed by a transaction that has read its current version. The rows of a contact under a
privacy hold are kept but never due, and none are due while the table contact is in maintenance.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.config.values import CHANGED_SUFFIX, CONTACT
from sync_assets.ledger import times
from sync_assets.ledger.model import Outcome, Reject
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState, Stated
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import LedgerSession

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = ", ".join(OptOutRow._fields)
_ROWS = f"SELECT {_COLUMNS} FROM sync_opt_out WHERE id"  # noqa: S608 - constants
_SET = ", ".join(f"{name} = ?" for name in OptOutRow._fields[2:-1])
_UPDATE = f"""
    UPDATE sync_opt_out SET {_SET}, version = version + 1 WHERE id = ? AND attribute = ? AND version = ?
"""  # noqa: S608
# A row that was inserted since it was looked up is of another transaction: query Campaign before the decision.
_INSERT = f"""
    INSERT INTO sync_opt_out ({_COLUMNS}) VALUES ({", ".join("?" * len(OptOutRow._fields))})
    ON CONFLICT (id, attribute) DO UPDATE SET state = 1, ask = 1, version = sync_opt_out.version + 1
"""  # noqa: S608
_THERE = "SELECT id FROM sync_record WHERE table_name = ? AND (acked_hash IS NOT NULL OR uncertain > 0) AND id"
_DUE = """
    SELECT DISTINCT id FROM sync_opt_out o
    WHERE state > 0 AND state = {state} AND id > :after AND attribute IN :attributes
        AND NOT EXISTS (SELECT 1 FROM sync_hold h WHERE h.table_name = 'contact' AND h.id = o.id)
        AND NOT EXISTS (SELECT 1 FROM sync_maintenance m WHERE m.table_name = 'contact')
    ORDER BY id LIMIT :limit
"""
_O = schema.opt_out.c
_C = schema.opt_out_count.c
_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class OptOutsLeft:
    """Number of opt-outs that are not synced, by state. held: those of contacts under a privacy hold."""

    decide: int = 0
    to_d365: int = 0
    to_campaign: int = 0
    refused: int = 0
    held: int = 0

    @property
    def due(self) -> int:
        """Number of opt-outs due for a decision or a write."""
        return self.decide + self.to_d365 + self.to_campaign


class OptOutRows:
    """Changes of `sync_opt_out` within the transactions of other repositories."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session

    def load(self, connection: Connection, ids: Sequence[str]) -> dict[tuple[str, str], OptOutRow]:
        """Read and lock the rows of these contacts."""
        found: dict[tuple[str, str], OptOutRow] = {}
        lock = "ORDER BY id, attribute" + ("" if self._session.database.sqlite else " FOR UPDATE")
        for start in range(0, len(ids), _BATCH):
            for row in self._session.bulk.for_ids(connection, _ROWS, ids[start : start + _BATCH], also=lock):
                one = OptOutRow(*row)
                found[one.id, one.attribute] = one
        return found

    def put(
        self, connection: Connection, known: Mapping[tuple[str, str], OptOutRow], rows: Iterable[OptOutRow]
    ) -> None:
        """Write rows. known: the rows as read before; a row that is not among them is inserted."""
        changed = [row for row in rows if (row.id, row.attribute) in known]
        new = [row for row in rows if (row.id, row.attribute) not in known]
        self._session.bulk.for_each(
            connection, _UPDATE, [(*row[2:-1], row.id, row.attribute, row.version) for row in changed]
        )
        self._session.bulk.for_each(connection, _INSERT, [tuple(row) for row in new])

    def apply_captured(self, connection: Connection, captured: "pl.DataFrame") -> None:
        """Apply captured values of Dynamics 365: columns id and one Boolean per attribute (null: not opted out)."""
        attributes = [name for name in captured.columns if name != "id"]
        ids: list[str] = captured["id"].to_list()
        known = self.load(connection, ids)
        there: set[str] | None = None
        rows: dict[tuple[str, str], OptOutRow] = {}
        for name in attributes:
            for id_, value in zip(ids, captured[name], strict=True):
                row = known.get((id_, name))
                if row is None and not value:
                    continue
                if there is None:  # queried only if a row may change
                    there = {found[0] for found in self._session.bulk.for_record_ids(connection, _THERE, ids, CONTACT)}
                start = row or OptOutRow(id_, name)
                moved = rules.after_capture(
                    start,
                    int(bool(value)),
                    "change in Dynamics 365",
                    known=row is not None,
                    may_exist_in_campaign=id_ in there,
                )
                if moved is not None:
                    rows[id_, name] = moved
        self.put(connection, known, rows.values())

    def apply_inserted(
        self,
        connection: Connection,
        inserted: Mapping[str, Outcome],
        met: Mapping[str, Iterable[str]],
    ) -> None:
        """Apply the outcomes of inserts.

        Args:
            connection: of the transaction.
            inserted: by id, the outcomes of profiles that Campaign inserted with opt-outs.
            met: by id, the attributes of profiles that existed before: they are due for a decision.
        """
        ids = [*inserted, *met]
        if not ids:
            return
        now = self._session.now()
        known = self.load(connection, ids)
        rows: list[OptOutRow] = []
        for id_, outcome in inserted.items():
            at = now if outcome.inserted_at is None else min(times.to_micros(outcome.inserted_at), now)
            for name, value in outcome.inserted_opt_outs:
                row = known.get((id_, name)) or (OptOutRow(id_, name, campaign=None) if value else None)
                if row is not None:
                    rows.append(rules.after_insert(row, int(value), "change in Dynamics 365", at))
        for id_, names in met.items():
            rows += [
                rules.after_existing_profile(
                    known.get((id_, name), OptOutRow(id_, name)), "profile that was there before"
                )
                for name in names
            ]
        self.put(connection, known, rows)

    def to_send(
        self, connection: Connection, ids: Sequence[str], attributes: Sequence[str]
    ) -> dict[str, tuple[tuple[str, bool], ...]]:
        """Return by id the value of Dynamics 365 for each attribute, for contacts that have rows."""
        by_id: dict[str, dict[str, bool]] = {}
        for start in range(0, len(ids), _BATCH):
            for row in self._session.bulk.for_ids(connection, _ROWS, ids[start : start + _BATCH]):
                one = OptOutRow(*row)
                by_id.setdefault(one.id, {})[one.attribute] = bool(one.d365)
        return {id_: tuple((name, found.get(name, False)) for name in attributes) for id_, found in by_id.items()}

    def forget(self, connection: Connection, ids: Sequence[str]) -> None:
        """Delete the rows of these contacts."""
        self._session.bulk.for_each(connection, "DELETE FROM sync_opt_out WHERE id = ?", [(id_,) for id_ in ids])

    def add_counts(self, connection: Connection, counts: Mapping[str, int]) -> None:
        """Add to today's counts (UTC), by kind."""
        day = times.to_day_number(times.from_micros(self._session.now()).date())
        counted = [{"day": day, "kind": kind, "number": number} for kind, number in sorted(counts.items()) if number]
        if counted:
            new = self._session.upsert(schema.opt_out_count).values(counted)
            more = _C.number + new.excluded.number
            connection.execute(new.on_conflict_do_update(index_elements=["day", "kind"], set_={"number": more}))


class OptOuts:
    """Reads and writes `sync_opt_out` and `sync_opt_out_count`."""

    def __init__(self, session: LedgerSession, rows: OptOutRows) -> None:
        self._session = session
        self._rows = rows

    def store_stated_opt_outs(
        self,
        statements: "pl.DataFrame",
        attributes: Sequence[str],
        source: str,
        stated_at: datetime,
        latest: datetime | None = None,
    ) -> Counter[Stated]:
        """Apply statements of Campaign about contacts.

        If an id occurs twice, the later change counts; without times of change the opt-out does, and Campaign is
        queried if the ledger has a row of the contact.

        Args:
            statements: the columns id (String), and per attribute its value under its name (Boolean, null: no
                statement) and its time of change under `<attribute>LastModified` (null: unknown).
            attributes: opt-out attributes, Campaign's names.
            source: what the statements come from, for the log of decisions.
            stated_at: when Campaign made the statements, at the earliest.
            latest: when Campaign made them, at the latest; None: at `stated_at`.

        Returns:
            The number of statements by kind.
        """
        at, latest_at = times.to_micros(stated_at), times.to_micros(latest or stated_at)
        counts: Counter[Stated] = Counter()

        def work(connection: Connection) -> None:
            counts.clear()
            known = self._rows.load(connection, statements["id"].unique().to_list())
            rows = dict(known)
            changed: dict[tuple[str, str], OptOutRow] = {}
            for name in attributes:
                stated = statements.select("id", name, f"{name}{CHANGED_SUFFIX}").filter(statements[name].is_not_null())
                # Nearly all rows of a file state "not opted out" of contacts without a row: loop over the others only.
                known_ids = [id_ for id_, attribute in known if attribute == name]
                plain = ~stated[name] & stated[f"{name}{CHANGED_SUFFIX}"].is_null() & ~stated["id"].is_in(known_ids)
                counts["default"] += int(plain.sum())
                worth = stated.filter(~plain).with_columns(
                    at=stated.filter(~plain)[f"{name}{CHANGED_SUFFIX}"].dt.epoch("us")
                )
                for id_, value, changed_at in (
                    worth.sort("at", nulls_last=False, maintain_order=True).select("id", name, "at").rows()
                ):
                    row = rows.get((id_, name))
                    start = row or OptOutRow(id_, name)
                    kind, moved = rules.after_statement(
                        start, int(value), changed_at, at, source, known=row is not None, latest=latest_at
                    )
                    counts[kind] += 1
                    if moved is not None:
                        rows[id_, name] = changed[id_, name] = moved
            self._rows.put(connection, known, changed.values())

        self._session.database.write(work)
        return counts

    def opt_outs_due(
        self, state: OptOutState, attributes: Sequence[str], *, after: str = "", limit: int = 500
    ) -> dict[str, list[OptOutRow]]:
        """Return up to `limit` contacts with rows in this state, ordered by id, with ids after `after`.

        Contacts under a privacy hold are left out.
        """
        text = sa.text(_DUE.format(state=int(state))).bindparams(sa.bindparam("attributes", expanding=True))
        with self._session.database.read() as connection:
            given = {"after": after, "attributes": list(attributes), "limit": limit}
            ids = list(connection.execute(text, given).scalars())
            found = [
                OptOutRow(*row)
                for row in self._session.bulk.for_ids(connection, _ROWS, ids, also="ORDER BY id, attribute")
            ]
        due: dict[str, list[OptOutRow]] = {id_: [] for id_ in ids}
        for row in found:
            if row.state == state and row.attribute in attributes:
                due[row.id].append(row)
        return due

    def opt_outs_of(self, ids: Sequence[str]) -> list[OptOutRow]:
        """Return all rows of these contacts."""
        with self._session.database.read() as connection:
            return [
                OptOutRow(*row)
                for row in self._session.bulk.for_ids(connection, _ROWS, ids, also="ORDER BY id, attribute")
            ]

    def put_opt_outs(
        self, rows: Sequence[OptOutRow], *, gone: Sequence[str] = (), counts: Mapping[str, int] | None = None
    ) -> list[OptOutRow]:
        """Store changed rows, except those that another transaction has changed since they were read.

        Args:
            rows: the new rows, with the versions as read.
            gone: contacts that Dynamics 365 no longer has; their rows are deleted.
            counts: added to today's opt-out counts.

        Returns:
            The rows that were stored, with their new versions. Only these may be stored again: the version of a row
            that was not stored may by chance be the one that ours would have.
        """

        def work(connection: Connection) -> list[OptOutRow]:
            there = self._rows.load(connection, list(dict.fromkeys(row.id for row in rows)))
            versions = {key: row.version for key, row in there.items()}
            stored = [row for row in rows if versions.get((row.id, row.attribute)) == row.version]
            self._rows.put(connection, there, stored)
            self._rows.forget(connection, gone)
            self._rows.add_counts(connection, counts or {})
            return [row._replace(version=row.version + 1) for row in stored]

        return self._session.database.write(work)

    def retry_opt_outs(self, id: str | None = None) -> int:
        """Make rejected opt-outs, of one contact or of all, due for a decision again; return how many."""
        return self._again(_O.state == OptOutState.REFUSED.value, id)

    def reconsider_opt_outs(self, state: OptOutState) -> int:
        """Make opt-outs in a state due for a decision again, as after a change of direction; return how many."""
        return self._again(_O.state == state.value, None)

    def _again(self, condition: sa.ColumnElement[bool], id: str | None) -> int:
        def work(connection: Connection) -> int:
            wanted = sa.select(*(_O[name] for name in OptOutRow._fields)).where(schema.OPT_OUT_DUE, condition)
            if id is not None:
                wanted = wanted.where(_O.id == id)
            found = [
                OptOutRow(*row) for row in connection.execute(wanted.order_by(_O.id, _O.attribute).with_for_update())
            ]
            known = {(row.id, row.attribute): row for row in found}
            self._rows.put(connection, known, [rules.due_again(row, ask=True) for row in found])
            return len(found)

        return self._session.database.write(work)

    def opt_outs_left(self, attributes: Sequence[str]) -> OptOutsLeft:
        """Count the opt-outs of these attributes that are not synced, by state."""
        held = sa.exists().where(schema.hold.c.table_name == CONTACT, schema.hold.c.id == _O.id)
        left = (
            sa.select(_O.state, held.label("held"), sa.func.count())
            .where(schema.OPT_OUT_DUE, _O.attribute.in_(list(attributes)))
            .group_by(_O.state, "held")
        )
        numbers: Counter[int] = Counter()
        kept_back = 0
        with self._session.database.read() as connection:
            for state, is_held, number in connection.execute(left):
                if is_held:
                    kept_back += number
                else:
                    numbers[state] += number
        return OptOutsLeft(
            decide=numbers[OptOutState.DECIDE],
            to_d365=numbers[OptOutState.TO_D365],
            to_campaign=numbers[OptOutState.TO_CAMPAIGN],
            refused=numbers[OptOutState.REFUSED],
            held=kept_back,
        )

    def refused_opt_outs(self) -> list[Reject]:
        """Return the opt-outs that the system to be written rejected, as rejects of the contact."""
        wanted = sa.select(_O.id, _O.attribute, _O.reason, _O.failed_since, _O.attempts).where(
            schema.OPT_OUT_DUE, _O.state == OptOutState.REFUSED.value
        )
        with self._session.database.read() as connection:
            rows = connection.execute(wanted.order_by(_O.id, _O.attribute)).all()
        return [
            Reject(
                CONTACT,
                row.id,
                f"{row.attribute}: {row.reason}",
                times.from_micros(row.failed_since),
                row.attempts,
                retryable=True,
            )
            for row in rows
        ]

    def opt_out_counts(self, day: date) -> dict[str, int]:
        """Return the opt-out counts of a UTC day, by kind."""
        with self._session.database.read() as connection:
            rows = connection.execute(sa.select(_C.kind, _C.number).where(_C.day == times.to_day_number(day)))
            return {row.kind: row.number for row in rows}
