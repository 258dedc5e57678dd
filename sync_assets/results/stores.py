"""Where `results` go: a folder, Amazon S3 or Azure Blob Storage.

The file of a day is `<table>/day=<day>/<table>.parquet`: partitions as Polars, DuckDB, Spark, Athena and Synapse read
them. It appears whole or not at all: in a folder by a rename, elsewhere by one upload. Before an upload it is a
temporary file without a name: no other user can open it, and it ends with the process.
"""

import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import one_line

INCOMPLETE = ".incomplete"
_LEFT_SECONDS = 86_400
"""Age from which a file that a killed process left is deleted."""


@dataclass(frozen=True)
class Folder:
    """A folder of this machine. root: its path."""

    root: str

    def names(self, prefix: str) -> Iterable[str]:
        """Return the names, relative to the root, of the files in a folder."""
        with _reported("listed", self.root, OSError):
            return [file.relative_to(self.root).as_posix() for file in Path(self.root, prefix).rglob("*.parquet")]

    @contextmanager
    def writing(self, name: str) -> Generator[IO[bytes]]:
        """Yield an empty file, which has this name once the block has ended without an error."""
        with _reported("written", self.root, OSError), self._writing(name) as opened:
            yield opened

    @contextmanager
    def _writing(self, name: str) -> Generator[IO[bytes]]:
        file, new = Path(self.root, name), Path(self.root, INCOMPLETE, uuid.uuid4().hex)
        new.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process deletes them
            for left in new.parent.iterdir():
                if left.stat().st_mtime < time.time() - _LEFT_SECONDS:
                    left.unlink()
        try:
            with new.open("xb+") as opened:
                yield opened
            file.parent.mkdir(parents=True, exist_ok=True)
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Delete a file, and its folder if that is empty."""
        file = Path(self.root, name)
        with _reported("deleted", self.root, OSError):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            file.parent.rmdir()


@dataclass(frozen=True)
class ObjectStore:
    """Objects with a common prefix. root: their URL. The functions take and return whole names."""

    root: str
    names_of: Callable[[str], Iterable[str]]
    upload: Callable[[IO[bytes], str], object]
    remove: Callable[[str], object]

    @property
    def _prefix(self) -> str:
        folder = self.root.partition("://")[2].partition("/")[2]
        return f"{folder}/" if folder else ""

    def names(self, prefix: str) -> Iterable[str]:
        """As of Folder."""
        with _reported("listed", self.root):
            return [name.removeprefix(self._prefix) for name in self.names_of(f"{self._prefix}{prefix}/")]

    @contextmanager
    def writing(self, name: str) -> Generator[IO[bytes]]:
        """As of Folder."""
        with tempfile.TemporaryFile() as opened:
            yield opened
            opened.seek(0)
            with _reported("written", self.root):
                self.upload(opened, self._prefix + name)

    def delete(self, name: str) -> None:
        """Delete an object."""
        with _reported("deleted", self.root):
            self.remove(self._prefix + name)


@contextmanager
def _reported(what: str, root: str, kind: type[Exception] = Exception) -> Generator[None]:
    """Turn errors of this class, and Polars' own, into SyncAssetsError. kind: each client has classes of its own.

    Their texts name places, codes and no rows. Polars' may quote more, so only the number of its OSError is shown.
    """
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if not isinstance(error, kind) and not number:
            raise
        why = os.strerror(int(number[1])) if number else one_line(f"{type(error).__name__}: {error}")[:300]
        raise SyncAssetsError(
            f"Results were not {what} at {root}: {why}",
            "Check `results.to`, the sign-in, its rights and the room, and materialise again.",
        ) from None


Store = Folder | ObjectStore


def s3(root: str, client: Any) -> ObjectStore:
    """Return the place of an `s3://` URL. client: of boto3."""
    bucket = root.removeprefix("s3://").partition("/")[0]

    def names_of(prefix: str) -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]

    def upload(file: IO[bytes], name: str) -> None:
        client.upload_fileobj(file, bucket, name)

    return ObjectStore(root, names_of, upload, lambda name: client.delete_object(Bucket=bucket, Key=name))


def azure(root: str) -> ObjectStore:
    """Return the place of an `abfss://` URL, with the sign-in that azure-identity finds, such as a managed identity.

    Raises SyncAssetsError without the extra `azure`.
    """
    try:
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415
        from azure.storage.blob import ContainerClient  # noqa: PLC0415
    except ImportError as error:
        raise SyncAssetsError(
            "`results.to` names Azure Blob Storage, whose client is not installed.",
            "Run `pip install 'sync_assets[azure]'`.",
        ) from error
    name, _, host = root.removeprefix("abfss://").partition("/")[0].partition("@")
    account = f"https://{host.replace('.dfs.', '.blob.', 1)}"
    return blobs(root, ContainerClient(account, name, credential=DefaultAzureCredential()))


def blobs(root: str, container: Any) -> ObjectStore:
    """Return the place of an `abfss://` URL. container: client of azure-storage-blob."""

    def upload(file: IO[bytes], name: str) -> None:
        container.upload_blob(name, file, overwrite=True)

    return ObjectStore(
        root, lambda prefix: container.list_blob_names(name_starts_with=prefix), upload, container.delete_blob
    )
