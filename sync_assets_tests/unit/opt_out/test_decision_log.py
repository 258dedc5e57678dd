"""The audit: each frame is visible at once, and what other runs have told stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from sync_assets.defs.opt_out.asset_keys import DECISIONS
from sync_assets.opt_out import decision_log
from sync_assets.opt_out.decision_log import DecisionLog, folder_of_changes
from sync_assets.parquet.locations import LocalFolder
from sync_assets.parquet.store import Parts, Store

PARTITION = "optout_1.csv@2026-11-24T06:00:00Z"


def decisions(*contacts: str, reason: str = "an opt-out wins", write: str | None = "d365") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "contact": contacts,
            "reason": [reason] * len(contacts),
            "write": pl.Series([write] * len(contacts), dtype=pl.String),
        }
    )


def kept(store: Store) -> list[str]:
    return sorted(id_ for frame in Parts(store, DECISIONS.path, [PARTITION]) for id_ in frame["contact"])


def test_each_frame_is_visible_at_once_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "PARTS_TOGETHER", 5)
    store, told = Store(LocalFolder(tmp_path)), list[str]()
    audit = DecisionLog(store, PARTITION, "run")
    for number in range(2 * decision_log.PARTS_TOGETHER + 3):
        audit.keep(decisions(f"{number:04}"))
        told.append(f"{number:04}")
        assert kept(store) == told


def test_what_other_runs_have_told_stays_also_that_of_the_same_run_tried_again(tmp_path: Path) -> None:
    store = Store(LocalFolder(tmp_path))
    for run, contact in (("one", "a"), ("other", "b"), ("one", "c")):
        DecisionLog(store, PARTITION, run).keep(decisions(contact))
    assert kept(store) == ["a", "b", "c"]


def test_decisions_are_counted_by_reason_and_side(tmp_path: Path) -> None:
    audit = DecisionLog(Store(LocalFolder(tmp_path)), PARTITION, "run")
    audit.keep(decisions("a", "b"))
    audit.keep(decisions("c"))
    audit.keep(decisions("d", reason="both sides agree", write=None))
    audit.keep(decisions())
    assert audit.reasons == {("an opt-out wins", "d365"): 3, ("both sides agree", ""): 1}


def test_decisions_that_need_no_file_are_kept_by_utc_day() -> None:
    """In the folder where earlier versions kept them, so that those who read it need to learn nothing."""
    assert folder_of_changes(datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)) == "(changes)@2026-11-24"
    assert folder_of_changes(datetime(2026, 11, 25, 1, tzinfo=timezone(timedelta(hours=2)))) == "(changes)@2026-11-24"
