"""Store the tables of the opt-out flows as Parquet parts, in a local folder or on S3.

    <root or s3://bucket/prefix>/<asset key…>/<partition>/<part>.parquet
                                                          <manifest>.json

Invariants: a part is written atomically. Readers see only the parts that a manifest of the partition names; a manifest
is written last, and atomically, so the parts of a run become visible together, and those of a killed run never do.
`Parts` reads published parts; `read` and `parts` also unpublished ones. `sweep` removes parts that no manifest names,
`prune` whole partitions. Nothing here needs Dagster, and boto3 is imported only if S3 is used.
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

import polars as pl

from sync_assets.config.opt_out import Storage
from sync_assets.parquet.locations import LocalFolder, Location, Replaced, S3Bucket, StoreError, client_fault

_PART, _MANIFEST = ".parquet", ".json"
_AGAIN = "Materialise this partition again."
_LONGEST = 200
"""Most bytes of an encoded name: file systems allow 255, including the suffixes of a part and an unfinished file."""
S3_ATTEMPTS = 5
"""Attempts of a request to S3, by boto3."""
_AT_WORK = timedelta(days=1)
"""A part that is not published after this time is a leftover: no run takes as long from a part to its end."""
_ODD = re.compile(rb"[^A-Za-z0-9@_.-]|\A\.|\.\Z")
_ESCAPE = re.compile(rb"!([0-9A-F]{2})")


def encoded(name: str) -> str:
    """Encode any name to a unique one that is valid in file systems and S3 keys.

    Letters, digits and `@_.-` stay; any other byte of UTF-8 becomes `!` and two hex digits, and so does a dot at either
    end (`..`, hidden files). A name that is too long is cut and ends with `!!` and a hash of the whole name. `!` is
    safe in S3 keys, `%` is not (Amazon S3 User Guide, "Naming Amazon S3 objects").
    """
    plain = name.encode("utf-8", "surrogatepass")
    safe = _ODD.sub(lambda found: b"!%02X" % found[0][0], plain).decode() or "!"
    if len(safe) <= _LONGEST:
        return safe
    digest = hashlib.sha256(plain).hexdigest()[:40]
    return f"{safe[: _LONGEST - len(digest) - 2]}!!{digest}"


def decoded(safe: str) -> str:
    """Return the name that `encoded` encoded. ValueError if it was cut, or is not the result of `encoded`."""
    plain = b"" if safe == "!" else _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), safe.encode())
    name = "" if "!!" in safe else plain.decode("utf-8", "surrogatepass")
    if encoded(name) != safe:
        raise ValueError("This name was cut, or is none of ours.")
    return name


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of a partition. size: in bytes."""

    name: str
    rows: int
    size: int


