"""The ledger's value types: states, feeds, claims, outcomes and reports that it exchanges with the rest of the program.

Here: plain values without behaviour. The rules are in rules/, the tables in storage/schema.py. Times are UTC.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Literal, NamedTuple

from sync_assets.ledger import times

Operation = Literal["insert", "update", "delete"]
Result = Literal["done", "missing", "refused", "later", "unknown"]
HistoryOperation = Literal["insert", "update", "delete", "link", "compare", "validate"]
"""link: an update of links alone. compare: no request; Campaign's list of records showed what it holds. validate: no
request; the captured row has a validation error."""
HistoryOutcome = Literal["acknowledged", "missing", "rejected", "deferred", "unknown"]
"""deferred: Campaign did not process the request; it is repeated without further action."""

INSERTED = (
    *("table_name", "id", "desired_hash", "validation_error", "payload", "update_payload", "state"),
    *("failed_since", "changed_at", "row_version", "insert_only_hash", "filled", "refusable"),
    "held_refusable",
)
"""The columns of a new record, in the order of prepared_page.LedgerPage.records."""

HELD_NOT_KNOWN = 0
"""Stored as the hash of the attributes that Campaign may refuse in updates, if it is not known what Campaign holds."""
REFUSABLE_MARK = 0xFF
"""The bits of such a hash that tell of which attributes it is: only hashes of the same are compared."""

OTHER = bytes(16)
"""Stored as the acknowledged hash of a record that Campaign holds with other content than we would send."""


class State(IntEnum):
    """The state of a record. The numbers are stored, so they never change their meaning."""

    SYNCED = 0  # Campaign acknowledged what it should hold
    PENDING = 1  # something is to be sent
    WAITING = 2  # to be sent once its parents or children allow it, or its row was read again; see BlockReason
    REJECTED = 3  # rejected by Campaign, or its row has a validation error; until it changes or is retried
    HELD = 4  # under a privacy hold: written to neither system
    ORPHANED = 5  # nothing is sent: a required parent is gone for good, or its lookup is empty; see Orphaned
    EXCLUDED = 6  # of a person who had been deleted when the hold was released: never inserted or updated again
    UNCONFIRMED = 7  # as SYNCED, but an earlier request may still take effect: sent once more at its horizon
    TOMBSTONE = 8  # deleted in Campaign, but an earlier request may still take effect: deleted once more at its horizon

    @property
    def word(self) -> str:
        """The state as shown to users."""
        return {"UNCONFIRMED": "synced", "TOMBSTONE": "deleted"}.get(self.name, self.name.lower())


class Orphaned(IntEnum):
    """Whether a required parent is gone for good, and what Campaign's copy becomes. The numbers are stored."""

    NO = 0
    KEPT = 1  # Campaign keeps what it holds, and nothing is sent
    DELETED = 2  # Campaign must not hold the record


ENDED, GIVEN_UP = 0, -1
"""Stored in place of a run's session. ENDED: its work ended by itself. GIVEN_UP: its process was killed, and another
run may continue its work."""
FOLLOWER = "*"
"""Stored in place of tables for the run that follows all of them; no table has this name."""


END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
"""The time until which a load by file has claimed a record: it ends the claim itself."""
END_OF_TIME_MICROS = times.to_micros(END_OF_TIME)


class Heartbeat(NamedTuple):
    """The last heartbeat of a Dagster run.

    session: the epoch of its process's session, ENDED or GIVEN_UP. at: its time, UTC. worker: the process
    (runtime/workers.py); None once its session has ended, expired or is overdue. tables: those that it alone captures
    and sends meanwhile; FOLLOWER for the run that follows all others.
    """

    session: int
    at: datetime
    worker: str | None = None
    tables: frozenset[str] = frozenset()


class BlockReason(IntEnum):
    """Why a record may not be sent yet. The numbers are stored, so their meaning never changes."""

    NONE = 0
    PARENT_PENDING = 1  # a parent is not acknowledged yet
    PARENT_UNAVAILABLE = 2  # a required parent is rejected, or was not captured and may still come
    REFETCH_REQUIRED = 3  # its row must be read again: an acknowledgement or a hold erased the payload
    CHILDREN_PENDING = 4  # pending delete, and its children are deleted or unlinked first


