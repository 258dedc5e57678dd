"""The header and the rows of an export file: which names are found, which rows are bad and why, quotes included."""

import gzip
import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sync_assets.opt_out.export.file import Reader
from sync_assets_tests.support.export_files import (
    EMAIL,
    HEADER,
    NOW,
    QUOTED,
    SECRET,
    TIME,
    ReadFile,
    guid,
    refused,
    row,
    text,
)


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0), b"\xef\xbb\xbf", b"\n\r\n \n"])
def test_an_empty_file_is_refused(content: bytes) -> None:
    assert refused(content).startswith("The file is empty, not even a header.")


@pytest.mark.parametrize(
    "first",
    ["external_id,blackListFax", "externalId,blacklistemail", f"{guid(1)},1,{SECRET}", SECRET, f"externalId,{guid(1)}"],
)
def test_missing_columns_are_named_and_the_header_is_not_shown(first: str) -> None:
    message = refused(text(header=first))
    assert message.startswith("The column")
    assert "`blackListEmail`" in message
    assert "missing in the header. `sync-assets doctor --file FILE` prints the lines to write" in message


def test_a_label_of_a_time_of_change_is_read_too() -> None:
    header = "externalId,blackListEmail,Changed"
    layout = replace(EMAIL, labels={"Changed": "blackListEmailLastModified"})
    [batch] = Reader(io.BytesIO(text(row(1), header=header)), layout, now=NOW)
    assert batch.valid["blackListEmailLastModified"].to_list() == [datetime(2026, 11, 23, 6, tzinfo=UTC)]


def test_columns_that_are_not_read_are_named_but_for_those_that_look_like_data() -> None:
    reader = Reader(io.BytesIO(text(header=f"{HEADER},First name,,{guid(2)},7th")), EMAIL, now=NOW)
    assert next(reader, None) is None
    assert reader.unused_columns == ("First name",)


@pytest.mark.parametrize(
    ("header", "twice"),
    [
        (f"{HEADER},externalId", "externalId"),
        (f"{HEADER},denyListEmail", "blackListEmail"),
        (f"{HEADER},blackListEmailLastModified", "blackListEmailLastModified"),
    ],
)
def test_a_needed_column_stands_there_once(header: str, twice: str) -> None:
    assert refused(text(header=header)).startswith(f"The column `{twice}` stands twice in the header.")


def test_a_header_that_does_not_end_is_refused() -> None:
    assert refused(HEADER.encode()).startswith("The first line does not end: the file may be cut off.")


@pytest.mark.parametrize(
    "header", [f'{HEADER},"note', f'{HEADER},"note"s', f"{HEADER},{'x' * 200_000}", f"{HEADER}{',' * 200_000}"]
)
def test_a_header_with_open_quotes_or_without_end_is_refused(header: str) -> None:
    assert refused(text(header=header)).startswith("The quotes of the header are not balanced")


