"""Which moves of a record between its nine states the rules allow: docs/dev/states.md shows them all."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import sync_assets
from sync_assets.ledger.model import OTHER, BlockReason, Orphaned, Outcome, Result, State
from sync_assets.ledger.rules.constraints import RECORD
from sync_assets.ledger.rules.predicates import MUST_NOT_EXIST
from sync_assets.ledger.rules.record_state import Dependencies, RecordState, reevaluate
from sync_assets.ledger.rules.transitions import Row, after_capture, after_outcome, after_removal, is_purgeable

PAGE = Path(sync_assets.__file__).parent / "docs" / "dev" / "states.md"
NOW, HORIZON, A, B = 10, 3_600_000_000, b"a" * 16, b"b" * 16
RESULTS: tuple[Result, ...] = ("done", "refused", "unknown", "later", "missing")
DEPENDENCIES = (
    Dependencies(),
    Dependencies(held=True),
    Dependencies(excluded=True),
    Dependencies(block_reason=BlockReason.PARENT_PENDING),
    Dependencies(has_children=True),
    Dependencies(relink=True),
    Dependencies(orphaned=Orphaned.KEPT),
    Dependencies(orphaned=Orphaned.DELETED),
    Dependencies(orphaned=Orphaned.DELETED, has_children=True),
)
STORED = {"reason": "no", "acked_at": 0, "update_payload": None, "not_before": None, "kept_values": 0, "incarnation": 1}
"""Columns that no rule reads or moves."""
Move = tuple[str, RecordState | None]
"""Who moves a record, and the record then; None: it is purged."""


def placed(record: RecordState, dependencies: Dependencies) -> RecordState | None:
    where = reevaluate(record._replace(orphaned=dependencies.orphaned), dependencies)
    return where and record._replace(state=where.state, block_reason=where.block_reason, orphaned=dependencies.orphaned)


def first_records() -> Iterator[RecordState]:
    """Yield each combination of columns, in the state in which the rules place it."""
    for desired, acked, unknown, resend, out, invalid, payload, until in itertools.product(
        (None, A), (None, A, B, OTHER), (0, 1), (0, 1), (0, 1), (None, "too long"), ("{}", None), (None, HORIZON)
    ):
        record = RecordState(
            1, "order", "1", State.PENDING, BlockReason.NONE, Orphaned.NO, 0, desired, acked, unknown, resend, out,
            invalid if desired else None, 0, None, payload, payload is not None, until,
        )  # fmt: skip
        yield from filter(None, (placed(record, one) for one in DEPENDENCIES))


def misfits(record: RecordState | None) -> list[str]:
    """Return the constraints of the database that a stored record would break."""
    if record is None:
        return []
    row = SimpleNamespace(**{**record._asdict(), **STORED, "payload": record.payload if record.has_payload else None})
    return [name for name, check in RECORD.items() if not check(row)]


def moves(record: RecordState) -> Iterator[Move]:
    for row in (Row(A, None, "{}", "{}"), Row(B, None, "{}", "{}"), Row(A, "too long", None, None)):
        if moved := after_capture(record, row, resend=False, now=NOW):
            yield "row", moved
    for out, resend in ((True, True), (True, False), (False, False)):
        left = record._replace(out_of_scope=1) if out else record._replace(desired_hash=None, out_of_scope=0)
        if is_purgeable(left):
            yield "removal", None
        elif moved := after_removal(record, out_of_scope=out, resend=resend, now=NOW):
            yield "removal", moved
    for one in DEPENDENCIES:
        yield "relatives", placed(record, one)
    if record.state == State.PENDING:
        claimed = record._replace(outcome_unknown=2 if record.outcome_unknown else 1, resend=2 if record.resend else 0)
        sent = None if MUST_NOT_EXIST(record) else record.desired_hash
        for result in RESULTS:
            outcome = Outcome(1, result, sent, "no", unanswered=result == "unknown", operation="update")
            answered = after_outcome(claimed, outcome, now=NOW, horizon=HORIZON)
            yield "answer", answered and answered.record


def table() -> list[str]:
    """Return the table of all moves, in Markdown. Each record met fits the constraints of the database."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    seen = set(first_records())
    todo = [*seen]
    while todo:
        record = todo.pop()
        for by, moved in moves(record):
            if by in ("row", "removal"):  # the others erase a payload when they are stored
                assert not misfits(moved) or misfits(record), (misfits(moved), record, moved)
            found[State(record.state).name, State(moved.state).name if moved else "purged"].add(by)
            if moved and by == "answer":
                as_first = moved._replace(incarnation=0, failed_since=None, attempts=min(moved.attempts, 1))
                todo += {as_first} - seen
                seen.add(as_first)
    names = [state.name for state in State]
    lines = [["from", *names, "purged"], ["---"] * (len(names) + 2)]
    for name in names:
        cells = (", ".join(sorted(found[name, to])) if name != to else "" for to in (*names, "purged"))
        lines.append([name, *cells])
    return ["| " + " | ".join(line) + " |" for line in lines]


def test_the_page_of_states_shows_each_move_that_the_rules_make_and_the_database_takes() -> None:
    shown = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert shown == table(), "replace the table of docs/dev/states.md by:\n" + "\n".join(table())