class Store:
    """Reads and writes the parts of an asset's partitions. Every call may raise StoreError.

    Partitions may have any name; names of parts and manifests must be short enough for `encoded` not to cut them.
    """

    def __init__(self, place: Location) -> None:
        self._place = place

    def write(self, asset: Sequence[str], partition: str, part: str, frame: pl.DataFrame) -> Part:
        """Write one part atomically, without publishing it; replace a part of that name."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        content = buffer.getvalue()
        self._place.put(_key(asset, partition, part, _PART), content)
        return Part(part, frame.height, len(content))

    def parts(self, asset: Sequence[str], partition: str) -> list[str]:
        """Return the names of all parts, published or not, sorted."""
        return sorted(_named(_PART, [file.name for file in self._place.files(_folder(asset, partition))]))

    def read(self, asset: Sequence[str], partition: str, part: str) -> pl.DataFrame:
        """Read one part, published or not. Raises Replaced if it does not exist any more."""
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
        """Delete parts. A missing part is no error."""
        self._place.delete([_key(asset, partition, part, _PART) for part in parts])

    def url(self, asset: Sequence[str], partition: str) -> str:
        """Return the partition's path or s3:// URL, without credentials, to be shown to users."""
        return self._place.address(_folder(asset, partition))

    def publish(self, asset: Sequence[str], partition: str, manifest: str, parts: Sequence[Part]) -> None:
        """Write a manifest that makes exactly these parts visible, in place of those that it named before."""
        missing = {part.name for part in parts}.difference(self.parts(asset, partition))
        if missing:
            raise StoreError(
                f"{len(missing)} of {len(parts)} parts written to {self.url(asset, partition)} are gone already.",
                f"Somebody has cleared that folder meanwhile. {_AGAIN}",
            )
        # The partition's name is informative: the folder's name is cut if it is too long.
        content = {"partition": partition, "parts": [asdict(part) for part in parts]}
        self._place.put(_key(asset, partition, manifest, _MANIFEST), json.dumps(content, indent=1).encode())

    def published(self, asset: Sequence[str], partition: str) -> dict[str, list[Part]]:
        """Return manifest -> its parts, the last published manifest last; empty if nothing was published."""
        return self._published(_folder(asset, partition))

    def _published(self, folder: str) -> dict[str, list[Part]]:
        files = sorted(self._place.files(folder), key=lambda file: (file.modified, file.name))
        found: dict[str, list[Part]] = {}
        for name in _named(_MANIFEST, [file.name for file in files]):
            key = f"{folder}/{encoded(name)}{_MANIFEST}"
            if (content := self._place.get(key)) is None:  # removed since the folder was listed
                continue
            try:
                found[name] = [Part(**part) for part in json.loads(content)["parts"]]
            except (ValueError, TypeError, KeyError):
                raise StoreError(f"{self._place.address(key)} is damaged.", f"Remove it. {_AGAIN}") from None
        return found

    def sweep(self, asset: Sequence[str], partition: str, before: datetime | None = None) -> int:
        """Delete the parts that no manifest names and that were last modified before `before`; return their number.

        A run under way has such parts, too: the default is therefore a day ago.
        """
        return self._sweep(_folder(asset, partition), before or datetime.now(UTC) - _AT_WORK)

    def _sweep(self, folder: str, before: datetime) -> int:
        # Parts are listed before manifests, so a part that is published in between is named by one.
        found = [file.name for file in self._place.files(folder) if file.modified < before]
        named = {f"{encoded(part.name)}{_PART}" for parts in self._published(folder).values() for part in parts}
        left = [name for name in found if not name.endswith(_MANIFEST) and name not in named]
        self._place.delete([f"{folder}/{name}" for name in left])
        return len(left)

    def prune(self, asset: Sequence[str], older_than: datetime) -> int:
        """Delete the partitions not written since `older_than`, and leftovers of killed runs in the others.

        Returns:
            The number of deleted partitions.
        """
        above, removed, now = "/".join(map(encoded, asset)), 0, datetime.now(UTC)
        for folder in (f"{above}/{name}" for name in self._place.folders(above)):
            files = self._place.files(folder)
            if not files or max(file.modified for file in files) >= older_than:
                self._sweep(folder, now - _AT_WORK)
                continue
            for manifests in (True, False):  # manifests first, so that a reader finds nothing rather than half of it
                some = [file.name for file in files if file.name.endswith(_MANIFEST) is manifests]
                self._place.delete([f"{folder}/{name}" for name in some])
            removed += 1
        return removed


class Parts:
    """The published parts of an asset's partitions, as of the creation of this object. May be iterated repeatedly.

    Frames are read one by one, in the order of publication. Raises Replaced for a part that was replaced since.
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
        """Return the parts of the same partitions as published now."""
        return Parts(self._store, self._asset, self._partitions)

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self._parts)

    @property
    def rows(self) -> int:
        """Number of rows in all parts, without reading them."""
        return sum(part.rows for _, part in self._parts)

    @property
    def size(self) -> int:
        """Size of all parts in bytes."""
        return sum(part.size for _, part in self._parts)


def open_store(config: Storage, default_root: Path, ca_bundle: Path | None = None) -> Store:
    """Open the configured store, without reading or creating anything.

    For S3, boto3 determines region, credentials and endpoint (role, AWS_DEFAULT_REGION, AWS_PROFILE, …).

    Args:
        config: the location.
        default_root: the folder if none is configured.
        ca_bundle: PEM file of further authorities to trust.
    """
    if not config.s3_bucket:
        return Store(LocalFolder(Path(config.directory or default_root)))
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
    return Store(S3Bucket(config.s3_bucket, config.s3_prefix, client))


def _authorities(ca_bundle: Path) -> Path:
    """Write a temporary file of all authorities to trust: boto3 uses one in place of its own (certifi's)."""
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
    decoded(safe)  # ValueError for a name that would be cut: `parts` could not decode it
    return f"{_folder(asset, partition)}/{safe}{ending}"


def _named(ending: str, files: Iterable[str]) -> Iterator[str]:
    """Yield the decoded names of the files with a suffix. Files of other origin are skipped."""
    for file in files:
        if file.endswith(ending):
            with suppress(ValueError):
                yield decoded(file.removesuffix(ending))
