"""Where tables that the opt-out flows make are kept: Parquet parts on a local folder or on S3.

    <root or s3://bucket/prefix>/<asset key…>/<partition>/<part>.parquet
                                                          <manifest>.json

A part is whole or not there. What readers see of a partition is what its manifests name: each is written last and at
one stroke, so that the parts of a run become visible together, and what a killed run left is never seen. `Parts` and
`frames` read that; `read` and `parts` take the files as they stand. `sweep` removes what no manifest names, `prune`
whole partitions. Nothing here needs Dagster, and boto3 is imported only when S3 is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from sync_assets.parquet.locations import LocalFolder, Location, Replaced, S3Bucket, StoreError, client_fault

__all__ = [
    "LocalStore",
    "Part",
    "Parts",
    "Replaced",
    "S3Store",
    "Storage",
    "Store",
    "StoreError",
    "frames",
    "open_store",
    "prune",
]

_PART, _MANIFEST = ".parquet", ".json"
_AGAIN = "Materialise this partition again."
_LONGEST = 200
S3_ATTEMPTS = 5
"""Tries of a request to S3, by boto3."""
"""Bytes of an encoded name: file systems take 255, of which the ending and that of an unfinished file are ours."""
_AT_WORK = timedelta(days=1)
"""What is not published for this long is a leftover: no run takes as long from one part to its end."""
_ODD = re.compile(rb"[^A-Za-z0-9@_.-]|\A\.|\.\Z")
_ESCAPE = re.compile(rb"!([0-9A-F]{2})")


def encoded(name: str) -> str:
    """Any name -> one that file systems and S3 take as it is; different ones for different names.

    Letters, digits and `@_.-` stay, anything else is `!` and two hex digits for each byte of UTF-8, a dot at either end
    too (`..`, hidden files). Of one that is too long the end is `!!` and a hash of all of it. `!` is safe in S3 keys,
    which `%` is not (Amazon S3 User Guide, "Naming Amazon S3 objects").
    """
    plain = name.encode("utf-8", "surrogatepass")
    safe = _ODD.sub(lambda found: b"!%02X" % found[0][0], plain).decode() or "!"
    if len(safe) <= _LONGEST:
        return safe
    digest = hashlib.sha256(plain).hexdigest()[:40]
    return f"{safe[: _LONGEST - len(digest) - 2]}!!{digest}"


def decoded(safe: str) -> str:
    """The name that `encoded` was given. ValueError if it was cut, or is none of ours."""
    plain = b"" if safe == "!" else _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), safe.encode())
    name = "" if "!!" in safe else plain.decode("utf-8", "surrogatepass")
    if encoded(name) != safe:
        raise ValueError("This name was cut, or is none of ours.")
    return name


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of a partition: `rows` in it, `size` in bytes."""

    name: str
    rows: int
    size: int


