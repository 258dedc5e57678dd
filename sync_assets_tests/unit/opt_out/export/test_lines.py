"""The bytes of an export file: zipped, damaged, in another encoding, without measure."""

import gzip
import io
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from sync_assets.opt_out.export import lines as export_lines
from sync_assets.opt_out.export.file import BadExport, Reader
from sync_assets_tests.support.export_files import EMAIL, HEADER, NOW, QUOTED, ReadFile, refused, row, text


def test_zipped_content_is_known_by_its_first_bytes_whatever_the_name() -> None:
    content = gzip.compress(text(row(1)))
    result = ReadFile(content)
    assert (result.ids, result.reader.zipped, result.reader.bytes_read) == ([1], True, len(content))
    plain = ReadFile(text(row(1))).reader
    assert (plain.zipped, plain.bytes_read) == (False, len(text(row(1))))


def test_several_zipped_parts_and_zeros_behind_them_are_one_file() -> None:
    content = text(*map(row, range(5)))
    parts = b"".join(gzip.compress(content[at : at + 50]) for at in range(0, len(content), 50))
    assert ReadFile(parts + b"\0" * 512).ids == list(range(5))


class Trickle(io.RawIOBase):
    """Gives one byte at a time, as a slow line may."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1, /) -> bytes:
        return self._content.read(min(size, 1))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_stream_may_give_less_than_it_is_asked_for(pack: Any) -> None:
    reader = Reader(Trickle(pack(text(row(1), end="\r\n"))), EMAIL, now=NOW)  # pyright: ignore[reportArgumentType]
    assert [batch.valid["line"].to_list() for batch in reader] == [[2]]


def test_errors_of_the_stream_are_not_taken_for_errors_of_the_file() -> None:
    class Lost(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise EOFError("connection lost")

    with pytest.raises(EOFError, match="connection lost"):
        list(Reader(Lost(), EMAIL))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kept", [10, -1, -8, -20])
def test_a_zipped_file_that_is_cut_off_is_refused(kept: int) -> None:
    assert refused(gzip.compress(text(*map(row, range(99))))[:kept]).startswith("The zipped file is cut off.")


@pytest.mark.parametrize("at", [3, -5, -300])
def test_a_zipped_file_that_is_damaged_is_refused(at: int) -> None:
    content = bytearray(gzip.compress(text(*map(row, range(99)))))
    content[at] ^= 0xFF
    assert "The zipped file is" in refused(bytes(content))


def test_bytes_after_the_zipped_part_are_damage() -> None:
    assert refused(gzip.compress(text(row(1))) + b"more").startswith("The zipped file is damaged.")


def test_damage_far_behind_is_found_after_the_first_batches() -> None:
    content = gzip.compress(text(*map(row, range(40_000))))
    reader = Reader(io.BytesIO(content[:-1]), EMAIL, batch_rows=1000, now=NOW)
    assert next(reader).rows == 999  # the header is a line, too
    with pytest.raises(BadExport):
        list(reader)


@pytest.mark.parametrize("encoding", ["base64", "rot13", "idna", "undefined", "no such"])
def test_a_name_that_is_no_encoding_is_reported(encoding: str) -> None:
    assert refused(text(), replace(EMAIL, encoding=encoding)).startswith(f"The file cannot be read as `{encoding}`.")


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "shift_jis", "big5", "euc_kr"])
def test_bytes_of_another_encoding_do_not_take_separators_along(encoding: str) -> None:
    lines = [b"M\xe9\xff," + row(1).encode(), b"\x81," + row(2).encode(), b"x\xe9\n"]
    result = ReadFile(text(header=f"name,{HEADER}") + b"\n".join(lines), replace(EMAIL, encoding=encoding))
    assert result.ids == [1, 2]
    assert result.bad == {4: "1 fields instead of 4"}
    [warning] = result.reader.warnings
    assert warning == f"Some bytes of the file are no {encoding}: is `export.encoding` right?"


@pytest.mark.parametrize("column", [0, 1, 2])
def test_bytes_of_another_encoding_in_a_needed_cell_make_a_bad_row(column: int) -> None:
    cells = row(1).encode().split(b",")
    cells[column] += b"\xe9"
    result = ReadFile(text(row(2)) + b",".join(cells) + b"\n")
    assert result.ids == [2]
    assert result.bad == {3: f"`{HEADER.split(',')[column]}` has bytes that are no utf-8: is the encoding right?"}


def test_halves_of_characters_are_no_characters() -> None:
    content = text(f"x+2AA-,{row(1)}", f"x,{row(2)}+2AA-", header=f"note,{HEADER}")
    result = ReadFile(content, replace(EMAIL, encoding="utf-7"))
    assert result.ids == [1]
    assert result.bad == {3: "`blackListEmailLastModified` has bytes that are no utf-7: is the encoding right?"}


def test_zero_bytes_spoil_only_the_cells_that_are_needed() -> None:
    result = ReadFile(text(f"a\0b,{row(1)}", f"a,{row(2, chr(0))}", header=f"note,{HEADER}"))
    assert (result.ids, result.bad) == ([1], {3: "`blackListEmail` has a zero byte"})


def test_a_file_without_line_ends_is_not_held() -> None:
    content = text(header=f"{HEADER},note") + b"x" * 20_000_000
    tracemalloc.start()
    try:
        result = ReadFile(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(result.bad) == [2]
    assert peak < 10_000_000


@pytest.mark.parametrize("filler", ["x" * 140_000, "," * 140_000, "x" * 3_000_000, '"' + "x" * 140_000 + '"'])
def test_a_line_has_a_bounded_length(filler: str) -> None:
    result = ReadFile(text(f"{row(1)},", f"{row(2)},{filler}", f"{row(3)},", header=QUOTED))
    assert result.ids == [1, 3]
    assert result.bad[3].startswith("longer than 131,072 characters")


def test_a_row_over_many_lines_has_a_bounded_length() -> None:
    cells = ",".join('"' + "x\n" * 40_000 + '"' for _ in range(2))
    result = ReadFile(text(f"{row(1)},{cells}", f"{row(2)},a,b", header=f"{QUOTED},more"))
    assert result.ids == [2]
    assert result.bad == {2: "longer than 131,072 characters: does a line end, or a quote close, too late?"}


def test_equal_lines_of_profiles_that_are_not_ours_may_be_zipped_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a size that they can have at all, see ZIPPED_BEYOND."""
    content = gzip.compress(text(*([",false,"] * 200_000)))
    assert len(content) * 200 < 200_000 * 8
    assert ReadFile(content).foreign == 200_000
    monkeypatch.setattr(export_lines, "ZIPPED_BEYOND", 1 << 20)
    assert "200 times" in refused(content)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_is_larger_than_any_export_is_refused(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    content = text(*map(row, range(99)))
    monkeypatch.setattr(export_lines, "MOST_BYTES", len(content))
    assert ReadFile(pack(content)).rows == 99
    monkeypatch.setattr(export_lines, "MOST_BYTES", len(content) - 1)
    assert "is no export of opt-outs" in refused(pack(content))
