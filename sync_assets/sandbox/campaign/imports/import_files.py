"""Read an import file as Campaign's activities Transfer file and Load file do (docs/dev/references/campaign.md 8).

Here: bytes, lines and cells, and cells as values of a resource. What becomes of a row: `import_run.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sync_assets.sandbox.campaign.schema import Link
from sync_assets.sandbox.campaign.store import Record
from sync_assets.sandbox.campaign.values import Converter
from sync_assets.sandbox.campaign.view import View

_CHUNK = 1 << 18
_KNOWN = 1000
"""Converted cells that are kept for each column."""


class BadFile(ValueError):
    """Raised for a file that no workflow can import. The message has the cause and no values."""


def copied(source: Path, target: Path, share: float) -> Iterator[int]:
    """Copy the first `share` of a file's bytes. Yield the lines of each part that was copied."""
    remaining = int(source.stat().st_size * share)
    with source.open("rb") as reading, target.open("xb") as writing:

        def parts() -> Iterator[bytes]:
            nonlocal remaining
            while remaining and (chunk := reading.read(min(_CHUNK, remaining))):
                remaining -= len(chunk)
                writing.write(chunk)
                yield chunk

        for text in _plain(source.name, parts()):
            yield text.count(b"\n")


def lines(file: Path) -> Iterator[list[str]]:
    """Yield the cells of each line, the header's first. Only LF ends a line; a last line without it is one, too.

    Raises BadFile.
    """
    rest = b""
    with file.open("rb") as stream:
        for text in _plain(file.name, iter(lambda: stream.read(_CHUNK), b"")):
            *complete, rest = (rest + text).split(b"\n")
            for line in complete:
                yield line.decode(errors="replace").split("\t")
    if rest:
        yield rest.decode(errors="replace").split("\t")


def _plain(name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of a file, decompressed if its name ends with .gz; what a cut file contains is no error."""
    if not name.endswith(".gz"):
        yield from chunks
        return
    stream = zlib.decompressobj(31)
    for chunk in chunks:
        rest = chunk
        while rest:
            try:
                yield stream.decompress(rest)
            except zlib.error:
                raise BadFile("a file is not gzip") from None
            rest = stream.unused_data
            if stream.eof:  # a file may consist of several members
                stream = zlib.decompressobj(31)


class Columns:
    """The columns of a file as attributes of a resource; the first one is the key.

    Args:
        view: Of the resource.
        header: Names of attributes; a part of a group with a dot.
        resolve: Returns the serial of a link's target by its key; 0 if there is none.

    Raises:
        BadFile: The resource lacks an attribute, or it is read-only.
    """

    def __init__(self, view: View, header: list[str], resolve: Callable[[Link, str], int]) -> None:
        self.view = view
        self.header = header
        self._empty = view.empty
        self._resolve = resolve
        self._columns: list[tuple[str, str, Converter | None, dict[str, Any]]] = []
        """Attribute, part, converter (None for a link), and some converted cells: most columns repeat a few values."""
        self._links: list[tuple[int, Link]] = []
        for position, name in enumerate(header):
            attribute, _, part = name.partition(".")
            convert = view.converter(name)
            if convert is None:
                if (link := view.links.get(name)) is None or link.join is not None or position == 0:
                    raise BadFile(f"column {position + 1} is no attribute of {view.table.resource.name} to be written")
                self._links.append((position, link))
            self._columns.append((attribute, part, convert, {}))

    def read(self, cells: list[str], record: Record | None) -> tuple[dict[str, Any], dict[str, int]]:
        """Return the values and links of a line. Raises CampaignError.

        Args:
            cells: Of the line. Missing ones change nothing.
            record: To be updated; empty cells empty its attributes. None for a new record.
        """
        values: dict[str, Any] = {}
        for (name, part, convert, known), cell in zip(self._columns, cells, strict=False):
            if convert is None or (record is None and not cell):
                continue
            if (value := known.get(cell)) is None:
                value = convert(cell)
                if len(known) < _KNOWN:
                    known[cell] = value
            if not part:
                values[name] = value
                continue
            if (group := values.get(name)) is None:
                stored = record.values.get(name) if record is not None else None
                group = values[name] = dict(stored or self._empty[name])
            group[part] = value
        links = {
            link.name: self._resolve(link, cells[position]) if cells[position] else 0
            for position, link in self._links
            if position < len(cells)
        }
        return values, links