class Store:
    """Parts of a partition of an asset. Every call may raise StoreError.

    Partitions may have any name; those of parts and manifests are short (`encoded` leaves them uncut).
    """

    def __init__(self, place: Location) -> None:
        self._place = place

    def write(self, asset: Sequence[str], partition: str, part: str, frame: pl.DataFrame) -> Part:
        """Writes one part: a reader sees the whole of it or none. One of that name is replaced."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        content = buffer.getvalue()
        self._place.put(_key(asset, partition, part, _PART), content)
        return Part(part, frame.height, len(content))

    def parts(self, asset: Sequence[str], partition: str) -> list[str]:
        """The names of all parts that stand there, sorted, published or not."""
        return sorted(_named(_PART, [file.name for file in self._place.files(_folder(asset, partition))]))

    def read(self, asset: Sequence[str], partition: str, part: str) -> pl.DataFrame:
        """One part, published or not."""
        content = self._place.get(_key(asset, partition, part, _PART))
        if content is None:
            raise Replaced(
                f"The part {part} of {self.url(asset, partition)} is gone: it was replaced or removed meanwhile.",
                "Run again what reads it.",
            )
        try:
            return pl.read_parquet(content)
        except pl.exceptions.PolarsError as error:
            place = f"The part {part} of {self.url(asset, partition)}"
            raise StoreError(f"{place} is damaged ({type(error).__name__}).", _AGAIN) from None

    def remove(self, asset: Sequence[str], partition: str, *parts: str) -> None:
        """Removes parts; that one is not there is no error."""
        self._place.delete([_key(asset, partition, part, _PART) for part in parts])

    def url(self, asset: Sequence[str], partition: str) -> str:
        """Where the partition stands, for people: a path or s3://…, without credentials."""
        return self._place.address(_folder(asset, partition))

    def publish(self, asset: Sequence[str], partition: str, manifest: str, parts: Sequence[Part]) -> None:
        """Makes exactly these parts visible under the manifest's name, in the place of those that it named before."""
        missing = {part.name for part in parts}.difference(self.parts(asset, partition))
        if missing:
            raise StoreError(
                f"{len(missing)} of {len(parts)} parts written to {self.url(asset, partition)} are gone already.",
                f"Somebody has cleared that folder meanwhile. {_AGAIN}",
            )
        # The partition's name is for people: of one that is too long the folder does not tell it.
        content = {"partition": partition, "parts": [asdict(part) for part in parts]}
        self._place.put(_key(asset, partition, manifest, _MANIFEST), json.dumps(content, indent=1).encode())

    def withdraw(self, asset: Sequence[str], partition: str, manifest: str) -> None:
        """Makes the manifest's parts invisible; they stand there until they are removed or swept."""
        self._place.delete([_key(asset, partition, manifest, _MANIFEST)])

    def published(self, asset: Sequence[str], partition: str) -> dict[str, list[Part]]:
        """Manifest -> its parts; the manifest that was published last at the end. Empty: nothing ever was."""
        return self._published(_folder(asset, partition))

    def _published(self, folder: str) -> dict[str, list[Part]]:
        files = sorted(self._place.files(folder), key=lambda file: (file.modified, file.name))
        found: dict[str, list[Part]] = {}
        for name in _named(_MANIFEST, [file.name for file in files]):
            key = f"{folder}/{encoded(name)}{_MANIFEST}"
            if (content := self._place.get(key)) is None:  # withdrawn since the folder was listed
                continue
            try:
                found[name] = [Part(**part) for part in json.loads(content)["parts"]]
            except (ValueError, TypeError, KeyError):
                raise StoreError(f"{self._place.address(key)} is damaged.", f"Remove it. {_AGAIN}") from None
        return found

    def sweep(self, asset: Sequence[str], partition: str, before: datetime | None = None) -> int:
        """Removes leftovers: what no manifest names and nobody has touched since `before`. Gives their number.

        A run that is at work has such files, too, hence the day that is given unless told otherwise.
        """
        return self._sweep(_folder(asset, partition), before or datetime.now(UTC) - _AT_WORK)

    def _sweep(self, folder: str, before: datetime) -> int:
        # Listed first: what is published between the two looks has a manifest in the second.
        found = [file.name for file in self._place.files(folder) if file.modified < before]
        named = {f"{encoded(part.name)}{_PART}" for parts in self._published(folder).values() for part in parts}
        left = [name for name in found if not name.endswith(_MANIFEST) and name not in named]
        self._place.delete([f"{folder}/{name}" for name in left])
        return len(left)

    def prune(self, asset: Sequence[str], older_than: datetime) -> int:
        """See the function of that name."""
        above, removed, now = "/".join(map(encoded, asset)), 0, datetime.now(UTC)
        for folder in (f"{above}/{name}" for name in self._place.folders(above)):
            files = self._place.files(folder)
            if not files or max(file.modified for file in files) >= older_than:
                self._sweep(folder, now - _AT_WORK)
                continue
            for manifests in (True, False):  # first: a reader finds nothing rather than half of it
                some = [file.name for file in files if file.name.endswith(_MANIFEST) is manifests]
                self._place.delete([f"{folder}/{name}" for name in some])
            removed += 1
        return removed


class LocalStore(Store):
    """On a folder, private to its owner, made when first written."""

    def __init__(self, root: Path) -> None:
        super().__init__(LocalFolder(root))


