"""The store of Parquet parts: names that any place takes, parts that are whole, manifests that show them together.

What holds for both places is tested on both: a folder, and S3 through boto3 (moto answers in this process). What each
of them does otherwise: test_locations.py.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sync_assets.parquet.locations import LocalFolder, S3Bucket
from sync_assets.parquet.store import Parts, Replaced, Store, StoreError, decoded, encoded
from sync_assets_tests.support.parquet_parts import BUCKET, EXPORT, KEY, LATER, files, publish, seen, table


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Store:
    if request.param == "folder":
        return Store(LocalFolder(tmp_path / "store"))
    return Store(S3Bucket(BUCKET, prefix, request.getfixturevalue("s3")))


class TestNames:
    @given(st.text(st.characters(exclude_categories=[])))
    @example("")
    @example(".")
    @example("..")
    @example(".hidden")
    @example("../../etc/passwd")
    @example("a/b\\c:d*e?f\"g'h<i>j|k~l!m%n\n")
    @example("Abmeldungen März (1).csv.gz@2026-11-24T04:00:00Z")
    def test_any_name_becomes_one_that_every_place_takes(self, name: str) -> None:
        assert re.fullmatch(r"[A-Za-z0-9@_!-]([A-Za-z0-9@_.!-]*[A-Za-z0-9@_!-])?", encoded(name))
        assert len(encoded(name)) <= 200

    @given(st.text(max_size=16))
    def test_a_name_can_be_told_from_what_became_of_it(self, name: str) -> None:
        assert decoded(encoded(name)) == name

    @given(st.text(max_size=3), st.text(max_size=3), st.sampled_from(["", "ü" * 199, "x" * 195]))
    def test_different_names_stay_different_however_long(self, one: str, other: str, before: str) -> None:
        assert (encoded(before + one) == encoded(before + other)) is (one == other)

    def test_plain_names_can_be_read(self) -> None:
        assert encoded("optout 24.csv@2026-11-24T04:00:00Z") == "optout!2024.csv@2026-11-24T04!3A00!3A00Z"

    def test_a_name_that_was_cut_is_not_taken_for_another(self) -> None:
        with pytest.raises(ValueError, match="cut"):
            decoded(encoded("ü" * 200))


class TestParts:
    def test_what_is_written_is_read_with_all_its_types(self, store: Store) -> None:
        frame = pl.DataFrame(
            {
                "id": ["a", None],
                "at": [datetime(2026, 11, 24, 4, tzinfo=UTC), None],
                "day": [None, date(2026, 11, 24)],
                "opt_out": [True, None],
                "reasons": [["newer"], []],
            }
        )
        part = store.write(EXPORT, KEY, "run-1", frame)
        assert_frame_equal(store.read(EXPORT, KEY, "run-1"), frame)
        assert (part.name, part.rows) == ("run-1", 2)
        assert part.size > 0

    def test_parts_are_listed_in_order(self, store: Store) -> None:
        for part in ("run-2", "run-10", "a run"):
            store.write(EXPORT, KEY, part, table(1))
        assert store.parts(EXPORT, KEY) == ["a run", "run-10", "run-2"]

    def test_nothing_stands_where_nothing_was_written(self, store: Store) -> None:
        assert store.parts(EXPORT, KEY) == []
        assert store.published(EXPORT, KEY) == {}
        assert seen(store) == []
        store.remove(EXPORT, KEY, "run-1")

    def test_a_part_may_be_written_again_and_removed(self, store: Store) -> None:
        store.write(EXPORT, KEY, "run-1", table(1))
        store.write(EXPORT, KEY, "run-1", table(2))
        assert store.read(EXPORT, KEY, "run-1")["id"].to_list() == [2]
        store.remove(EXPORT, KEY, "run-1")
        assert store.parts(EXPORT, KEY) == []
        with pytest.raises(StoreError, match=r"run-1 of .* is gone"):
            store.read(EXPORT, KEY, "run-1")

    @pytest.mark.parametrize("odd", ["..", "../other", "ü" * 200, "a/b", "a b'\"ß", ""])
    def test_partitions_of_any_name_stay_apart_and_in_their_asset(self, store: Store, odd: str) -> None:
        publish(store, odd, "run", "run-1")
        publish(store, f"{odd}x", "run", "run-2")
        assert (seen(store, odd), seen(store, f"{odd}x")) == ([1], [2])
        home = store.url(EXPORT, "p").removesuffix("p")
        assert store.url(EXPORT, odd).startswith(home)
        assert "/" not in store.url(EXPORT, odd).removeprefix(home)

    def test_a_part_whose_name_would_be_cut_is_a_mistake_of_the_caller(self, store: Store) -> None:
        with pytest.raises(ValueError, match="cut"):
            store.write(EXPORT, KEY, "x" * 201, table(1))

    def test_a_file_of_somebody_else_is_no_part(self, store: Store) -> None:
        put(store, "notes.txt", b"")
        put(store, "my notes.parquet", b"")
        publish(store, KEY, "run", "run-1")
        assert store.parts(EXPORT, KEY) == ["run-1"]
        assert seen(store) == [1]

    def test_a_damaged_part_is_told_without_its_content(self, store: Store) -> None:
        put(store, "run-1.parquet", b"PAR1 erika@example.com PAR1")
        with pytest.raises(StoreError, match=r"run-1 of .* is damaged .* Materialise this partition again") as told:
            store.read(EXPORT, KEY, "run-1")
        assert "erika" not in str(told.value)

    def test_where_a_partition_stands_is_told(self, tmp_path: Path, s3: Any) -> None:
        assert Store(LocalFolder(tmp_path)).url(EXPORT, "a b") == f"{tmp_path}/campaign/opt_out_export/a!20b"
        for prefix in ("sync/assets", "/sync/assets/"):
            assert Store(S3Bucket(BUCKET, prefix, s3)).url(["x"], "a b") == "s3://acme-sync/sync/assets/x/a!20b"
        assert Store(S3Bucket(BUCKET, "", s3)).url(["x"], "p") == "s3://acme-sync/x/p"


def put(store: Store, name: str, content: bytes, partition: str = KEY) -> None:
    """A file under a name of its own in the folder of a partition."""
    store._place.put("/".join([*EXPORT, encoded(partition), name]), content)  # pyright: ignore[reportPrivateUsage]


class TestManifests:
    def test_parts_are_seen_when_they_are_published_and_together(self, store: Store) -> None:
        written = [store.write(EXPORT, KEY, f"run-{number}", table(number)) for number in (1, 2)]
        assert seen(store) == []
        store.publish(EXPORT, KEY, "all", written)
        assert seen(store) == [1, 2]

    def test_a_manifest_replaces_the_one_of_its_name_only(self, store: Store) -> None:
        publish(store, KEY, "a", "a-1", "a-2")
        publish(store, KEY, "b", "b-3")
        publish(store, KEY, "a", "a-4")
        assert sorted(seen(store)) == [3, 4]

    def test_what_is_not_there_is_not_published(self, store: Store) -> None:
        publish(store, KEY, "all", "a-1")
        gone = store.write(EXPORT, KEY, "b-2", table(2))
        store.remove(EXPORT, KEY, "b-2")
        with pytest.raises(StoreError, match=r"1 of 1 parts .* are gone already"):
            store.publish(EXPORT, KEY, "all", [gone])
        assert seen(store) == [1]

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"parts": [{}]}', b'{"parts": 1}'])
    def test_a_damaged_manifest_is_told(self, store: Store, content: bytes) -> None:
        put(store, "all.json", content)
        with pytest.raises(StoreError, match=r"all\.json is damaged"):
            seen(store)

    def test_rows_and_bytes_are_known_without_reading_a_part(self, store: Store) -> None:
        parts = [store.write(EXPORT, KEY, f"run-{rows}", table(*range(rows))) for rows in (3, 4)]
        store.publish(EXPORT, KEY, "all", parts)
        store.remove(EXPORT, KEY, "run-3", "run-4")
        found = Parts(store, EXPORT, [KEY])
        assert (len(found), found.rows, found.size) == (2, 7, parts[0].size + parts[1].size)

    def test_one_part_is_read_at_a_time_and_again_for_each_reader(self, store: Store) -> None:
        publish(store, KEY, "all", "run-1", "run-2")
        found = Parts(store, EXPORT, [KEY])
        assert [frame["id"].item() for frame in found] == [frame["id"].item() for frame in found] == [1, 2]
        reader = iter(found)
        assert next(reader)["id"].item() == 1
        store.remove(EXPORT, KEY, "run-2")
        with pytest.raises(Replaced, match=r"is gone: it was replaced .* Run again what reads it\."):
            next(reader)
        publish(store, KEY, "all", "run-3")
        assert [frame["id"].item() for frame in found.anew()] == [3]

    def test_what_ended_first_comes_first(self, tmp_path: Path) -> None:
        store = Store(LocalFolder(tmp_path))
        for number, run in enumerate("cab"):
            publish(store, KEY, run, f"{run}-{number}")
            touch(Path(store.url(EXPORT, KEY)) / f"{run}.json", hours=10 - number)
        assert seen(store) == [0, 1, 2]

    def test_the_name_of_a_partition_that_is_too_long_for_its_folder_is_in_the_manifest(self, tmp_path: Path) -> None:
        store, name = Store(LocalFolder(tmp_path)), "x" * 300
        publish(store, name, "all", "run-1")
        assert name in (Path(store.url(EXPORT, name)) / "all.json").read_text()


def touch(path: Path, **ago: float) -> None:
    """As if the file was last written that long ago."""
    at = (datetime.now(UTC) - timedelta(**ago)).timestamp()
    os.utime(path, (at, at))


class TestClearing:
    def test_leftovers_are_swept_and_nothing_else(self, store: Store) -> None:
        publish(store, KEY, "a", "a-1")
        publish(store, KEY, "b", "b-2")
        kept = files(store)
        store.write(EXPORT, KEY, "c-3", table(3))
        put(store, ".c-4.parquet.12ab34cd.tmp", b"PAR1")
        assert store.sweep(EXPORT, KEY) == 0, "a run may still be at work on them"
        assert store.sweep(EXPORT, KEY, before=LATER) == 2
        assert files(store) == kept

    def test_what_lies_there_for_a_day_is_a_leftover(self, tmp_path: Path) -> None:
        store = Store(LocalFolder(tmp_path))
        for part, hours in (("old-1", 25), ("new-1", 23)):
            store.write(EXPORT, KEY, part, table(1))
            touch(Path(store.url(EXPORT, KEY)) / f"{part}.parquet", hours=hours)
        assert store.sweep(EXPORT, KEY) == 1
        assert store.parts(EXPORT, KEY) == ["new-1"]

    def test_prune_removes_partitions_that_nobody_wrote_since(self, tmp_path: Path) -> None:
        store = Store(LocalFolder(tmp_path))
        for partition, days in (("old", 91), ("new", 89), ("ü" * 200, 91)):
            publish(store, partition, "all", "run-1", "run-2")
            for path in Path(store.url(EXPORT, partition)).iterdir():
                touch(path, days=days)
        assert store.prune(EXPORT, datetime.now(UTC) - timedelta(days=90)) == 2
        assert (seen(store, "old"), seen(store, "new")) == ([], [1, 2])
        assert [path.name for path in (tmp_path / "campaign" / "opt_out_export").iterdir()] == ["new"]

    def test_a_partition_that_a_run_is_adding_to_is_not_pruned(self, tmp_path: Path) -> None:
        store = Store(LocalFolder(tmp_path))
        publish(store, KEY, "all", "run-1")
        for path in Path(store.url(EXPORT, KEY)).iterdir():
            touch(path, days=91)
        store.write(EXPORT, KEY, "new-2", table(2))
        assert store.prune(EXPORT, datetime.now(UTC) - timedelta(days=90)) == 0
        assert store.parts(EXPORT, KEY) == ["new-2", "run-1"]

    def test_prune_clears_what_killed_runs_left_in_the_partitions_that_stay(self, tmp_path: Path) -> None:
        store = Store(LocalFolder(tmp_path))
        publish(store, KEY, "all", "run-1")
        put(store, ".run-2.parquet.12ab34cd.tmp", b"PAR1")
        touch(Path(store.url(EXPORT, KEY)) / ".run-2.parquet.12ab34cd.tmp", days=2)
        assert store.prune(EXPORT, datetime.now(UTC) - timedelta(days=90)) == 0
        assert files(store) == ["all.json", "run-1.parquet"]

    def test_prune_keeps_to_its_asset(self, store: Store) -> None:
        publish(store, KEY, "all", "run-1")
        publish(store, "other", "all", "run-1")
        assert store.prune(["campaign"], LATER) == 0
        assert store.prune(["campaign", "opt_out"], LATER) == 0
        assert seen(store) == [1]
        assert store.prune(EXPORT, LATER) == 2
        assert (files(store), files(store, "other")) == ([], [])