class Loss(IntEnum):
    """Why the parent of an orphaned record is unavailable, as far as it was captured.

    NOT_KNOWN, DELETED and FILTERED_OUT are stored with the link, so these numbers never change their meaning.
    """

    NOT_KNOWN = 0  # the full read of its table did not return it
    DELETED = 1  # deleted in Dynamics 365
    FILTERED_OUT = 2  # its row left the filter
    NONE_NAMED = 3  # the lookup is empty
    ORPHANED = 4  # the parent is orphaned itself


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A configured link from a child table to a parent table.

    attribute: of the child in Campaign, also a column of the captured rows.
    required: Campaign never holds the child without this parent (cardinality one).
    keyed: sent as a link (style auto, key or pkey); if not, the payload itself holds the parent's key in a plain
    attribute (style join).
    keep_orphans: Campaign keeps a child whose required parent is gone for good; if False, it is deleted.
    apply_updates: the link of an acknowledged record follows the lookup; if False, on a replay only.
    """

    attribute: str
    parent_table: str
    required: bool = True
    keyed: bool = True
    keep_orphans: bool = False
    apply_updates: bool = True


class LinkTo(NamedTuple):
    """A link to be sent with a record.

    id: the parent's, None for no link. acknowledged: Campaign's record is known to hold exactly this link. parent: the
    parent's record number and incarnation; None if there is no link, or the parent is not known to be in Campaign.
    """

    attribute: str
    id: str | None
    keyed: bool
    acknowledged: bool = False
    parent: tuple[int, int] | None = None


class LoadState(IntEnum):
    """The state of a load by file. The numbers are stored, so they never change their meaning."""

    WRITING = 0  # records are claimed, and files written
    READY = 1  # all files are complete on the SFTP
    STARTED = 2  # its workflow was commanded to start, or is about to be
    RUNNING = 3  # the workflow was seen at work
    ENDED = 4  # it ended: Campaign's records are to be listed
    DONE = 5


LoadEnd = Literal["finished", "error", "unseen", "abandoned"]
"""finished, error: the workflow's status, after it was seen at work. unseen: the same, but it never was. abandoned: a
person's word that it will not run any more."""


LoadKind = Literal["insert", "update"]
"""insert: of first inserts, which it claims. update: of attributes that REST refuses in updates; it claims nothing."""


class Load(NamedTuple):
    """A load of one table by file.

    name: the UTC time of its beginning, as in its files' names. session: the epoch that claims its records. records:
    claimed ones; of an update, those in the file. more: True if further records were left for the next load.
    commanded_at: when the workflow was commanded to start. missing: records that Campaign did not hold as written
    at the end; of an update, records of the table that are in step but for its attributes; None before. problem: why it
    waits for a person, as its last turn found; None if it does not. left_out: records that no file can hold. rewrites:
    how often its files were written anew. directory: of its files on the SFTP. columns: of its files, see
    `FileColumns.names`; empty before the first one. version: raised with each change but of `problem`; a writer must
    name the version that it read.
    """

    table: str
    name: str
    session: int
    workflow: str
    kind: LoadKind
    state: LoadState
    records: int
    more: bool
    began_at: datetime
    commanded_at: datetime | None
    ended_at: datetime | None
    ended_as: LoadEnd | None
    missing: int | None
    problem: str | None
    left_out: int
    rewrites: int
    directory: str
    columns: str
    version: int

    @property
    def since(self) -> datetime:
        """When it came into its state; while it is WRITING or READY, when it began."""
        return self.ended_at or self.commanded_at or self.began_at


class LoadFile(NamedTuple):
    """A complete file of a load. rows: without the header. size: bytes, as uploaded. last_seq: of its last record."""

    number: int
    name: str
    rows: int
    size: int
    last_seq: int


