"""Read, write, list and delete whole files by key, in a local folder or an S3 bucket.

Keys are `/`-separated. Errors of the file system and of S3 are translated to StoreError with cause and remedy. boto3 is
not imported here: the caller passes a client.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sync_assets.errors import SyncAssetsError

UNFINISHED = ".tmp"
"""Suffix of a file that is being written, or whose writer was killed."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLDER = {errno.ENOTDIR, errno.EEXIST, errno.ELOOP}

_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"}
_ELSEWHERE = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
    "307",
}
_NOT_KNOWN = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "TokenRefreshRequired",
    "RequestExpired",
}
_DELETED_AT_ONCE = 1000  # most keys per DeleteObjects


class StoreError(SyncAssetsError):
    """Reading or writing a file failed. The message names the location, never credentials or content."""


class Replaced(StoreError):
    """The file was replaced or removed by another run since it was listed."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a folder: its name without the folder, and its time of modification."""

    name: str
    modified: datetime


class Location(Protocol):
    """A root folder or prefix for files. Every call may raise StoreError.

    Keys are `/`-separated; no segment is `.` or `..`.
    """

    def put(self, key: str, content: bytes) -> None:
        """Write a file atomically: a reader gets the former content or all of the new one."""
        ...

    def get(self, key: str) -> bytes | None:
        """Read a file; None if there is none."""
        ...

    def files(self, folder: str) -> list[File]:
        """List the files of a folder, without subfolders, including unfinished ones; empty if there is no folder."""
        ...

    def folders(self, folder: str) -> list[str]:
        """List the names of a folder's subfolders, sorted."""
        ...

    def delete(self, keys: Collection[str]) -> None:
        """Delete files and folders that become empty. A missing file is no error."""
        ...

    def address(self, key: str) -> str:
        """Return the path or URL of a key, without credentials, to be shown to users."""
        ...


