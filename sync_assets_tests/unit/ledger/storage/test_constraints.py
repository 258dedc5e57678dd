"""The database refuses rows that cannot be: each constraint, by a row that breaks it alone."""

from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.model import BlockReason, Loss, Orphaned, State
from sync_assets.ledger.rules.merged_contacts import MergeState
from sync_assets.ledger.rules.opt_outs import OptOutState
from sync_assets.ledger.storage.schema import metadata

A, B = b"a" * 16, b"b" * 16
Row = dict[str, Any]
PENDING: Row = {"table_name": "contact", "id": "1", "changed_at": 0, "state": State.PENDING, "desired_hash": A}
ACKED: Row = PENDING | {"acked_hash": A, "acked_at": 1, "incarnation": 1}
SYNCED: Row = ACKED | {"state": State.SYNCED}
REJECTED: Row = PENDING | {"state": State.REJECTED, "failed_since": 1, "reason": "no"}
ORPHAN: Row = PENDING | {"state": State.ORPHANED, "failed_since": 1, "orphaned": Orphaned.KEPT}
TOMBSTONE: Row = PENDING | {"state": State.TOMBSTONE, "desired_hash": None, "unknown_until": 1}
LINK: Row = {"seq": 1, "attribute": "a", "parent_table": "contact", "required": 1, "keyed": 1, "acked_id": "1"}
FEED: Row = {
    "table_name": "contact",
    "fingerprint": "",
    "saved_at": 0,
    "polled_at": 0,
    "version": 0,
    "deletes": 0,
    "complete": True,
    "resend": False,
    "deletes_approved": False,
}
OPT_OUT: Row = {"id": "1", "attribute": "a", "state": OptOutState.SYNCED}
MERGED: Row = {"id": "1", "attribute": "a", "master": "2", "state": MergeState.NONE}
TO_D365: Row = OPT_OUT | {"state": OptOutState.TO_D365, "value": 1}
REBUILD: Row = {"table_name": "contact", "records": 0, "equal": 0, "differing": 0, "unknown": 0}
LOAD: Row = {"table_name": "contact", "name": "1", "session": 1, "workflow": "WKF1", "state": 0, "records": 0} | {
    "kind": "insert",
    "more": 0,
    "began_at": 0,
    "left_out": 0,
    "rewrites": 0,
    "directory": "",
    "columns": "",
    "version": 0,
}
LOAD_FILE: Row = {"table_name": "contact", "number": 1, "name": "1", "rows": 0, "size": 0, "last_seq": 0}
# A row that is accepted, and what makes it one that the constraint refuses.
REFUSED: dict[str, list[tuple[Row, Row]]] = {
    "sync_record_numbers": [
        (PENDING, {name: value})
        for names, values in [
            (("state",), (-1, 9)),
            (("block_reason",), (-1, 5)),
            (("orphaned", "outcome_unknown", "resend"), (-1, 3)),
            (("reinsert_sent", "out_of_scope"), (-1, 2)),
            (("attempts", "incarnation", "kept_values"), (-1,)),
        ]
        for name in names
        for value in values
    ],
    "sync_record_synced": [
        (SYNCED, row)
        for row in (
            *({"payload": b"{}"}, {"update_payload": b"{}"}, {"block_reason": BlockReason.REFETCH_REQUIRED}),
            *({"desired_hash": B}, {"acked_hash": None}, {"outcome_unknown": 1}, {"unknown_until": 1}),
        )
    ],
    "sync_record_waiting": [(PENDING, {"state": State.WAITING})],
    "sync_record_rejected": [(REJECTED, {"reason": None}), (REJECTED, {"failed_since": None})],
    "sync_record_unsent": [
        (PENDING | {"state": state}, {name: b"{}"})
        for state in (State.HELD, State.EXCLUDED)
        for name in ("payload", "update_payload")
    ],
    "sync_record_orphaned": [(ORPHAN, {"orphaned": Orphaned.NO}), (ORPHAN, {"failed_since": None})],
    "sync_record_unconfirmed": [
        (ACKED | {"state": State.UNCONFIRMED, "unknown_until": 1}, row)
        for row in ({"unknown_until": None}, {"desired_hash": B}, {"acked_hash": None})
    ],
    "sync_record_tombstone": [
        (TOMBSTONE, row)
        for row in ({"unknown_until": None}, {"desired_hash": A}, {"acked_hash": A, "acked_at": 1, "incarnation": 1})
    ],
    "sync_record_acknowledged": [(ACKED, {"acked_at": None}), (ACKED, {"incarnation": 0})],
    "sync_record_deleted": [
        (PENDING | {"desired_hash": None}, row)
        for row in ({"validation_error": "no"}, {"out_of_scope": 1}, {"payload": b"{}"}, {"update_payload": b"{}"})
    ],
    "sync_record_delayed": [(ORPHAN, {"not_before": 1})],
    "sync_link_numbers": [
        (LINK, {name: value})
        for name, value in [("required", 2), ("keyed", -1), ("keep_orphans", 3), ("parent_loss", Loss.NONE_NAMED)]
    ],
    "sync_link_acknowledged": [(LINK | {"acked_incarnation": 1}, {"acked_id": None})],
    "sync_opt_out_numbers": [
        (OPT_OUT, {name: value})
        for name, value in [
            *(("state", 5), ("ask", 3), ("ours", 2), ("written", -1), ("campaign", 2), ("d365", -1)),
            *(("attempts", -1), ("version", -1)),
        ]
    ],
    "sync_opt_out_side": [(OPT_OUT, {"unknown_side": OptOutState.DECIDE})],
    "sync_opt_out_synced": [(OPT_OUT, {"value": 1}), (OPT_OUT, {"reason": "no"})],
    "sync_opt_out_decided": [
        (TO_D365, {"value": None}),
        (TO_D365 | {"state": OptOutState.TO_CAMPAIGN}, {"value": None}),
    ],
    "sync_opt_out_rejected": [
        (OPT_OUT | {"state": OptOutState.REJECTED, "reason": "no", "failed_since": 1}, row)
        for row in ({"reason": None}, {"failed_since": None})
    ],
    "sync_merged_opt_out_numbers": [(MERGED, {"state": state}) for state in (-1, 5)],
    "sync_merged_opt_out_carried": [(MERGED, {"state": state}) for state in (MergeState.CARRIED, MergeState.DECIDED)],
    "sync_feed_numbers": [(FEED, {"deletes": -1}), (FEED, {"version": -1}), (FEED, {"page_size": 0})],
    "sync_feed_kept": [(FEED, {"kept_link": "link"}), (FEED, {"kept_kind": "delta"})],
    "sync_rebuild_numbers": [(REBUILD, {name: -1}) for name in ("records", "equal", "differing", "unknown")],
    "sync_tally_numbers": [
        ({"table_name": "contact", "state": State.PENDING, "records": 0}, row)
        for row in ({"records": -1}, {"state": 9})
    ],
    "sync_load_numbers": [
        *[(LOAD, {"state": 6}), (LOAD, {"more": 2})],
        *((LOAD, {name: -1}) for name in ("records", "version", "left_out", "rewrites")),
    ],
    "sync_load_started": [(LOAD | {"state": 2}, {"ended_as": "finished"}), (LOAD | {"state": 3}, {"ended_at": 1})],
    "sync_load_missing": [(LOAD, {"missing": -1})],
    "sync_load_file_numbers": [(LOAD_FILE, {name: -1}) for name in ("number", "rows", "size")],
    "sync_collected_flags": [
        ({"seq": 1, "table_name": "contact", "out_of_scope": 0}, row) for row in ({"out_of_scope": 2}, {"orphan": 2})
    ],
    "sync_planned_changed": [
        ({"session": 1, "table_name": "contact", "id": "a", "hash": b"a"}, {"changed": 2}),
    ],
    "sync_deletion_numbers": [
        ({"table_name": "contact", "attribute": "", "at": 0, "records": 0, "known": 0}, row)
        for row in ({"records": -1}, {"known": -1})
    ],
    "sync_attribute_bit": [({"table_name": "contact", "name": "a", "bit": 0}, {"bit": bit}) for bit in (-1, 63)],
    "sync_hold_record_noted": [({"person": "1", "table_name": "contact", "id": "1", "attribute": ""}, {"noted": 2})],
    "sync_session_live": [({"epoch": 1, "worker": "", "until": 0, "live": 1}, {"live": 2})],
    "sync_worker_numbers": [
        ({"owner": "", "session": 1, "wanted": 0, "slots": 0}, row) for row in ({"wanted": -1}, {"slots": -1})
    ],
    "sync_call_budget_calls": [({"period": "day", "number": 1, "calls": 0}, {"calls": -1})],
    "sync_mapping_returned": [({"table_name": "contact", "fingerprint": "", "returned": 0}, {"returned": 2})],
    "sync_result_day_numbers": [
        ({"name": "daily", "day": date(2026, 1, 1), "changes": 0, "written": 0}, {name: -1})
        for name in ("changes", "written")
    ],
    "sync_day_count_number": [
        ({"kind": "d365", "day": date(2026, 1, 1), "table_name": "", "name": "", "number": 0}, {"number": -1})
    ],
}


@pytest.mark.postgresql
def test_each_constraint_refuses_what_cannot_be_and_nothing_else(url: str) -> None:
    checks = {
        str(one.name): table
        for table in metadata.sorted_tables
        for one in table.constraints
        if isinstance(one, sa.CheckConstraint)
    }
    assert REFUSED.keys() == checks.keys()
    with Ledger.open(url) as ledger:
        for name, cases in REFUSED.items():
            for accepted, wrong in cases:
                _insert(ledger, checks[name], accepted)
                with pytest.raises(LedgerError, match=name):
                    _insert(ledger, checks[name], accepted | wrong)


def _insert(ledger: Ledger, table: sa.Table, row: Row) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.delete(table))
        connection.execute(sa.insert(table), [row])

    ledger.database.write(work)
