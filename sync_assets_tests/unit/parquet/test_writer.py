"""Streams kept as parts: whatever happens to runs, readers see what complete runs left, and all of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.errors import SyncAssetsError
from sync_assets.parquet import writer
from sync_assets.parquet.locations import File, LocalFolder, Location
from sync_assets.parquet.store import Part, Parts, Store, StoreError
from sync_assets.parquet.writer import in_parts, write_parts

EXPORT, FILE = ["campaign", "opt_out_export"], "optout_24.csv@2026-11-24T04:00:00Z"
LATER = datetime.now(UTC) + timedelta(days=1)


def table(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"id": ids}, schema={"id": pl.Int64})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(LocalFolder(tmp_path))


def write(store: Store, run: str, tables: Iterable[pl.DataFrame], *, rows: int = 1) -> list[Part]:
    """A run, with parts of a single row unless told otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "ROWS_OF_A_PART", rows)
        return write_parts(store, EXPORT, FILE, run, tables)


def seen(store: Store) -> list[int]:
    return [id_ for frame in Parts(store, EXPORT, [FILE]) for id_ in frame["id"]]


def ids(tables: Iterable[pl.DataFrame]) -> list[list[int]]:
    return [frame["id"].to_list() for frame in tables]


class TestReplacing:
    def test_a_run_replaces_what_stood_there_and_leaves_nothing_of_it(self, store: Store) -> None:
        write(store, "first", [table(1), table(2), table(3)])
        write(store, "second", [table(4), table(5)])
        assert seen(store) == [4, 5]
        assert store.parts(EXPORT, FILE) == ["second-00001", "second-00002"]

    def test_the_same_run_once_more_replaces_its_own_and_never_writes_over_it(self, store: Store) -> None:
        write(store, "run", [table(1), table(2)])

        def look() -> Iterator[pl.DataFrame]:
            for number in (3, 4):
                yield table(number)
                assert seen(store) == [1, 2]

        write(store, "run", look())
        assert seen(store) == [3, 4]
        assert len(store.parts(EXPORT, FILE)) == 2

    def test_a_run_without_rows_replaces_too_and_keeps_the_columns(self, store: Store) -> None:
        write(store, "first", [table(1)])
        write(store, "second", [table()])
        assert [frame.schema for frame in Parts(store, EXPORT, [FILE])] == [table().schema]
        assert seen(store) == []
        write(store, "third", [])
        assert len(Parts(store, EXPORT, [FILE])) == 0

    def test_a_run_that_fails_leaves_what_stood_there_and_no_file_of_its_own(self, store: Store) -> None:
        write(store, "first", [table(1)])

        def fails() -> Iterator[pl.DataFrame]:
            yield table(2)
            yield table(3)
            raise SyncAssetsError("The file broke off.")

        with pytest.raises(SyncAssetsError, match="broke off"):
            write(store, "second", fails())
        assert seen(store) == [1]
        assert store.parts(EXPORT, FILE) == ["first-00001"]

    def test_of_two_runs_at_once_the_last_one_to_end_stands(self, store: Store) -> None:
        write(store, "before", [table(0)])

        def meanwhile() -> Iterator[pl.DataFrame]:
            yield table(1)
            yield table(2)
            write(store, "fast", [table(3), table(4)])
            assert seen(store) == [3, 4]
            yield table(5)

        write(store, "slow", meanwhile())
        assert seen(store) == [1, 2, 5]

    def test_a_killed_process_leaves_what_stood_there(self, store: Store, tmp_path: Path) -> None:
        write(store, "first", [table(1)])
        program = (
            "import os, signal; from pathlib import Path; import sync_assets_tests.unit.parquet.test_writer as t\n"
            "def rows():\n"
            "    yield t.table(2); yield t.table(3); os.kill(os.getpid(), signal.SIGKILL)\n"
            f"store = t.Store(t.LocalFolder(Path({str(tmp_path)!r})))\n"
            "t.write(store, 'killed', rows())"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == -9
        assert "killed-00001" in store.parts(EXPORT, FILE)
        assert seen(store) == [1]
        write(store, "killed", [table(4)])
        assert seen(store) == [4]

    def test_a_reader_whose_parts_are_replaced_meanwhile_is_told_and_gets_no_mixture(self, store: Store) -> None:
        write(store, "first", [table(1), table(2)])
        reader = iter(Parts(store, EXPORT, [FILE]))
        assert next(reader)["id"].item() == 1
        write(store, "second", [table(3), table(4)])
        with pytest.raises(StoreError, match="Run again what reads it"):
            next(reader)


class TestStreaming:
    def test_no_more_than_a_part_is_held_before_it_is_written(self, store: Store) -> None:
        written: list[int] = []

        def rows() -> Iterator[pl.DataFrame]:
            for number in range(6):
                written.append(len(store.parts(EXPORT, FILE)))
                yield table(*range(number * 10, number * 10 + 10))

        write(store, "run", rows(), rows=20)
        assert written == [0, 0, 0, 1, 1, 2]
        assert seen(store) == list(range(60))

    @given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7))
    def test_parts_hold_all_rows_in_order_and_none_too_many(self, heights: list[int], most: int) -> None:
        numbers = iter(range(100))
        given_ = [table(*(next(numbers) for _ in range(height))) for height in heights]
        parts = ids(list(in_parts(iter(given_), most)))
        assert [id_ for part in parts for id_ in part] == list(range(sum(heights)))
        assert all(len(part) <= most for part in parts)
        assert len(parts) == bool(heights) or all(parts)
        assert all(len(one) + len(next_) > most for one, next_ in pairwise(parts))

    def test_frames_of_other_columns_stay_apart(self) -> None:
        other = pl.DataFrame({"id": ["a"]})
        assert ids(list(in_parts([table(1), table(2), other, table(3)], 10))) == [[1, 2], ["a"], [3]]

    def test_a_single_frame_is_taken_as_it_is(self) -> None:
        assert ids(list(in_parts(table(1, 2), 10))) == [[1, 2]]  # pyright: ignore[reportArgumentType]

    def test_what_is_no_frame_is_refused_by_its_type(self, store: Store) -> None:
        mixed: list[Any] = [table(1), {"email": "erika@example.com"}]
        with pytest.raises(TypeError, match="data frames can be kept, no dict") as told:
            write(store, "run", mixed)
        assert "erika" not in str(told.value)
        assert store.parts(EXPORT, FILE) == []