class S3Store(Store):
    """In an S3 bucket under a prefix, which may be empty; `client` is boto3's S3 client."""

    def __init__(self, bucket: str, prefix: str, client: Any) -> None:
        super().__init__(S3Bucket(bucket, prefix, client))


class Parts:
    """The published parts of partitions of one asset, as they were when it was made: iterate as often as you like.

    Frames are read one by one, those of what was published first come first. A part that a run has replaced since is
    `Replaced`.
    """

    def __init__(self, store: Store, asset: Sequence[str], partitions: Sequence[str]) -> None:
        self._store, self._asset, self._partitions = store, tuple(asset), tuple(partitions)
        self._parts = [
            (partition, part)
            for partition in partitions
            for parts in store.published(asset, partition).values()
            for part in parts
        ]

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for partition, part in self._parts:
            yield self._store.read(self._asset, partition, part.name)

    def anew(self) -> Parts:
        """The same partitions as they are now."""
        return Parts(self._store, self._asset, self._partitions)

    def __len__(self) -> int:
        """How many frames."""
        return len(self._parts)

    @property
    def rows(self) -> int:
        """Rows in all frames; none is read for it."""
        return sum(part.rows for _, part in self._parts)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(part.size for _, part in self._parts)


def frames(store: Store, asset: Sequence[str], partition: str) -> Iterator[pl.DataFrame]:
    """The published frames of one partition, in memory one at a time. None if it was never written."""
    yield from Parts(store, asset, [partition])


def prune(store: Store, asset: Sequence[str], older_than: datetime) -> int:
    """Removes the partitions to which nothing has been written since `older_than`, and what killed runs left in the
    others. Gives the number of those partitions."""
    return store.prune(asset, older_than)


class Storage(Protocol):
    """What the configuration says of it: S3 if a bucket is named, else a folder."""

    @property
    def s3_bucket(self) -> str | None: ...
    @property
    def s3_prefix(self) -> str | None: ...
    @property
    def directory(self) -> Path | str | None: ...


def open_store(config: Storage, default_root: Path, ca_bundle: Path | None = None) -> Store:
    """The store that the configuration names. Nothing is read or made yet.

    S3: boto3 finds region, credentials and endpoint by itself (role, AWS_DEFAULT_REGION, AWS_PROFILE, …). `ca_bundle`:
    PEM file of further authorities to trust.
    """
    if not config.s3_bucket:
        return LocalStore(Path(config.directory or default_root))
    import boto3  # slow to import, and needed only for S3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    trusted = _authorities(ca_bundle) if ca_bundle else None
    try:
        retries = Config(retries={"max_attempts": S3_ATTEMPTS})
        client = boto3.Session().client("s3", verify=trusted and str(trusted), config=retries)
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise client_fault(error, f"s3://{config.s3_bucket}") from None
    if trusted:
        weakref.finalize(client, trusted.unlink, missing_ok=True)
    return S3Store(config.s3_bucket, config.s3_prefix or "", client)


def _authorities(ca_bundle: Path) -> Path:
    """A new file of all authorities to trust: boto3 takes one in the place of its own (certifi's)."""
    import certifi  # noqa: PLC0415

    from sync_assets.http.transport import ssl_context  # noqa: PLC0415

    ssl_context(ca_bundle)  # SyncAssetsError for one that cannot be read
    descriptor, path = tempfile.mkstemp(prefix="sync_assets_", suffix=".pem")
    with os.fdopen(descriptor, "wb") as file:
        file.write(Path(certifi.where()).read_bytes() + b"\n" + ca_bundle.read_bytes())
    return Path(path)


def _folder(asset: Sequence[str], partition: str) -> str:
    return "/".join(encoded(name) for name in (*asset, partition))


def _key(asset: Sequence[str], partition: str, name: str, ending: str) -> str:
    safe = encoded(name)
    decoded(safe)  # ValueError for one that would be cut: `parts` could not tell it
    return f"{_folder(asset, partition)}/{safe}{ending}"


def _named(ending: str, files: Iterable[str]) -> Iterator[str]:
    """The names behind the files of that ending. One that is none of ours is passed over."""
    for file in files:
        if file.endswith(ending):
            with suppress(ValueError):
                yield decoded(file.removesuffix(ending))
