"""The rows of `results`: what Parquet files and PostgreSQL's views have of a day, and which ids they lose when."""

import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import polars as pl
import pytest
import sqlalchemy as sa

from sync_assets.commands.history import prune_records
from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories import results as rows_of_results
from sync_assets.ledger.repositories.results import ResultName
from sync_assets.ledger.rules.opt_outs import OptOutState
from sync_assets.ledger.storage import opt_out_tables
from sync_assets.results.days import write_anew, write_day
from sync_assets.results.stores import Folder
from sync_assets.results.tables import COLUMNS, day_of
from sync_assets_tests.support.ledgers import Clock, capture, claim, claim_one, guid, many, row, session_of, settle
from sync_assets_tests.unit.ledger.opt_out_rows import decision

NAMES: tuple[ResultName, ...] = ("deliveries", "decisions", "daily")
DAYS = 30


@pytest.fixture
def clock() -> Clock:
    """Now: a day that results keep."""
    clock = Clock()
    clock.now = datetime.now(UTC).replace(hour=0, minute=5, second=0, microsecond=250_007)
    return clock


@pytest.fixture
def used(ledger: Ledger, clock: Clock) -> Ledger:
    """A ledger with a day of all outcomes, and some minutes of the day before."""
    ledger.history.keep("run 1")
    clock.advance(-600)
    capture(ledger, row("early"))
    settle(ledger, "done", *claim(ledger), operation="insert")
    clock.advance(600)
    capture(ledger, row("anna"), row("bert", validation_error=f"links to {guid('early')}, too long by 17 characters"))
    capture(ledger, row("order"), table="new_order")
    clock.advance(90.5)
    settle(ledger, "later", claim_one(ledger), reason="429", operation="insert", status=429)
    settle(ledger, "refused", claim_one(ledger), reason="RST bad", operation="insert", status=500)
    ledger.claims.retry()
    settle(ledger, "done", claim_one(ledger), operation="insert", status=201)
    settle(ledger, "done", claim_one(ledger, table="new_order"), operation="insert", status=201)
    calls = {("new_order", "insert"): 3, ("lead", "read"): 2}
    ledger.claims.acknowledge(session_of(ledger), [], calls)
    capture(ledger, row("anna", "b"))
    settle(ledger, "done", claim_one(ledger), operation="compare")  # no request
    capture(ledger, deleted=["order"], table="new_order")
    settle(ledger, "done", *claim(ledger, table="new_order"), operation="delete", status=204)
    source = f"merged contact {guid('early')}"
    made = [decision(name)._replace(source=source, decided_at=clock.now) for name in ("anna", "unknown")]
    session = ledger._session  # pyright: ignore[reportPrivateUsage]
    session.write(lambda transaction: ledger.opt_out_decisions.add(transaction, "file", made))
    return ledger


def told(ledger: Ledger, clock: Clock, name: ResultName) -> list[dict[str, Any]]:
    return day_of(ledger, name, clock.now.date()).collect().to_dicts()


def test_a_day_has_a_row_for_each_answer_for_good_and_each_invalid_row_and_its_totals(
    used: Ledger, clock: Clock
) -> None:
    rows = told(used, clock, "deliveries")
    known = ("table", "id", "operation", "outcome", "status", "attempts", "seconds")
    assert [tuple(one[name] for name in known) for one in rows] == [
        ("contact", guid("bert"), "validate", "rejected", None, 0, None),
        ("contact", guid("anna"), "insert", "rejected", 500, 2, None),
        ("contact", guid("anna"), "insert", "acknowledged", 201, 3, 90.5),
        ("new_order", None, "insert", "acknowledged", 201, 1, 90.5),  # purged since
        ("new_order", None, "delete", "acknowledged", 204, 1, 0.0),
    ]
    assert [one["reason"] for one in rows[:2]] == ["links to <id>, too long by <n> characters", "RST bad"]
    assert rows[2]["acknowledged_at"] == rows[2]["at"] == rows[2]["changed_at"] + timedelta(seconds=90.5)
    assert [list(one.values()) for one in told(used, clock, "daily")] == [
        ["contact", 1, 0, 0, 2, 90.5, 0],
        ["lead", 0, 0, 0, 0, None, 2],
        ["new_order", 1, 0, 1, 0, 45.25, 3],
    ]
    [of_anna, of_unknown] = told(used, clock, "decisions")
    assert (of_anna["contact"], of_unknown["contact"]) == (guid("anna"), None)
    assert of_anna["source"] == "merged contact <id>"


@pytest.mark.postgresql
@pytest.mark.parametrize("name", NAMES)
def test_postgresqls_views_have_the_rows_of_the_files(used: Ledger, clock: Clock, name: ResultName) -> None:
    frame = day_of(used, name, clock.now.date()).collect()
    described = {column: kind for column, (kind, _) in COLUMNS[name].items()}
    assert {column: str(kind).partition("(")[0].lower() for column, kind in frame.schema.items()} == described
    if used.database.sqlite:
        return
    moment = {"deliveries": "at", "decisions": "decided_at"}.get(name)
    of_day = f"CAST({moment} AT TIME ZONE 'UTC' AS date)" if moment else "day"
    columns = ", ".join(f'"{column}"' for column in described)
    query = sa.text(f"SELECT {columns} FROM sync_results_{name} WHERE {of_day} = :day")
    with used.database.read() as connection:
        shown = [tuple(one) for one in connection.execute(query, {"day": clock.now.date()})]
    assert sorted(shown, key=str) == sorted(frame.rows(), key=str)


