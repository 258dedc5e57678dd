"""What a simulated run leaves behind for the checker: plain data, without any code of the program.

The simulator fills these classes, `checker.check` judges them. Tests of the checker write them by hand.

Values are those of the systems: a row as Dynamics 365's dump shows it (`_new_contactid_value` for the lookup
`new_contactid`, choices as numbers, empty columns as None), a record as Campaign's dump shows it (`PKey`, links as
`{"PKey": ...}` or None). Times are of the simulated clock, with a zone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Row = Mapping[str, Any]
"""A row of Dynamics 365."""
Record = Mapping[str, Any]
"""A record of Campaign."""
ColumnKind = Literal["text", "integer", "decimal", "boolean", "choice", "choices"]
AttributeKind = Literal["text", "integer", "float", "boolean"]
CallKind = Literal["insert", "update", "delete", "read"]


@dataclass(frozen=True, order=True)
class Moment:
    """A place in the run. `n` counts all events of the run, so that two events of one simulated instant have an order.

    `n` must grow with time; gaps do no harm.
    """

    n: int
    at: datetime


@dataclass(frozen=True)
class Column:
    """A column of Dynamics 365. `labels`: of its choices, by number."""

    kind: ColumnKind
    labels: Mapping[int, str] = field(default_factory=dict[int, str])


@dataclass(frozen=True)
class Attribute:
    """An attribute of Campaign.

    Attributes:
        kind: Type.
        length: Characters that it holds at most; None for no limit.
        smart_case: True if Campaign stores a text with capital initials (`smartCase`).
    """

    kind: AttributeKind = "text"
    length: int | None = None
    smart_case: bool = False


@dataclass(frozen=True)
class Table:
    """A mapped table. Its mapping, filters and links stand in the configuration document.

    Attributes:
        table: Name in Dynamics 365.
        resource: Name in Campaign.
        id: Column with the primary key, as in `contactid`.
        key: Attribute that takes the id.
        columns: Columns that are mapped, filtered or an opt-out. Lookups are not listed.
        attributes: Attributes that are mapped or an opt-out. Links are not listed.
    """

    table: str
    resource: str
    id: str
    key: str
    columns: Mapping[str, Column]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True)
class RowChange:
    """A change in Dynamics 365, writes that change nothing included.

    Attributes:
        moment: When the change took effect.
        table: Of the row.
        id: Of the row.
        before: The row; None if it was inserted.
        after: The row; None if it was deleted.
        by: Who did it. `program` only for requests of the program.
        sent: When the program sent the request.
    """

    moment: Moment
    table: str
    id: str
    before: Row | None
    after: Row | None
    by: Literal["user", "program"] = "user"
    sent: Moment | None = None


@dataclass(frozen=True)
class EngineCall:
    """A request that reached Campaign's engine, refused ones included; those of the gateway are not listed.

    Attributes:
        sent: When the program sent it.
        handled: When the engine handled it. A repeated request is two calls.
        delivered: When the engine's own answer had reached the program whole. None if it never did: cut, replaced by
            an invalid body, too late for a caller that had given up, or the caller's process had ended.
        process: Number of the program's process that sent it; a restart after a crash is another process.
        method: HTTP method.
        resource: Of the record.
        key: Our id, from the URL, the filter or the body, or by the PKey of the URL; None for a list.
        pkey: PKey in the URL, or of the record that was inserted; None if there is none.
        body: As sent.
        status: HTTP status of the engine's answer.
        before: The addressed record before; None if there was none, and for lists.
        after: The addressed record after; equal to `before` if the call had no effect.
        shown: Keys of the records that the answer of a GET contained.
        kind: As the contract counts it.
    """

    sent: Moment
    handled: Moment
    delivered: Moment | None
    process: int
    method: Literal["POST", "PATCH", "DELETE", "GET"]
    resource: str
    key: str | None
    pkey: str | None
    body: Mapping[str, Any] | None
    status: int
    before: Record | None
    after: Record | None
    kind: CallKind
    shown: tuple[str, ...] = ()

    @property
    def took_effect(self) -> bool:
        """Return True if the call changed Campaign."""
        return self.before != self.after


@dataclass(frozen=True)
class RecordChange:
    """A change in Campaign that other people made, to records of ours (opt-outs) or of theirs.

    Attributes:
        before: None if it was inserted.
        after: None if it was deleted.
        by: `program` for a request that was sent to a former target (checker.py); `import` for a load by file.
    """

    moment: Moment
    resource: str
    pkey: str
    before: Record | None
    after: Record | None
    by: Literal["others", "program", "import"] = "others"


@dataclass(frozen=True)
class ExportFile:
    """An opt-out file on the SFTP.

    Attributes:
        name: As in `optout_20261127_060000.csv`.
        extracted: When Campaign read the rows.
        written: When the file was complete.
        rows: Cells by header, as text.
        read: When the program first read it to its end; None if it did not.
    """

    name: str
    extracted: Moment
    written: Moment
    rows: tuple[Mapping[str, str], ...]
    read: Moment | None = None


@dataclass(frozen=True)
class Refusal:
    """Campaign refuses writes of this record, whatever they contain, in this time. `until`: None if for ever."""

    table: str
    id: str
    since: Moment
    until: Moment | None = None


@dataclass(frozen=True)
class Hold:
    """A privacy hold of a contact.

    `since`: when the command had ended. `until`, `released`: when the release began and had ended.
    """

    contact: str
    since: Moment
    until: Moment | None = None
    released: Moment | None = None


@dataclass(frozen=True)
class Verification:
    """An answer of `hold verify` at `moment`, which was asked at `began`.

    `gone`: whether it said that neither system has the contact, nor will.
    """

    contact: str
    began: Moment
    moment: Moment
    gone: bool


@dataclass(frozen=True)
class Replay:
    """A replay of all rows of a table, or a retry of its rejected records (`kind`)."""

    moment: Moment
    table: str
    kind: Literal["replay", "forced replay", "retry"]


@dataclass(frozen=True)
class LedgerReport:
    """What the program's own ledger reports at the end.

    Attributes:
        counts: Number of records by table and state (`pending`, `waiting`, `failed`, `held`, `orphaned`, `synced`).
        waiting: Ids by table.
        orphaned: Ids by table.
        rejected: Ids by table.
        engine_calls: Number of calls by UTC day (`2026-11-27`) and kind.
    """

    counts: Mapping[str, Mapping[str, int]]
    waiting: Mapping[str, frozenset[str]]
    orphaned: Mapping[str, frozenset[str]]
    rejected: Mapping[str, frozenset[str]]
    engine_calls: Mapping[str, Mapping[CallKind, int]]


@dataclass(frozen=True)
class Observed:
    """A whole run.

    Attributes:
        configuration: The YAML document at the end.
        tables: Parents before their children.
        premises: Switches of the sandbox that differ from the documented position, by name.
        rows: Changes in Dynamics 365 since it was empty, in order.
        calls: Engine calls in the order in which the engine handled them.
        others: Changes in Campaign by other people since it was empty, in order.
        files: Opt-out files in the order of their names.
        refusals: Records that Campaign refuses.
        holds: Privacy holds.
        replays: In order.
        crashes: When a process of the program ended without warning, with its number.
        final_rows: Dynamics 365 at the end, rows by table.
        final_records: Campaign at the end, records by resource.
        ledger: At the end.
        idle: True if the last sync ended by itself with healthy services and nothing pending.
        end: The end of the run.
        replaced: Earlier configurations, in order, with the moment at which each was replaced between two syncs.
        restored: When the ledger was copied, and when the copy took its place and was rebuilt.
        verified: In order.
        retargeted: When profiles got another key attribute, and the tables before; `tables` have the new one.
        abandoned: Tables whose load by file was given up, and when that began: its import may still insert for a while.
        former_keys: Key attributes before they were changed, by table. Until a profile has the new key, Campaign hides
            the records that are linked to it.
        unmapped: Tables whose link, which Campaign requires, was not among the `links`, and from when until when.
        reads: When Dynamics 365 handled a read of rows by the program, and their table.
        unanswered: Requests about records that were sent and did not reach the engine, without an answer of the
            gateway: their sender cannot know whether they are engine calls.
    """

    configuration: Mapping[str, Any]
    tables: tuple[Table, ...]
    premises: Mapping[str, Any]
    rows: tuple[RowChange, ...]
    calls: tuple[EngineCall, ...]
    others: tuple[RecordChange, ...]
    files: tuple[ExportFile, ...]
    refusals: tuple[Refusal, ...]
    holds: tuple[Hold, ...]
    replays: tuple[Replay, ...]
    crashes: tuple[tuple[Moment, int], ...]
    final_rows: Mapping[str, tuple[Row, ...]]
    final_records: Mapping[str, tuple[Record, ...]]
    ledger: LedgerReport
    idle: bool
    end: Moment
    replaced: tuple[tuple[Moment, Mapping[str, Any]], ...] = ()
    unanswered: tuple[tuple[Moment, CallKind], ...] = ()
    reads: tuple[tuple[Moment, str], ...] = ()
    restored: tuple[tuple[Moment, Moment], ...] = ()
    verified: tuple[Verification, ...] = ()
    retargeted: tuple[Moment, tuple[Table, ...]] | None = None
    unmapped: tuple[tuple[str, Moment, Moment], ...] = ()
    abandoned: tuple[tuple[Moment, str], ...] = ()
    former_keys: Mapping[str, str] = field(default_factory=dict[str, str])
