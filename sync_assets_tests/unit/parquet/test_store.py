"""The store of Parquet parts: names that any place takes, parts that are whole, manifests that show them together.

What holds for both places is tested on both: a folder, and S3 through boto3 (moto answers in this process).
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sync_assets.config.opt_out import Storage
from sync_assets.errors import SyncAssetsError
from sync_assets.parquet import locations
from sync_assets.parquet.locations import LocalFolder, S3Bucket
from sync_assets.parquet.store import (
    Parts,
    Replaced,
    Store,
    StoreError,
    decoded,
    encoded,
    open_store,
)
from sync_assets_tests.support.little_server import LittleServer, Request, answer
from sync_assets_tests.support.s3 import s3_with_bucket

EXPORT = ["campaign", "opt_out_export"]
KEY = "optout_24.csv@2026-11-24T04:00:00Z"
BUCKET, PREFIX = "acme-sync", "sync/assets"
LATER = datetime.now(UTC) + timedelta(days=1)
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def table(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"id": ids}, schema={"id": pl.Int64})


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of an S3 with one bucket, for all tests."""
    with s3_with_bucket(BUCKET) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    """A part of the bucket for this test alone."""
    return f"sync/{uuid4()}"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Store:
    if request.param == "folder":
        return Store(LocalFolder(tmp_path / "store"))
    return Store(S3Bucket(BUCKET, prefix, request.getfixturevalue("s3")))


def publish(store: Store, partition: str, manifest: str, *parts: str) -> None:
    """Parts of one row each, whose id is the number of the part."""
    written = [store.write(EXPORT, partition, part, table(int(part.rpartition("-")[2]))) for part in parts]
    store.publish(EXPORT, partition, manifest, written)


def seen(store: Store, partition: str = KEY) -> list[int]:
    return [id_ for frame in Parts(store, EXPORT, [partition]) for id_ in frame["id"]]


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


def files(store: Store, partition: str = KEY) -> list[str]:
    """All that lies in the folder of a partition."""
    found = store._place.files("/".join([*EXPORT, encoded(partition)]))  # pyright: ignore[reportPrivateUsage]
    return sorted(file.name for file in found)


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


class TestFolder:
    def test_folders_and_files_are_for_their_owner_only(self, tmp_path: Path) -> None:
        root = tmp_path / "above" / "store"
        previous = os.umask(0)
        try:
            publish(Store(LocalFolder(root)), KEY, "all", "run-1")
        finally:
            os.umask(previous)
        made = [root.parent, *root.parent.rglob("*")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()} == {0o700}
        assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()} == {0o600}

    def test_a_writer_killed_in_the_middle_of_a_part_leaves_nothing_that_is_seen(self, tmp_path: Path) -> None:
        store = Store(LocalFolder(tmp_path))
        publish(store, KEY, "all", "run-1")
        # The file has its content, but not yet its name.
        killed = run(
            "import os, signal; os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"store = Store(LocalFolder(Path({str(tmp_path)!r})))\n"
            f"store.write({EXPORT!r}, {KEY!r}, 'run-1', pl.DataFrame({{'id': [2]}}))"
        )
        assert killed.returncode == -9
        assert len(files(store)) == 3
        assert store.parts(EXPORT, KEY) == ["run-1"]
        assert seen(store) == [1]
        assert store.sweep(EXPORT, KEY, before=LATER) == 1
        assert files(store) == ["all.json", "run-1.parquet"]

    def test_a_reader_never_sees_half_a_part(self, tmp_path: Path) -> None:
        store = Store(LocalFolder(tmp_path))
        store.write(EXPORT, KEY, "run-1", table(0))
        program = (
            f"store = Store(LocalFolder(Path({str(tmp_path)!r})))\n"
            "while True:\n"
            "    for number in (1, 30_000):\n"
            f"        store.write({EXPORT!r}, {KEY!r}, 'run-1', pl.DataFrame({{'id': range(number)}}))"
        )
        with subprocess.Popen([sys.executable, "-c", IMPORTS + program]) as writer:
            heights = set[int]()
            until = datetime.now(UTC) + timedelta(seconds=20)
            read = 0
            while (len(heights) < 2 or read < 300) and datetime.now(UTC) < until:
                heights.add(store.read(EXPORT, KEY, "run-1").height)
                read += 1
            writer.kill()
        assert heights == {1, 30_000}

    def test_a_folder_that_may_not_be_written_is_told(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        store = Store(LocalFolder(closed / "store"))
        Store(LocalFolder(tmp_path / "open")).write(
            EXPORT, KEY, "run-1", table(1)
        )  # Polars has loaded all that it needs
        closed.mkdir(mode=0o500)
        with somebody(), pytest.raises(StoreError) as told:
            store.write(EXPORT, KEY, "run-1", table(1))
        assert re.search(r"closed/store/.* cannot be used by this user .* `storage\.directory`", str(told.value))

    def test_a_full_disk_is_told_and_the_unfinished_file_is_removed(self, tmp_path: Path) -> None:
        full = run(
            "import resource, signal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "table = pl.DataFrame({'id': range(9999)})\n"
            f"Store(LocalFolder(Path({str(tmp_path)!r}))).write({EXPORT!r}, {KEY!r}, 'run-1', table)"
        )
        assert "StoreError: There is no room left for" in full.stderr
        assert files(Store(LocalFolder(tmp_path))) == []

    def test_a_file_in_the_place_of_the_folder_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "store").write_text("somebody's")
        store = Store(LocalFolder(tmp_path / "store"))
        for ask in (lambda: store.write(EXPORT, KEY, "run-1", table(1)), lambda: seen(store)):
            with pytest.raises(StoreError, match=r"store/.* cannot be a folder"):
                ask()


