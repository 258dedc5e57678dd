"""The places of Parquet parts: a folder, S3 through boto3, and which of them is opened.

Each failure is an error with its cause.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_assets.config.opt_out import Storage
from sync_assets.errors import SyncAssetsError
from sync_assets.parquet import locations
from sync_assets.parquet.locations import LocalFolder, S3Bucket
from sync_assets.parquet.store import Store, StoreError, encoded, open_store
from sync_assets_tests.support.little_server import LittleServer, Request, answer
from sync_assets_tests.support.parquet_parts import BUCKET, EXPORT, KEY, LATER, files, publish, seen, table

PREFIX = "sync/assets"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


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
        with not_the_administrator(), pytest.raises(StoreError) as told:
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
        (tmp_path / "store").write_text("another program's")
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
def not_the_administrator() -> Iterator[None]:
    """Run the block as another user: no file is forbidden to the administrator."""
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
        monkeypatch.setenv("AWS_PROFILE", "missing")
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