class LocalFolder:
    """A folder of a file system, created at the first write, private to its owner (folders 0700, files 0600)."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root).expanduser().absolute()

    def put(self, key: str, content: bytes) -> None:
        path = self._root / key
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        with _file_system(path.parent):
            _make_private(path.parent)
            try:
                with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
            _make_names_last(path.parent)

    def get(self, key: str) -> bytes | None:
        path = self._root / key
        with _file_system(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def files(self, folder: str) -> list[File]:
        found: list[File] = []
        with _file_system(self._root / folder):
            for entry in self._entries(folder):
                with suppress(FileNotFoundError):  # removed since it was listed
                    if entry.is_file(follow_symlinks=False):
                        modified = entry.stat(follow_symlinks=False).st_mtime
                        found.append(File(entry.name, datetime.fromtimestamp(modified, UTC)))
        return found

    def folders(self, folder: str) -> list[str]:
        with _file_system(self._root / folder):
            return sorted(entry.name for entry in self._entries(folder) if entry.is_dir(follow_symlinks=False))

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def delete(self, keys: Collection[str]) -> None:
        paths = [self._root / key for key in keys]
        for path in paths:
            with _file_system(path.parent):
                path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            with suppress(OSError):  # it is not empty, or does not exist
                folder.rmdir()

    def address(self, key: str) -> str:
        return str(self._root / key)


@contextmanager
def _file_system(path: Path) -> Iterator[None]:
    """Translate OSError to StoreError for a path."""
    elsewhere = "or name another folder in `storage.directory`."
    try:
        yield
    except OSError as error:
        said = error.strerror or type(error).__name__
        if error.errno in _NO_ROOM:
            cause, remedy = f"There is no room left for {path} ({said}).", f"Make room, {elsewhere}"
        elif error.errno in _NOT_ALLOWED:
            cause = f"{path} cannot be used by this user ({said})."
            remedy = f"Give the user the right to read and write there, {elsewhere}"
        elif error.errno in _NO_FOLDER:
            cause, remedy = f"{path} cannot be a folder ({said}).", f"Move away what is in its place, {elsewhere}"
        else:
            cause, remedy = f"{path} cannot be used ({said}).", f"Check the disk, {elsewhere}"
        raise StoreError(cause, remedy) from None


def _make_private(folder: Path) -> None:
    """Create a folder and its missing parents, all private: `mkdir(parents=True)` sets the last one's mode only."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def _make_names_last(folder: Path) -> None:
    """Sync a folder, so that a rename survives a power cut. Not on Windows, which cannot open folders."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class S3Bucket:
    """A prefix of an S3 bucket. client: boto3's S3 client. An S3 object is visible only when it is complete."""

    def __init__(self, bucket: str, prefix: str, client: Any) -> None:
        self._bucket = bucket
        self._prefix = "".join(f"{segment}/" for segment in prefix.split("/") if segment)
        self._client = client

    def put(self, key: str, content: bytes) -> None:
        with self._s3():
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content)

    def get(self, key: str) -> bytes | None:
        with self._s3():
            try:
                return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
            except self._client.exceptions.NoSuchKey:
                return None

    def files(self, folder: str) -> list[File]:
        above = f"{self._prefix}{folder}/"
        found = [one for page in self._pages(above) for one in page.get("Contents", [])]
        return [File(one["Key"].removeprefix(above), one["LastModified"]) for one in found if one["Key"] != above]

    def folders(self, folder: str) -> list[str]:
        above = f"{self._prefix}{folder}/"
        found = [one["Prefix"] for page in self._pages(above) for one in page.get("CommonPrefixes", [])]
        return sorted(one.removeprefix(above).rstrip("/") for one in found)

    def _pages(self, above: str) -> Iterator[dict[str, Any]]:
        with self._s3():
            pages = self._client.get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self._bucket, Prefix=above, Delimiter="/")

    def delete(self, keys: Collection[str]) -> None:
        named = [{"Key": self._prefix + key} for key in keys]
        for first in range(0, len(named), _DELETED_AT_ONCE):
            with self._s3():
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": named[first : first + _DELETED_AT_ONCE], "Quiet": True}
                )
            if refused := answer.get("Errors"):
                raise self._refused(str(refused[0].get("Code", "")))

    def address(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    @contextmanager
    def _s3(self) -> Iterator[None]:
        """Translate errors of S3 and its client to StoreError, without their text: it may quote an access key."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            yield
        except ClientError as error:
            raise self._refused(str(error.response.get("Error", {}).get("Code", ""))) from None
        except BotoCoreError as error:
            raise client_fault(error, self.address("")) from None

    def _refused(self, code: str) -> StoreError:
        """Return the StoreError for an S3 error code.

        Codes: Amazon S3 API Reference, "Error responses", list of error codes.
        """
        place = self.address("")
        if code == "NoSuchBucket":
            return StoreError(
                f"There is no bucket {self._bucket}.", "Correct `storage.s3_bucket`, or create the bucket."
            )
        if code in _DENIED:
            return StoreError(
                f"S3 denies access to {place} ({code}).",
                "Grant the role s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject under "
                "the prefix; with a KMS key also kms:GenerateDataKey and kms:Decrypt.",
            )
        if code in _NOT_KNOWN:
            return StoreError(f"AWS does not accept the credentials for {place} ({code}).", "Renew them.")
        if code in _ELSEWHERE:
            return StoreError(
                f"The bucket {self._bucket} stands in another region ({code}).",
                "Set AWS_DEFAULT_REGION to the bucket's region.",
            )
        if code == "RequestTimeTooSkewed":
            return StoreError(f"S3 refuses {place}: this machine's clock is wrong.", "Set the clock.")
        return StoreError(f"S3 failed at {place} ({code or 'no code'}).", "Try again later.")


def client_fault(error: Exception, place: str) -> StoreError:
    """Return the StoreError for an error of boto3 itself, such as missing credentials."""
    from botocore import exceptions as boto  # noqa: PLC0415

    name = type(error).__name__
    if isinstance(error, boto.ProfileNotFound):
        return StoreError(f"The AWS profile for {place} is not there.", "Correct AWS_PROFILE, or unset it.")
    if isinstance(
        error,
        boto.NoCredentialsError
        | boto.PartialCredentialsError
        | boto.CredentialRetrievalError
        | boto.TokenRetrievalError
        | boto.SSOError,
    ):
        return StoreError(
            f"There are no AWS credentials for {place} ({name}).",
            "Give the task or the machine a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if isinstance(error, boto.ParamValidationError):
        return StoreError(f"{place} cannot be a place in S3.", "Correct `storage.s3_bucket` and `storage.s3_prefix`.")
    if isinstance(error, boto.SSLError):
        return StoreError(
            f"The certificate of the server of {place} is not trusted.",
            "Name the file of its authority in SYNC_ASSETS_CA_BUNDLE.",
        )
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError | boto.IncompleteReadError):
        return StoreError(
            f"S3 cannot be reached for {place} ({name}).", "Check the network, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL."
        )
    return StoreError(
        f"The AWS settings for {place} cannot be used ({name}).",
        "Check AWS_DEFAULT_REGION, AWS_ENDPOINT_URL and the AWS configuration file.",
    )
