"""Decompress and decode an export file, and split it into physical lines in groups of bounded size. No CSV here.

A file may be damaged in these ways (docs/dev/references/campaign.md 8): cut off while it was uploaded, written again
under the same name, zipped or encrypted by the workflow's post-processing, in another encoding than expected.
"""

import codecs
import io
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from sync_assets.errors import SyncAssetsError

MOST_CHARACTERS = 131_072
"""Most characters of a line, and of a row of several lines (csv's own limit of a field). A longer line is cut, but
stays longer than this, so that it can be recognised."""

MOST_BYTES = 64 << 30
"""Most bytes of a file, decompressed. Thirty million profiles with all opt-outs and their times are 9 GB."""
ZIPPED_BEYOND, ZIPPED_RATIO = 4 << 30, 200
"""Beyond this number of decompressed bytes, the compression ratio must not exceed ZIPPED_RATIO. That of an export is
about ten. That of millions of equal lines, of profiles without a key, may be a thousand, but these fit within
ZIPPED_BEYOND."""

_BLOCK = 1 << 18
_GROUP = 1 << 23  # characters of a group of lines
_GZIP = b"\x1f\x8b"
AGAIN = "Nothing of it was taken. Let the workflow write the file again."


ASK_DOCTOR = (
    "`sync-assets doctor --file FILE` prints the lines to write below `opt_out.export`. Or: change the Extract file "
    "activity; the file must have a header and not be encrypted."
)


class BadExport(SyncAssetsError):
    """The file is rejected as a whole: none of its rows has an effect."""


class Lines:
    """The lines of one file, to be iterated once.

    stream: opened for reading bytes; the caller closes it. encoding: a Python codec name.
    """

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self.bytes_read = 0
        """bytes read from the file, compressed or not"""
        self.zipped = False
        self.undecodable = False
        """True if there were bytes that the encoding does not have; each is U+FFFD in its line"""

    def groups(self, most_lines: int) -> Iterator[tuple[int, list[str]]]:
        """Yield groups of lines: the number of the first line (from 1), and the lines.

        Each line ends with `\\n`, whether it was CR, LF or CRLF; the last line of the file may have no end.

        Raises:
            BadExport: the file cannot be decompressed or decoded. Errors of the stream pass through.
        """
        number, held, characters, incomplete = 1, list[str](), 0, ""
        for text in self._texts():
            lines = io.StringIO(incomplete + text).readlines()
            incomplete = lines.pop()[: MOST_CHARACTERS + 1] if lines and not lines[-1].endswith("\n") else ""
            held += lines
            characters += len(text)
            while len(held) >= most_lines or (held and characters >= _GROUP):
                group, held = held[:most_lines], held[most_lines:]
                yield number, group
                number += len(group)
                characters = sum(map(len, held))
        if incomplete:
            held.append(incomplete)
        if held:
            yield number, held

    def _texts(self) -> Iterator[str]:
        try:
            b"a".decode(self._encoding, "replace")  # some of Python's codecs are not text encodings
            decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        except (LookupError, ValueError):
            raise _wrong_encoding(self._encoding) from None
        decode = io.IncrementalNewlineDecoder(decoder, translate=True)
        start, blocks = _with_start(self.unzipped(), len(codecs.BOM_UTF8))
        # A UTF-8 byte order mark is skipped whatever the encoding: all cells that are used are ASCII.
        skipped = len(codecs.BOM_UTF8) if start == codecs.BOM_UTF8 else 0
        first = True
        for block in blocks:
            text = self._decoded(decode, block[skipped:], False)
            skipped = 0
            if text:
                yield text.removeprefix("\ufeff") if first else text
                first = False
        yield self._decoded(decode, b"", True)

    def _decoded(self, decode: io.IncrementalNewlineDecoder, block: bytes, final: bool) -> str:
        try:
            text = decode.decode(block, final)
        except ValueError:
            raise _wrong_encoding(self._encoding) from None
        if not text.isascii():
            text = re.sub("[\ud800-\udfff]", "\ufffd", text)  # unpaired surrogates, which some codecs accept
            self.undecodable |= "\ufffd" in text
        return text

    def unzipped(self) -> Iterator[bytes]:
        """Yield the content of the file in blocks. Raises what `groups` raises."""
        start, blocks = _with_start(self._blocks(), len(_GZIP))
        self.zipped = start == _GZIP
        return self._bounded(_members(blocks) if self.zipped else blocks)

    def _bounded(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Raise BadExport for a file that is too large, or a decompression bomb, before it takes hours."""
        size = 0
        for block in blocks:
            size += len(block)
            if size > MOST_BYTES:
                raise BadExport(f"The file has more than {MOST_BYTES >> 30} GiB: that is no export of opt-outs.", AGAIN)
            if size > ZIPPED_BEYOND and size > ZIPPED_RATIO * self.bytes_read:
                raise BadExport(
                    f"The zipped file unpacks to more than {ZIPPED_RATIO} times its size, beyond "
                    f"{ZIPPED_BEYOND >> 30} GiB: that is no export of opt-outs.",
                    AGAIN,
                )
            yield block

    def _blocks(self) -> Iterator[bytes]:
        while block := self._stream.read(_BLOCK):
            self.bytes_read += len(block)
            yield block


def _with_start(blocks: Iterator[bytes], length: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first `length` bytes, or all there are, and an iterator over all blocks from the beginning."""
    taken = b""
    while len(taken) < length and (block := next(blocks, None)) is not None:
        taken += block

    def all_of_them() -> Iterator[bytes]:
        yield taken
        yield from blocks

    return taken[:length], all_of_them()


def _members(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress concatenated gzip members, with or without zeros between and after them (RFC 1952)."""
    member, begun = zlib.decompressobj(wbits=31), False
    for block in blocks:
        left = block
        while left:
            if not begun:
                left = left.lstrip(b"\0")
                begun = bool(left)
                continue
            try:
                text = member.decompress(left, _BLOCK)
            except zlib.error:
                raise BadExport("The zipped file is damaged.", AGAIN) from None
            if text:
                yield text
            left = member.unused_data if member.eof else member.unconsumed_tail
            if member.eof:
                member, begun = zlib.decompressobj(wbits=31), False
    if begun:
        raise BadExport("The zipped file is cut off.", AGAIN)


def _wrong_encoding(encoding: str) -> BadExport:
    return BadExport(f"The file cannot be read as `{encoding}`.", ASK_DOCTOR)
