"""A file of results appears whole or not at all: in a folder, on S3 (moto) and on Azure Blob Storage (Azurite)."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sync_assets.errors import SyncAssetsError
from sync_assets.results.stores import INCOMPLETE, Folder, Store, azure, blobs, s3
from sync_assets_tests.support.waiting import until

Place = tuple[Store, Callable[[str], bytes]]
"""A store, and what reads a file of it."""
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, which its documents print."""


@pytest.fixture(scope="module")
def bucket() -> Iterator[Place]:
    from boto3 import client
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    sign_in = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    of_s3 = client("s3", endpoint_url=f"http://{host}:{port}", **sign_in)
    of_s3.create_bucket(Bucket="results")

    def content(name: str) -> bytes:
        return of_s3.get_object(Bucket="results", Key=f"of/others/{name}")["Body"].read()

    yield s3("s3://results/of/others", of_s3), content
    server.stop()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    command = shutil.which("azurite-blob")
    if command is None:
        pytest.skip("Azurite is not installed: npm install --global azurite")
    from azure.storage.blob import ContainerClient

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--blobPort", str(port)]
    folder = tmp_path_factory.mktemp("azurite")
    process = subprocess.Popen([command, *options], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = ContainerClient(f"http://127.0.0.1:{port}/{ACCOUNT}", "results", credential=KEY)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listens)
        client.create_container()
        store = blobs(f"abfss://results@{ACCOUNT}.dfs.core.windows.net/of/others", client)
        yield store, lambda name: client.download_blob(f"of/others/{name}").readall()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["folder", "bucket", "container"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param != "folder":
        return request.getfixturevalue(request.param)
    return Folder(str(tmp_path)), lambda name: (tmp_path / name).read_bytes()


def write(store: Store, name: str, content: bytes, error: Exception | None = None) -> None:
    with store.writing(name) as file:
        file.write(content)
        if error:
            raise error


def test_a_file_is_written_replaced_listed_and_deleted(place: Place) -> None:
    store, content = place
    name, other = "daily/day=2026-12-01/daily.parquet", "daily/day=2026-12-02/daily.parquet"
    large = os.urandom(1_000_000) * 20  # in parts, where a store has them
    write(store, name, b"first")
    write(store, other, large)
    write(store, "deliveries/day=2026-12-01/deliveries.parquet", b"")
    assert sorted(store.names("daily")) == [name, other]
    write(store, name, b"second")
    assert (content(name), content(other) == large) == (b"second", True)
    for one in (name, other):
        store.delete(one)
    assert (list(store.names("daily")), list(store.names("unknown"))) == ([], [])


def test_a_file_whose_writing_fails_is_as_it_was(place: Place) -> None:
    store, content = place
    old, new = "decisions/day=2026-12-01/decisions.parquet", "decisions/day=2026-12-02/decisions.parquet"
    write(store, old, b"old")
    for name in (old, new):
        with pytest.raises(ValueError, match="in the middle"):
            write(store, name, b"half", ValueError("in the middle"))
    assert (list(store.names("decisions")), content(old)) == ([old], b"old")


def test_an_error_of_a_client_names_place_and_cause(bucket: Place) -> None:
    store = replace(bucket[0], upload=lambda *_: 1 / 0, names_of=lambda _: 1 / 0, remove=lambda _: 1 / 0)  # pyright: ignore
    for work in (lambda: write(store, "a", b""), lambda: store.names("a"), lambda: store.delete("a")):
        with pytest.raises(SyncAssetsError, match="at s3://results/of/others: ZeroDivisionError: division by zero"):
            work()


def test_a_folder_loses_what_a_killed_process_left_a_day_ago_and_nothing_that_is_being_written(tmp_path: Path) -> None:
    store, left = Folder(str(tmp_path)), tmp_path / INCOMPLETE
    left.mkdir()
    for name in ("old", "new"):
        (left / name).touch()
    os.utime(left / "old", (old := time.time() - 90_000, old))
    write(store, "daily/day=2026-12-01/daily.parquet", b"")
    assert [file.name for file in left.iterdir()] == ["new"]
    store.delete("daily/day=2026-12-01/daily.parquet")
    assert not (tmp_path / "daily" / "day=2026-12-01").exists()


def test_an_account_of_azure_is_that_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.storage import blob

    class Client:
        delete_blob = None

        def __init__(self, account: str, name: str, credential: object) -> None:
            assert (account, name) == ("https://account.blob.core.windows.net", "mine")

    monkeypatch.setattr(blob, "ContainerClient", Client)
    assert azure("abfss://mine@account.dfs.core.windows.net/folder").root.endswith("/folder")