IMPORTS = (
    "from pathlib import Path; import polars as pl; from sync_assets.parquet.locations import LocalFolder\n"
    "from sync_assets.parquet.store import Store, open_store\n"
)


def run(program: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", IMPORTS + program], capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def somebody() -> Iterator[None]:
    """Not the administrator, whom nothing is forbidden."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


CALLS: list[Callable[[Store], object]] = [
    lambda store: store.write(EXPORT, KEY, "run-1", table(1)),
    lambda store: store.parts(EXPORT, KEY),
    lambda store: store.read(EXPORT, KEY, "run-1"),
    lambda store: store.remove(EXPORT, KEY, "run-1"),
    lambda store: store.prune(EXPORT, LATER),
]


class TestS3:
    @pytest.mark.parametrize("call", CALLS)
    def test_a_bucket_that_is_not_there_is_told(self, s3: Any, call: Callable[[Store], object]) -> None:
        with pytest.raises(StoreError, match="There is no bucket acme-other"):
            call(Store(S3Bucket("acme-other", PREFIX, s3)))

    @pytest.mark.parametrize("call", CALLS)
    def test_a_user_without_rights_is_told_which_ones_it_takes(
        self, call: Callable[[Store], object], user: tuple[str, str]
    ) -> None:
        key, secret = user
        with pytest.raises(StoreError) as told:
            checked(call)(Store(S3Bucket(BUCKET, PREFIX, client_of(key, secret))))
        assert "denies access to s3://acme-sync/sync/assets/" in str(told.value)
        assert "s3:PutObject" in str(told.value)
        assert not any(one in str(told.value) for one in (key, secret))

    def test_credentials_that_aws_does_not_know_are_told_without_them(self, user: tuple[str, str]) -> None:
        for key in (user[0], "AKIAIOSFODNN7EXAMPLE"):
            with pytest.raises(StoreError, match="does not accept the credentials") as told:
                checked(seen)(Store(S3Bucket(BUCKET, PREFIX, client_of(key, SECRET))))
            assert not any(one in str(told.value) for one in (key, SECRET))

    def test_more_than_a_page_is_listed_and_removed(
        self, s3: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
        monkeypatch.setattr(locations, "_DELETED_AT_ONCE", 3)
        store = Store(S3Bucket(BUCKET, prefix, s3))
        for partition in "abcdefgh":
            publish(store, partition, "all", *(f"run-{number}" for number in range(8)))
        assert len(s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]) == 3
        assert seen(store, "h") == list(range(8))
        assert store.prune(EXPORT, LATER) == 8
        assert s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["KeyCount"] == 0

    @pytest.mark.parametrize(
        ("status", "code", "told"),
        [
            (301, "PermanentRedirect", r"another region .* Set AWS_DEFAULT_REGION"),
            (400, "AuthorizationHeaderMalformed", r"another region .* Set AWS_DEFAULT_REGION"),
            (400, "ExpiredToken", "does not accept the credentials"),
            (403, "AllAccessDisabled", "denies access"),
            (403, "RequestTimeTooSkewed", "clock is wrong"),
            (409, "OperationAborted", r"S3 failed at s3://acme-sync/sync/assets/ \(OperationAborted\)"),
        ],
    )
    async def test_what_s3_says_is_told_in_our_words(self, tmp_path: Path, status: int, code: str, told: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>The key {SECRET} is wrong</Message></Error>".encode()
        # With the region at hand boto3 tries once more there, and only then tells.
        said = answer(status, body, x_amz_bucket_region="eu-west-1")
        async with LittleServer(tmp_path, lambda request: said) as server:
            client = client_of(server=server, verify=str(server.ca_file))
            with pytest.raises(StoreError, match=told) as error:
                await asyncio.to_thread(Store(S3Bucket(BUCKET, PREFIX, client)).parts, EXPORT, KEY)
        assert server.requests
        assert SECRET not in str(error.value)

    async def test_a_refusal_to_remove_is_told(self, tmp_path: Path) -> None:
        """DeleteObjects says so in an answer of status 200."""
        body = b"<DeleteResult><Error><Key>x</Key><Code>AccessDenied</Code></Error></DeleteResult>"
        async with LittleServer(tmp_path, lambda request: answer(200, body)) as server:
            store = Store(S3Bucket(BUCKET, PREFIX, client_of(server=server, verify=str(server.ca_file))))
            with pytest.raises(StoreError, match="s3:DeleteObject"):
                await asyncio.to_thread(store.remove, EXPORT, KEY, "run-1")

    async def test_a_server_that_is_not_trusted_is_told(self, tmp_path: Path) -> None:
        async with LittleServer(tmp_path, lambda request: answer()) as server:
            store = Store(S3Bucket(BUCKET, PREFIX, client_of(server=server)))
            with pytest.raises(StoreError, match=r"is not trusted.* SYNC_ASSETS_CA_BUNDLE"):
                await asyncio.to_thread(store.parts, EXPORT, KEY)
        with pytest.raises(StoreError, match="cannot be reached"):
            store.parts(EXPORT, KEY)

    def test_missing_credentials_and_a_name_that_no_bucket_can_have_are_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import boto3

        forget_aws(monkeypatch)
        client = boto3.Session().client("s3", region_name="us-east-1")
        with pytest.raises(StoreError, match="There are no AWS credentials"):
            Store(S3Bucket(BUCKET, PREFIX, client)).parts(EXPORT, KEY)
        with pytest.raises(StoreError, match="cannot be a place in S3"):
            Store(S3Bucket("Acme bucket", PREFIX, client)).parts(EXPORT, KEY)


def checked(call: Callable[..., Any]) -> Callable[..., Any]:
    """While what it wraps is called, S3 looks at who asks and what they may."""
    from moto.core import set_initial_no_auth_action_count

    return set_initial_no_auth_action_count(0)(call)


@pytest.fixture(scope="module")
def user(s3: Any) -> tuple[str, str]:
    """Key and secret of a user who may do nothing."""
    import boto3

    iam = boto3.client("iam", region_name="us-east-1")
    iam.create_user(UserName="sync")
    key = iam.create_access_key(UserName="sync")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def client_of(
    key: str = "key", secret: str = SECRET, *, server: LittleServer | None = None, verify: str | None = None
) -> Any:
    """A client that tries once."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.url if server else None,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        verify=verify,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def forget_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials and no profile, wherever these tests run."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class TestOpening:
    def test_a_folder_unless_a_bucket_is_named(self, tmp_path: Path) -> None:
        assert open_store(Storage(), tmp_path).url(["x"], "p") == f"{tmp_path}/x/p"
        assert open_store(Storage(directory=str(tmp_path / "own")), tmp_path).url(["x"], "p") == f"{tmp_path}/own/x/p"
        assert list(tmp_path.iterdir()) == []

    def test_a_bucket_that_is_named_is_used(
        self, tmp_path: Path, s3: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store = open_store(Storage(s3_bucket=BUCKET, s3_prefix=prefix), tmp_path)
        publish(store, KEY, "all", "run-1")
        above = f"{prefix}/campaign/opt_out_export/{encoded(KEY)}/"
        found = [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
        assert found == [f"{above}all.json", f"{above}run-1.parquet"]
        assert seen(store) == [1]
        assert list(tmp_path.iterdir()) == []

    def test_a_profile_that_is_not_there_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        forget_aws(monkeypatch)
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(StoreError, match=r"profile for s3://acme-sync is not there\. Correct AWS_PROFILE"):
            open_store(Storage(s3_bucket=BUCKET), tmp_path)

    def test_an_endpoint_that_is_none_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        forget_aws(monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "somewhere")
        with pytest.raises(StoreError, match="AWS settings for s3://acme-sync cannot be used"):
            open_store(Storage(s3_bucket=BUCKET), tmp_path)

    async def test_further_authorities_are_trusted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def empty(request: Request) -> bytes:
            return answer(200, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")

        forget_aws(monkeypatch)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        async with LittleServer(tmp_path, empty) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url.replace("localhost", "127.0.0.1"))
            store = open_store(Storage(s3_bucket=BUCKET), tmp_path, server.ca_file)
            assert await asyncio.to_thread(store.parts, EXPORT, KEY) == []
        assert len(server.requests) == 1

    def test_authorities_that_cannot_be_read_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(SyncAssetsError, match="SYNC_ASSETS_CA_BUNDLE"):
            open_store(Storage(s3_bucket=BUCKET), tmp_path, tmp_path / "missing.pem")

    def test_who_keeps_files_in_a_folder_does_not_wait_for_boto3(self, tmp_path: Path) -> None:
        """Nor for Dagster, which the domain does not need."""
        done = run(
            "import sys; from types import SimpleNamespace as Storage\n"
            f"store = open_store(Storage(s3_bucket=None, s3_prefix='', directory=None), Path({str(tmp_path)!r}))\n"
            "store.write(['x'], 'p', 'run-1', pl.DataFrame({'id': [1]}))\n"
            "print(sorted({'boto3', 'botocore', 'dagster', 'dagster_aws'} & sys.modules.keys()))"
        )
        assert done.stdout == "[]\n", done.stderr