class Killed(BaseException):
    """The process is gone: no clean-up of it reaches the place any more."""


@dataclass
class Mortal:
    """A place whose process dies at its n-th change (`after`: once that is done), and can do nothing from then on."""

    place: Location
    changes: int
    after: bool
    dead: bool = False

    def _die(self) -> NoReturn:
        self.dead = True
        raise Killed

    def _change(self, change: Any, *arguments: Any) -> None:
        self.changes -= 1
        if self.dead or (self.changes == 0 and not self.after):
            self._die()
        change(*arguments)
        if self.changes == 0:
            self._die()

    def put(self, key: str, content: bytes) -> None:
        self._change(self.place.put, key, content)

    def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            self._change(self.place.delete, [key])

    def _alive(self) -> Location:
        if self.dead:
            self._die()
        return self.place

    def get(self, key: str) -> bytes | None:
        return self._alive().get(key)

    def files(self, folder: str) -> list[File]:
        return self._alive().files(folder)

    def folders(self, folder: str) -> list[str]:
        return self._alive().folders(folder)

    def address(self, key: str) -> str:
        return self._alive().address(key)


@pytest.mark.parametrize("changes", range(1, 6))
def test_prune_killed_at_any_moment_leaves_a_partition_or_none_but_no_part_of_one(tmp_path: Path, changes: int) -> None:
    place = LocalFolder(tmp_path)
    store = Store(place)
    for manifest, rows in (("a", (1, 2)), ("b", (3,))):  # as decisions have them
        parts = [store.write(EXPORT, FILE, f"{manifest}-{number}", table(number)) for number in rows]
        store.publish(EXPORT, FILE, manifest, parts)
    with pytest.raises(Killed):
        Store(Mortal(place, changes, after=True)).prune(EXPORT, LATER)
    for frame in Parts(store, EXPORT, [FILE]):  # none is missing that a manifest names
        assert frame.height == 1