BAD_ROWS: list[tuple[str, str, int | None]] = [
    (f"{guid(7)},1", "2 fields instead of 3", 7),
    (f"{row(7)},{SECRET}", "4 fields instead of 3", 7),
    (f"{SECRET},1", "2 fields instead of 3", None),
    (f"{SECRET},1,{TIME}", "`externalId` is no GUID", None),
    (f"{{{guid(7)}}},1,{TIME}", "`externalId` is no GUID", None),
    (row(7, SECRET), "`blackListEmail` is none of 0, 1, false, true, no, yes", 7),
    (row(7, "2"), "`blackListEmail` is none of 0, 1, false, true, no, yes", 7),
    (row(7, time=SECRET), "`blackListEmailLastModified` is no time in the layout xml", 7),
    (row(7, time="2026-02-30T00:00:00Z"), "`blackListEmailLastModified` is no time in the layout xml", 7),
    (row(7, time="1999-12-31T23:59:59Z"), "`blackListEmailLastModified` lies before 2000", 7),
    (f"x,{SECRET},x", "`externalId` is no GUID; `blackListEmail` is none of 0, 1, false, true, no, yes; "
                      "`blackListEmailLastModified` is no time in the layout xml", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason", "id_"), BAD_ROWS)
def test_a_bad_row_is_reported_with_line_id_and_reason_and_stops_no_other(
    line: str, reason: str, id_: int | None
) -> None:
    result = ReadFile(text(row(1), line, row(2)))
    assert result.ids == [1, 2]
    [batch] = result.batches
    assert batch.rejected.rows() == [(3, guid(id_) if id_ else None, reason)]


def test_a_time_may_reach_back_to_2000_and_counts_as_at_most_a_day_ahead() -> None:
    result = ReadFile(text(row(1, time="2027-11-25T10:00:00Z"), row(2, time="2000-01-01T00:00:00Z")))
    assert result.ids == [1, 2]
    times = result.batches[0].valid["blackListEmailLastModified"].to_list()
    assert times == [datetime(2026, 11, 25, 10, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)]


def test_bad_rows_of_both_kinds_stand_in_the_order_of_the_file() -> None:
    result = ReadFile(text("x", row(1, "x"), "y", row(2, "y")))
    assert [batch.rejected["line"].to_list() for batch in result.batches] == [[2, 3, 4, 5]]


def test_a_last_line_that_does_not_end_is_bad_for_it_may_be_cut() -> None:
    result = ReadFile(text(row(1)) + row(2).encode())
    assert (result.ids, result.bad) == ([1], {3: "the last line does not end: the file may be cut off"})
    assert result.batches[-1].rejected["id"].to_list() == [guid(2)]


@pytest.mark.parametrize("end", [f'"{TIME}', f'"{TIME}\n', f'"{TIME}"x\n'])
def test_a_quote_that_does_not_close_makes_one_bad_row(end: str) -> None:
    result = ReadFile(text(row(1)) + f"{guid(2)},1,{end}".encode())
    assert (result.ids, list(result.bad)) == ([1], [3])


OPEN = "a quote does not close as it should: is the string delimiter of the Extract file activity set?"


@pytest.mark.parametrize("batch_rows", [100, 10_000])
@pytest.mark.parametrize("name", ['"Ada', '"Ada" Byron', '"Ada ""B', '"'])
def test_an_open_quote_takes_no_row_along(name: str, batch_rows: int) -> None:
    others = [f"{row(number)},Bob" for number in range(3, 3000)]
    result = ReadFile(text(f"{row(1)},Eve", f"{row(2)},{name}", *others, header=QUOTED), batch_rows=batch_rows)
    assert result.ids == [1, *range(3, 3000)]
    assert result.bad == {3: OPEN}


def test_two_open_quotes_that_join_rows_are_reported_and_no_row_between_them_is_read() -> None:
    result = ReadFile(text(f'{row(1)},"Ada', f"{row(2)},Bob", f'{row(3)},Eve"', f"{row(4)},Joe", header=QUOTED))
    assert result.ids == [4]
    assert result.bad == {2: f"a quoted field takes in 2 more lines, which look like rows; {OPEN}"}


def test_rows_inside_a_quoted_text_are_not_read_as_rows() -> None:
    result = ReadFile(text(f'{row(1)},"Ada\n{row(9)},x\n"', f"{row(2)},Bob", header=QUOTED))
    assert 9 not in result.ids


def test_two_open_quotes_in_different_columns_spoil_only_their_rows() -> None:
    result = ReadFile(
        text(f'{row(1)},"Ada,x', f"{row(2)},Bob,x", f'{row(3)},Eve,"x', f"{row(4)},Joe,x", header=f"{QUOTED},x")
    )
    assert (result.ids, list(result.bad)) == ([2, 4], [2, 4])


def test_an_open_quote_that_closes_in_another_column_spoils_only_its_row() -> None:
    result = ReadFile(text(f'{row(1)},"Ada,x', f"{row(2)},Bob,x", f'{row(3)},Eve,5"', header=f"{QUOTED},x"))
    assert (result.ids, result.bad) == ([2, 3], {2: "4 fields instead of 5"})