class LoadRow(NamedTuple):
    """A record for a file. payload, links, opt_outs: as of Claimed."""

    seq: int
    id: str
    payload: str
    links: "tuple[LinkTo, ...]"
    opt_outs: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The progress of a rebuild of a table: its cursor and what it found so far.

    link: of the next page of Campaign's records, None before the first one. records: Campaign's records compared so
    far; of these, `equal` hold the desired state, `differing` do not, and `unknown` have an id without a record in the
    ledger.
    """

    table: str
    link: str | None = None
    records: int = 0
    equal: int = 0
    differing: int = 0
    unknown: int = 0


ANY_ATTRIBUTE = "*"
"""In place of names of attributes: Campaign may hold a value of any attribute that the mapping does not write."""


class Claimed(NamedTuple):
    """A pending record that a session has claimed, with what to send.

    payload: JSON of an insert, without its keyed links; None for a delete, and for an update of links alone, which also
    finds out whether Campaign shows the record.
    update_payload: JSON of an update where it differs, else None.
    hash: to be returned in the Outcome; None for a delete.
    attempts: requests since the record last changed.
    outcome_unknown: that of an earlier request is unknown, so an insert may find its own record in Campaign, and an
    update or delete may find none.
    links: to be sent with the record and returned in the Outcome. Those that are not keyed are only to be returned: the
    payload holds them.
    opt_outs: (attribute, Dynamics 365's value), for an insert only: the opt-outs of a record that exists in Campaign
    are decided by sync_assets/opt_out.
    resend: an update sends the whole payload, with the fields that an update would leave out.
    unknown_seconds: until no earlier request without an answer can take effect any more; None if none can.
    incarnation: of the record in Campaign at the claim; 0 if it was never acknowledged.
    reinsert_sent: an insert may have been sent since the last acknowledgement, although Campaign had the record; an
    update may then find that incarnation.
    refusable, held_refusable: hashes of the attributes that Campaign may refuse in updates (mapping/refusable.py), as
    in the row that is sent, and as Campaign holds them.
    changed_at: when the desired state last changed, in microseconds since 1970.
    """

    seq: int
    id: str
    operation: Operation
    payload: str | None
    update_payload: str | None
    hash: bytes | None
    attempts: int
    outcome_unknown: bool
    links: tuple[LinkTo, ...] = ()
    opt_outs: tuple[tuple[str, bool], ...] = ()
    resend: bool = False
    unknown_seconds: float | None = None
    incarnation: int = 0
    reinsert_sent: bool = False
    refusable: int | None = None
    held_refusable: int | None = None
    changed_at: int | None = None

    @property
    def update(self) -> str | None:
        """Return the JSON of an update."""
        return self.payload if self.resend else self.update_payload or self.payload


class Outcome(NamedTuple):
    """The outcome of a request for a claimed record.

    result: done: Campaign holds what was sent, or nothing after a delete. missing: an update of links alone found no
    record: Campaign lacks or hides it. refused: Campaign rejected this record. Both with a `reason`. later: the request
    was not processed, or (without a reason) not sent, which counts as no attempt. unknown: the request was sent, but
    its response was lost.
    hash, links: those of the Claimed record; hash is None after a delete. retry_after_seconds: for later and unknown;
    None is at once.
    inserted_opt_outs: those that Campaign inserted the record with, at `inserted_at`. existing_opt_outs: opt-out
    attributes of a record that existed in Campaign before our insert.
    operation, status, changed_at: for the history; status is the HTTP status of the last write, None without one;
    changed_at as of Claimed. unanswered: a write of this delivery got no answer, so it may still take effect.
    hidden: Campaign inserted the refused record, and hides it: the next try is an update.
    held_refusable: as of Claimed, if it is another one now.
    """

    seq: int
    result: Result
    hash: bytes | None
    reason: str | None = None
    retry_after_seconds: float | None = None
    links: tuple[LinkTo, ...] = ()
    inserted_opt_outs: tuple[tuple[str, bool], ...] = ()
    inserted_at: datetime | None = None
    existing_opt_outs: tuple[str, ...] = ()
    operation: HistoryOperation = "compare"
    unanswered: bool = False
    hidden: bool = False
    held_refusable: int | None = None
    status: int | None = None
    changed_at: int | None = None
