"""Any sequence of runs that write parts, complete, failed or killed: readers see what complete runs left."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync_assets.errors import SyncAssetsError
from sync_assets.parquet.locations import LocalFolder, Location, S3Bucket
from sync_assets.parquet.store import Store
from sync_assets_tests.support.s3 import s3_with_bucket
from sync_assets_tests.unit.parquet.test_writer import EXPORT, FILE, LATER, Killed, Mortal, seen, table, write

BUCKET = "acme-sync"


@dataclass(frozen=True)
class Attempt:
    """A run, the heights of its frames, and its end: at a change of the place (killed), at a frame (it fails), well."""

    run: str
    heights: tuple[int, ...]
    killed: int | None = None
    after: bool = False
    fails: int | None = None

    def rows(self, first: int) -> Iterator[pl.DataFrame]:
        for number, height in enumerate(self.heights):
            if number == self.fails:
                raise SyncAssetsError("The file broke off.")
            yield table(*range(first, first + height))
            first += height


attempts = st.lists(
    st.builds(
        Attempt,
        run=st.sampled_from(["one", "two", "three"]),
        heights=st.lists(st.integers(0, 5), max_size=4).map(tuple),
        killed=st.none() | st.integers(1, 12),
        after=st.booleans(),
        fails=st.none() | st.integers(0, 3),
    ),
    max_size=7,
)


def check_history(place: Location, history: list[Attempt]) -> None:
    """After each attempt readers see what complete runs left; after a killed one that or all of its own."""
    store = Store(place)
    left: list[int] = []
    for number, attempt in enumerate(history):
        first = number * 100
        mortal: Location = Mortal(place, attempt.killed, attempt.after) if attempt.killed else place
        complete = list(range(first, first + sum(attempt.heights)))
        failed = attempt.fails is not None and attempt.fails < len(attempt.heights)
        try:
            write(Store(mortal), attempt.run, attempt.rows(first), rows=3)
            assert not failed
            possible = [complete]
        except SyncAssetsError:
            assert failed
            possible = [left]
        except Killed:
            possible = [left] if failed else [left, complete]
        found = seen(store)
        assert found in possible, f"{attempt}: {found}"
        left = found
    published = {part.name for parts in store.published(EXPORT, FILE).values() for part in parts}
    store.sweep(EXPORT, FILE, before=LATER)
    assert set(store.parts(EXPORT, FILE)) == published
    assert seen(store) == left


KILLED_BEFORE_IT_IS_SEEN = [Attempt("one", (3, 3)), Attempt("one", (3, 3), killed=3), Attempt("two", (1,), killed=1)]


KILLED_WHILE_CLEARING = [Attempt("one", (3, 3)), Attempt("two", (3, 3), killed=3, after=True), Attempt("one", (1,))]


class TestAnyHistory:
    """Any sequence of runs, complete, failed, killed at any change of the place, and repeated."""

    @given(history=attempts)
    @example(history=KILLED_BEFORE_IT_IS_SEEN)
    @example(history=KILLED_WHILE_CLEARING)
    @settings(deadline=None, max_examples=80)
    def test_in_a_folder_what_complete_runs_left_is_there(self, history: list[Attempt]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check_history(LocalFolder(Path(folder)), history)

    @given(history=attempts)
    @example(history=KILLED_BEFORE_IT_IS_SEEN)
    @example(history=KILLED_WHILE_CLEARING)
    @settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_on_s3_what_complete_runs_left_is_there(self, s3: Any, history: list[Attempt]) -> None:
        check_history(S3Bucket(BUCKET, str(uuid4()), s3), history)


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of an S3 with one bucket."""
    with s3_with_bucket(BUCKET) as client:
        yield client
