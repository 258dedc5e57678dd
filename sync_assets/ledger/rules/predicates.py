"""State each condition on a stored record, or on a link, once: both as Python and as SQL. Pure: no database.

A predicate is called with a record that has its columns as attributes, and written into an SQL text: `str` names the
columns as they are, `of` those of a table or alias. storage/schema.py `holds` makes a condition for SQLAlchemy of it.
A test compares both forms for each combination of the columns' values, on both databases.

Invariant: no part of a predicate is NULL, so that its negation is right in SQL, too.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

from sync_assets.ledger.model import BlockReason, Orphaned, State


class Predicate:
    """A condition on the columns of a record. `&`, `|` and `~` make further ones.

    columns: the names of those that it reads.
    """

    def __init__(self, python: str, sql: str, *columns: str) -> None:
        """python: an expression on `record`. sql: the same, with {0} before the name of each column."""
        self._python, self._sql, self.columns = python, sql, frozenset(columns)
        self._holds: Callable[[Any], bool] = eval(f"lambda record: {python}")  # noqa: S307 - of the constants below

    def __call__(self, record: Any) -> bool:
        """Return True if the record meets the condition."""
        return self._holds(record)

    def of(self, table: str) -> str:
        """Return the SQL of the condition on the columns of a table or alias."""
        return self._sql.format(f"{table}.")

    def __str__(self) -> str:
        return self._sql.format("")

    def __and__(self, other: "Predicate") -> "Predicate":
        return self._with("and", other)

    def __or__(self, other: "Predicate") -> "Predicate":
        return self._with("or", other)

    def __invert__(self) -> "Predicate":
        return Predicate(f"(not {self._python})", f"(NOT {self._sql})", *self.columns)

    def _with(self, word: str, other: "Predicate") -> "Predicate":
        python, sql = ((mine, theirs) for mine, theirs in ((self._python, other._python), (self._sql, other._sql)))
        columns = self.columns | other.columns
        return Predicate(f"({f' {word} '.join(python)})", f"({f' {word.upper()} '.join(sql)})", *columns)


def absent(column: str) -> Predicate:
    """Return the condition that a column is NULL."""
    return Predicate(f"(record.{column} is None)", f"({{0}}{column} IS NULL)", column)


def present(column: str) -> Predicate:
    """Return the condition that a column is not NULL."""
    return Predicate(f"(record.{column} is not None)", f"({{0}}{column} IS NOT NULL)", column)


def above(column: str, number: int = 0) -> Predicate:
    """Return the condition that a column, which is never NULL, is above a number."""
    return Predicate(f"(record.{column} > {number:d})", f"({{0}}{column} > {number:d})", column)


def is_one(column: str, *numbers: int) -> Predicate:
    """Return the condition that a column, which is never NULL, has one of these values."""
    if len(numbers) == 1:
        number = int(numbers[0])
        return Predicate(f"(record.{column} == {number})", f"({{0}}{column} = {number})", column)
    listed = ", ".join(str(int(number)) for number in numbers)
    return Predicate(f"(record.{column} in ({listed}))", f"({{0}}{column} IN ({listed}))", column)


def within(column: str, first: int, last: int) -> Predicate:
    """Return the condition that a column, which is never NULL, has a value in a range: faster than a list of many."""
    python = f"({first:d} <= record.{column} <= {last:d})"
    return Predicate(python, f"({{0}}{column} BETWEEN {first:d} AND {last:d})", column)


def same(column: str, other: str) -> Predicate:
    """Return the condition that two columns have the same value, and none of them is NULL."""
    equal = Predicate(f"(record.{column} == record.{other})", f"({{0}}{column} = {{0}}{other})", column, other)
    return present(column) & present(other) & equal


def all_of(predicates: Iterable[Predicate]) -> Predicate:
    """Return the condition that all of these hold."""
    return reduce(Predicate.__and__, predicates)


# --- a record and Campaign --------------------------------------------------------------------------------------------

ACKNOWLEDGED = present("acked_hash")
OUTCOME_UNKNOWN = above("outcome_unknown")
LATE_REQUEST = present("unknown_until")
"""A request without an answer may still take effect."""
UNANSWERED = OUTCOME_UNKNOWN | LATE_REQUEST
"""What Campaign holds is not known for certain."""
MAY_EXIST = ACKNOWLEDGED | OUTCOME_UNKNOWN
"""Campaign holds the record, or may hold it since the outcome of a request is unknown."""
PERHAPS_SENT = MAY_EXIST | LATE_REQUEST
"""Campaign holds the record, or may hold it now or later."""
MUST_NOT_EXIST = absent("desired_hash") | is_one("orphaned", Orphaned.DELETED)
"""Campaign must not hold the record."""
NO_PARENT = absent("desired_hash") | above("orphaned")
"""No child may be linked to the record: Campaign does not hold it, or not for long."""
DISCONNECTED = absent("desired_hash") | above("out_of_scope")
"""No captured row is mapped to the record: it was deleted, or is out of scope."""
AS_DESIRED = same("desired_hash", "acked_hash") & ~OUTCOME_UNKNOWN
"""Campaign holds the record as its row is mapped."""

# --- states -----------------------------------------------------------------------------------------------------------

UNSENT_STATES = (State.HELD, State.EXCLUDED)
"""States in which a record is not sent and the ledger keeps none of its content."""
PENDING = is_one("state", State.PENDING)
SYNCED = is_one("state", State.SYNCED)
BACKLOG = is_one("state", State.PENDING, State.WAITING)
UNSENT = is_one("state", *UNSENT_STATES)
ONCE_MORE = is_one("state", State.UNCONFIRMED, State.TOMBSTONE)
STUCK = above("state", State.PENDING)
"""In any other state than synced and pending. An index has these records; further conditions on the state follow it."""
WAITING, REJECTED, ORPHANED = (
    STUCK & is_one("state", state) for state in (State.WAITING, State.REJECTED, State.ORPHANED)
)
READY = PENDING & absent("not_before")
"""Pending, without a request that failed and without a load."""
RETRIED = PENDING & present("not_before")
"""Pending, and its requests failed so far; or in a load by file: then the time is the end of all time."""
CLAIMED = present("session")
IN_CAMPAIGN = SYNCED & ACKNOWLEDGED

INSERTABLE = ~DISCONNECTED & is_one("orphaned", Orphaned.NO) & absent("validation_error") & present("payload")
"""Campaign is to hold the values of its row. No orphan: the next request of a pending one is a look-up."""
FIRST_INSERT = READY & ~ACKNOWLEDGED & ~UNANSWERED & INSERTABLE
"""Never sent: a file may bring it. A record that is held, waits for a parent or was rejected is not pending."""

# --- rows -------------------------------------------------------------------------------------------------------------

REFETCH_REQUIRED = is_one("block_reason", BlockReason.REFETCH_REQUIRED)
UNAVAILABLE_PARENT = is_one("block_reason", BlockReason.PARENT_UNAVAILABLE)
MAY_LACK_PARENT = all_of(
    (
        STUCK | (READY & MUST_NOT_EXIST) | (RETRIED & MUST_NOT_EXIST),  # an index for each
        ~is_one("block_reason", BlockReason.PARENT_PENDING) & is_one("orphaned", Orphaned.NO),
    )
)
"""Perhaps the ledger has no record of a required parent, whose row may still come."""
BLOCKED_BY_PARENT = is_one("block_reason", BlockReason.PARENT_PENDING, BlockReason.PARENT_UNAVAILABLE)
NEEDS_ROW = DISCONNECTED | present("validation_error") | REFETCH_REQUIRED
"""Its next row is applied even if it is the one captured last."""
KEEPS_VALUES = above("kept_values")
BUT_FOR = present("refusable") & ~same("refusable", "held_refusable")
"""Of attributes that Campaign may refuse in updates, it holds other values than the row, or that is not known."""
MAY_DIFFER = NEEDS_ROW | ~ACKNOWLEDGED | KEEPS_VALUES
"""Its next row may be a change even if the hash is equal."""
REFUSED_BY_CAMPAIGN = absent("validation_error") | above("attempts")
"""Of a rejected record: Campaign rejected a request for it, even if the row has a validation error too.

A record that has only a validation error was never sent, so it has no attempts.
"""

# --- links ------------------------------------------------------------------------------------------------------------

BINDS = above("required") | above("keyed")
"""Of a link: child and parent depend on each other. A plain attribute that may lead nowhere does not bind."""
MOVED = present("acked_id") & ~same("parent_id", "acked_id")
"""Of a link: the lookup no longer names the parent that Campaign acknowledged."""
HOLDS_PARENT = (~is_one("orphaned", Orphaned.KEPT) | OUTCOME_UNKNOWN) & (
    ~is_one("state", State.EXCLUDED) | is_one("orphaned", Orphaned.DELETED)
)
"""Of a child with a link that Campaign may hold: the delete of its parent waits until it is relinked, unlinked or
deleted. An orphan that Campaign keeps is not waited for, nor an excluded child, which is only ever deleted."""