@pytest.mark.postgresql
def test_a_day_of_several_batches_is_whole_and_one_moment(
    used: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_of_results, "BATCH", 7)
    capture(used, page=many(50))
    settle(used, "done", *claim(used), operation="insert")
    assert [len(rows) for rows in used.results.rows("deliveries", clock.now.date())][:7] == [7] * 7
    frame = day_of(used, "deliveries", clock.now.date())
    assert frame.filter(pl.col("id").is_in([guid(f"row{n}") for n in range(50)])).collect().height == 50
    assert frame.head(9).collect().height == 9


@pytest.mark.postgresql
def test_an_id_goes_from_the_files_when_its_record_is_purged_or_excluded_and_from_no_other_day(
    used: Ledger, clock: Clock, tmp_path: Path
) -> None:
    store, day = Folder(str(tmp_path)), clock.now.date()
    days = [day - timedelta(days=1), day]

    def ids() -> set[str | None]:
        return set(pl.read_parquet(tmp_path / "deliveries", columns=["id"])["id"])

    def contacts() -> set[str | None]:
        return set(pl.read_parquet(tmp_path / "decisions", columns=["contact"])["contact"])

    opt_out = {"id": guid("unknown"), "attribute": "blackListEmail", "state": OptOutState.SYNCED}  # without a record
    used.database.write(lambda connection: connection.execute(sa.insert(opt_out_tables.opt_out), [opt_out]))
    for name in ("deliveries", "decisions"):
        for one in days:
            write_day(used, store, name, one, DAYS)
        assert write_anew(used, store, name, DAYS) == []
    assert (ids(), contacts()) == ({guid("anna"), guid("bert"), guid("early"), None}, {guid("anna"), guid("unknown")})
    used.holds.hold(guid("anna"))
    used.holds.end_hold(guid("anna"), deleted=True)
    assert list(used.results.due("deliveries")) == list(used.results.due("decisions")) == [day]
    capture(used, deleted=["early"])
    settle(used, "done", *claim(used), operation="insert")
    assert list(used.results.due("deliveries")) == days
    for name, anew in {"deliveries": days, "decisions": [day]}.items():
        assert [write_anew(used, store, name, DAYS) for _ in range(2)] == [anew, []]  # pyright: ignore[reportArgumentType]
    assert (ids(), contacts()) == ({guid("bert"), None}, {guid("unknown"), None})
    capture(used, deleted=["unknown"])
    assert write_anew(used, store, "decisions", DAYS) == [day]
    assert contacts() == {None}


def test_a_day_that_was_begun_before_an_id_went_is_written_anew_even_if_it_ends_last(
    used: Ledger, clock: Clock, tmp_path: Path
) -> None:
    day, store = clock.now.date(), Folder(str(tmp_path))
    write_day(used, store, "deliveries", day, DAYS)
    before = used.results.changes("deliveries", day)
    capture(used, deleted=["anna"])
    settle(used, "done", *claim(used), operation="insert")
    assert write_anew(used, store, "deliveries", DAYS) == [day]
    used.results.note_written("deliveries", day, before)  # another process, which read the day before
    assert write_anew(used, store, "deliveries", DAYS) == [day]


def test_files_older_than_keep_days_are_deleted_and_none_is_written_of_days_that_are_not_kept(
    used: Ledger, clock: Clock, tmp_path: Path
) -> None:
    day, store = clock.now.date(), Folder(str(tmp_path))
    for age in range(3):
        write_day(used, store, "daily", day - timedelta(days=age), 3)
    assert write_anew(used, store, "daily", 2) == []
    assert sorted(file.parent.name for file in tmp_path.rglob("*.parquet")) == [
        f"day={day - timedelta(days=1)}",
        f"day={day}",
    ]
    with pytest.raises(SyncAssetsError, match=f"keeps the history of {day} and later"):
        write_day(used, store, "daily", day - timedelta(days=1), 1)
    assert list(tmp_path.glob(".incomplete/*")) == []


def test_a_day_whose_history_was_deleted_while_there_were_no_results_keeps_its_file(
    used: Ledger, clock: Clock, tmp_path: Path
) -> None:
    day, store = clock.now.date(), Folder(str(tmp_path))
    rows = write_day(used, store, "deliveries", day, DAYS).rows
    capture(used, deleted=["anna"])
    settle(used, "done", *claim(used), operation="insert")
    assert prune_records(cast("Config", Mock(history_days=None)), used)
    for name in ("deliveries", "daily"):
        with pytest.raises(SyncAssetsError, match=f"keeps the history of {day + timedelta(days=1)} and later"):
            write_day(used, store, name, day, DAYS)
        assert write_anew(used, store, name, DAYS) == []
    assert write_day(used, store, "decisions", day, DAYS).rows == 2, "decisions are kept"
    assert pl.read_parquet([*tmp_path.rglob("deliveries.parquet")]).height == rows


def test_an_error_of_the_folder_names_place_and_cause(used: Ledger, clock: Clock, tmp_path: Path) -> None:
    place, soft = tmp_path / "place", resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, soft[1]))  # as on a full disk
        with pytest.raises(SyncAssetsError, match=f"not written at {place}: File too large"):
            write_day(used, Folder(str(place)), "deliveries", clock.now.date(), DAYS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert [file.name for file in place.rglob("*")] == [".incomplete"]
    (tmp_path / "file").touch()
    with pytest.raises(SyncAssetsError, match=r"Results were not written at .*Not a directory"):
        write_day(used, Folder(str(tmp_path / "file")), "deliveries", clock.now.date(), DAYS)
