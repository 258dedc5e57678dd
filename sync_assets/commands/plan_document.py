"""The document of `plan`: structs of its members, which `plan --json` prints. `plan_text.py` renders them."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from sync_assets.bulk_load.forecast import ByFile
from sync_assets.ledger.model import Load, LoadKind, Operation
from sync_assets.ledger.report_values import ButFor


class SidesOfAttribute(msgspec.Struct, frozen=True, kw_only=True):
    """A value in Campaign and as mapped. campaign: absent if it was not read, and of a link."""

    campaign: Any = msgspec.UNSET
    mapped: Any

    def __repr__(self) -> str:
        return "SidesOfAttribute()"  # the values are personal data


class PlannedChange(msgspec.Struct, frozen=True):
    """A record that a sync would write or reject. values: with `--show-values`. reason: of a rejection."""

    id: str
    operation: Operation | Literal["reject"]
    attributes: list[str] | msgspec.UnsetType = msgspec.UNSET
    values: dict[str, SidesOfAttribute] | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET


class LoadStatus(msgspec.Struct, frozen=True):
    """A load of a table by file; in `status` and `plan` one that is not done.

    Attributes:
        load: The UTC time of its beginning, as in the names of its files.
        kind: `insert`, or `update` of attributes that REST refuses in updates, whose records are not loading.
        since: When it came into its state: writing, ready, started, running; ended and done: when its workflow ended.
        problem: Why it waits for a person; null if it does not.
    """

    load: str
    kind: LoadKind
    workflow: str
    state: str
    since: datetime
    problem: str | None


def load_status(load: Load) -> tuple[Any, ...]:
    """Return the values of a LoadStatus."""
    return (load.name, load.kind, load.workflow, load.state.name.lower(), load.since, load.problem)


class TableState(msgspec.Struct, frozen=True, kw_only=True):
    """What `plan` and `status` say of a table: the number of its records by state, and what a person must know.

    loading: records in files of an unfinished load, which are not among `pending`.
    """

    resource: str
    pending: int
    waiting: int
    rejected: int
    held: int
    orphaned: int
    loading: int
    load: LoadStatus | None
    waiting_for: dict[str, int]
    deletes_held_back: int
    kept_values: dict[str, int]
    deletes_following: dict[str, int]
    deletes_orphaning: dict[str, int]
    in_step_but_for: ButFor


class PlannedTable(TableState, frozen=True, kw_only=True):
    """A table: records by state, and by what a sync would do; others as in TableStatus.

    Attributes:
        by_file: First inserts that go by file; `engine_calls` has their reads.
        uncertain: Records that Campaign may hold or not, sent or looked up: each may cost a call more or less.
        changes: With `--changes`, in their order.
    """

    insert: int
    update: int
    delete: int
    unchanged: int
    uncertain: int
    mapping_changes: list[str]
    problem: str | None
    engine_calls: dict[str, int]
    by_file: ByFile | None = None
    changes: list[PlannedChange] | msgspec.UnsetType = msgspec.UNSET
    changes_not_listed: int | msgspec.UnsetType = msgspec.UNSET


class PlannedBudget(msgspec.Struct, frozen=True):
    """Engine calls of the current UTC day. fits_today: calls of the plan that fit into the
    rest of it.
    """

    engine_calls_per_day: int
    used_today: int
    left_today: int
    fits_today: int


class PlanDocument(msgspec.Struct, frozen=True):
    """The document of `plan --json`. seconds: at `calls_per_hour`. opt_out: those that are left, by state."""

    tables: dict[str, PlannedTable]
    engine_calls: dict[str, int]
    seconds: float
    calls_per_hour: int
    budget: PlannedBudget | None
    opt_out: dict[str, int] | None
    notes: list[str]
