"""An export file is read strictly: what is good, what is bad and why, and when nothing of it may count.

The format: docs/references/campaign.md 8. Any content at all: test_any_export_file.py.
"""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import paramiko
import polars as pl
import pytest

from sync_assets.opt_out.export import lines as export_lines
from sync_assets.opt_out.export.file import (
    BAD_SCHEMA,
    BadExport,
    Layout,
    Reader,
    file_order,
    good_schema,
    read_export,
    time_in_name,
)
from sync_assets_tests.support.sandbox_process import SandboxProcess

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
EMAIL = Layout("externalId", ("blackListEmail",), "LastModified", ",", "utf-8")
HEADER = "externalId,blackListEmail,blackListEmailLastModified"
TIME = "2026-11-23T06:00:00.000Z"
SECRET = "Ada Byron"


def guid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012x}"


def row(number: int, value: str = "1", time: str = TIME) -> str:
    return f"{guid(number)},{value},{time}"


def text(*lines: str, header: str = HEADER, end: str = "\n") -> bytes:
    return "".join(line + end for line in (header, *lines)).encode()


@contextmanager
def sftp(sandbox: SandboxProcess) -> Iterator[paramiko.SFTPClient]:
    env = sandbox.env
    with paramiko.SSHClient() as ssh:
        ssh.load_host_keys(env["CAMPAIGN_SFTP_HOST_KEY"])
        key = paramiko.RSAKey.from_private_key_file(env["CAMPAIGN_SFTP_PRIVATE_KEY"])
        ssh.connect(
            env["CAMPAIGN_SFTP_HOST"], int(env["CAMPAIGN_SFTP_PORT"]), username=env["CAMPAIGN_SFTP_USER"], pkey=key
        )
        yield ssh.open_sftp()


class Told:
    """All that a file tells."""

    def __init__(self, content: bytes | Any, layout: Layout = EMAIL, **options: Any) -> None:
        options = {"now": NOW} | options
        stream = io.BytesIO(content) if isinstance(content, bytes) else content
        self.reader: Reader = read_export(stream, layout, **options)
        self.batches = list(self.reader)
        for batch in self.batches:
            assert batch.rows == len(batch.good) + len(batch.bad) + batch.foreign
            assert batch.good.schema == good_schema(layout.attributes)
            assert batch.bad.schema == BAD_SCHEMA
            assert SECRET not in str(batch.bad.to_dicts())
        self.rows = sum(batch.rows for batch in self.batches)
        self.foreign = sum(batch.foreign for batch in self.batches)
        self.good = pl.concat([good_schema(layout.attributes).to_frame(), *(batch.good for batch in self.batches)])
        self.ids = [int(id_[-12:], 16) for id_ in self.good["id"]]
        self.bad: dict[int, str] = {
            line: reason for batch in self.batches for line, reason in batch.bad.select("line", "reason").iter_rows()
        }

    @property
    def values(self) -> list[tuple[Any, ...]]:
        return self.good.drop("line", "id").rows()


def refused(content: bytes, layout: Layout = EMAIL, **options: Any) -> str:
    with pytest.raises(BadExport) as caught:
        Told(content, layout, **options)
    assert caught.value.remedy
    assert SECRET not in str(caught.value)
    return str(caught.value)


# What is good


@pytest.mark.parametrize("gz", [False, True])
def test_a_file_that_campaign_wrote_is_read_from_the_sftp(sandbox: SandboxProcess, gz: bool) -> None:
    attributes = ("blackListEmail", "blackListPushnotification", "ccpaOptOut")
    profiles = [{"externalId": guid(number), "blackListEmail": number % 2 == 1} for number in range(5)]
    sandbox.admin.add_profiles(*profiles, {"email": "foreign@example.com"})
    options: dict[str, Any] = {"separator": "|", "encoding": "utf-16", "booleans": ["no", "yes"], "foreign": True}
    name = sandbox.admin.export(gz=gz, **options)
    assert name is not None
    layout = Layout("externalId", attributes, "LastModified", "|", "utf-16")
    now = datetime.now(UTC)
    with sftp(sandbox) as client, client.open(f"d365_loads/exports/{name}") as file:
        told = Told(file, layout, name=name, now=now)
    assert (told.rows, told.foreign, told.bad, told.reader.warnings) == (6, 1, {}, [])
    assert told.ids == list(range(5))
    assert told.good["blackListEmail"].to_list() == [False, True, False, True, False]
    changed = [
        time is not None and abs((now - time).total_seconds()) < 60 for time in told.good["blackListEmailLastModified"]
    ]
    assert changed == told.good["blackListEmail"].to_list()
    assert told.good["blackListPushnotificationLastModified"].null_count() == 5
    assert told.reader.zipped is gz


def test_values_and_times_are_typed() -> None:
    layout = replace(EMAIL, attributes=("blackListEmail", "ccpaOptOut"))
    header = "ccpaOptOutLastModified,ccpaOptOut,externalId,blackListEmailLastModified,blackListEmail"
    told = Told(text(f"2026-11-23T06:00:00.250Z,1,{guid(0xA).upper()},,0", f",,{guid(11)},,", header=header), layout)
    assert told.good.to_dicts() == [
        {
            "line": 2,
            "id": guid(0xA),
            "blackListEmail": False,
            "blackListEmailLastModified": None,
            "ccpaOptOut": True,
            "ccpaOptOutLastModified": datetime(2026, 11, 23, 6, 0, 0, 250_000, tzinfo=UTC),
        },
        {"line": 3, "id": guid(11)} | dict.fromkeys(good_schema(layout.attributes).names()[2:]),
    ]
    assert told.reader.date_layout == "xml"


@pytest.mark.parametrize(("value", "meant"), [(" YES ", True), ("True", True), ("1", True), ("0", False), ("nO", False),
                                              ("FALSE", False), (" ", None)])  # fmt: skip
def test_booleans_are_written_in_many_ways_and_an_empty_one_says_nothing(value: str, meant: bool | None) -> None:
    assert [one[0] for one in Told(text(row(1, value))).values] == [meant]


def test_a_header_alone_is_a_file_without_rows() -> None:
    told = Told(text())
    assert (told.rows, told.reader.date_layout, told.reader.warnings) == (0, None, [])


def test_profiles_without_a_key_are_counted_and_are_not_bad_whatever_stands_in_them() -> None:
    told = Told(text(row(1), f",1,{TIME}", " ,?,?", row(2)))
    assert (told.ids, told.foreign, told.bad, told.rows) == ([1, 2], 2, {}, 4)


def test_other_columns_are_ignored_even_if_they_stand_twice() -> None:
    header = f"note,{HEADER},note,blackListPhone"
    told = Told(text(f"{SECRET},{row(1)},{SECRET},?", header=header))
    assert told.ids == [1]
    assert told.good.columns == ["line", "id", "blackListEmail", "blackListEmailLastModified"]


def test_the_other_spelling_of_attributes_is_understood() -> None:
    header = "externalId, denyListEmail ,denyListEmailLastModified"
    told = Told(text(row(1), header=header))
    assert told.values == [(True, datetime(2026, 11, 23, 6, tzinfo=UTC))]
    assert told.reader.warnings == []


def test_times_that_are_missing_are_unknown_and_a_warning() -> None:
    layout = replace(EMAIL, attributes=("blackListEmail", "blackListFax", "blackListPushnotification"))
    header = "externalId,blackListEmail,blackListEmailLastModified,blackListFax,blackListPushnotification"
    told = Told(text(f"{row(1)},0,1", header=header), layout)
    [warning] = told.reader.warnings  # Campaign has none for push notifications
    assert "no column `blackListFaxLastModified`:" in warning
    assert told.good["blackListFaxLastModified"].to_list() == [None]
    assert told.good["blackListPushnotification"].to_list() == [True]


def test_the_change_column_has_the_suffix_that_is_configured() -> None:
    told = Told(
        text(row(1), header="externalId,blackListEmail,blackListEmail_at"), replace(EMAIL, changed_suffix="_at")
    )
    assert told.values == [(True, datetime(2026, 11, 23, 6, tzinfo=UTC))]


def test_duplicates_both_pass() -> None:
    assert Told(text(row(1), row(1, "0"))).ids == [1, 1]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\r\r\n"])
def test_line_ends_of_any_kind_and_blank_lines(end: str) -> None:
    told = Told(text(row(1), "", row(2), "", "", end=end))
    assert (told.ids, told.rows) == ([1, 2], 2)
    assert told.good["line"].to_list() == ([2, 4] if end != "\r\r\n" else [3, 7])


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", "\ufeff"), ("utf-8-sig", ""), ("cp1252", ""), ("utf-16", ""), ("utf-16-le", "\ufeff"), ("utf-32", "")],
)
def test_encodings_with_and_without_a_mark(encoding: str, mark: str) -> None:
    content = (mark + text(f"{row(1)},Müller", header=f"{HEADER},name").decode()).encode(encoding)
    told = Told(content, replace(EMAIL, encoding=encoding))
    assert (told.ids, told.reader.warnings) == ([1], [])


def test_the_mark_of_utf_8_is_no_part_of_the_header_even_if_another_encoding_is_configured() -> None:
    assert Told(b"\xef\xbb\xbf" + text(row(1)), replace(EMAIL, encoding="cp1252")).ids == [1]


def test_quoted_cells_may_hold_separators_quotes_and_line_ends() -> None:
    quoted = f'"a,""b""\n\nc","{guid(1)}","1","{TIME}"'
    told = Told(text(quoted, f",{row(2)}", header='"note",' + ",".join(f'"{name}"' for name in HEADER.split(","))))
    assert (told.ids, told.good["line"].to_list(), told.bad) == ([1, 2], [2, 5], {})


def test_a_quote_within_a_cell_is_text() -> None:
    assert Told(text(f'5" pipe,{row(1)}', header=f"note,{HEADER}")).ids == [1]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_batches_have_so_many_rows_and_together_they_are_the_file(batch_rows: int) -> None:
    told = Told(text(*map(row, range(7)), "x"), batch_rows=batch_rows)
    assert told.ids == list(range(7))
    assert told.good["line"].to_list() == list(range(2, 9))
    assert list(told.bad) == [9]
    assert max(batch.rows for batch in told.batches) <= batch_rows


def test_a_batch_needs_a_row() -> None:
    with pytest.raises(ValueError, match="a batch of 0 rows"):
        read_export(io.BytesIO(), EMAIL, batch_rows=0)


def test_a_date_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no date format: iso"):
        read_export(io.BytesIO(), replace(EMAIL, date_format="iso"))


def test_a_reader_is_used_up_once_it_was_read() -> None:
    told = Told(text(row(1)))
    assert list(told.reader) == []


# Zipped


def test_zipped_content_is_known_by_its_first_bytes_whatever_the_name() -> None:
    content = gzip.compress(text(row(1)))
    told = Told(content, name="optout.csv")
    assert (told.ids, told.reader.zipped, told.reader.bytes_read) == ([1], True, len(content))
    plain = Told(text(row(1)), name="optout.csv").reader
    assert (plain.zipped, plain.bytes_read) == (False, len(text(row(1))))


def test_several_zipped_parts_and_zeros_behind_them_are_one_file() -> None:
    content = text(*map(row, range(5)))
    parts = b"".join(gzip.compress(content[at : at + 50]) for at in range(0, len(content), 50))
    assert Told(parts + b"\0" * 512).ids == list(range(5))


class Trickle(io.RawIOBase):
    """Gives one byte at a time, as a slow line may."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1, /) -> bytes:
        return self._content.read(min(size, 1))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_stream_may_give_less_than_it_is_asked_for(pack: Any) -> None:
    reader = read_export(Trickle(pack(text(row(1), end="\r\n"))), EMAIL, name="a", now=NOW)  # pyright: ignore[reportArgumentType]
    assert [batch.good["line"].to_list() for batch in reader] == [[2]]


def test_errors_of_the_stream_are_not_taken_for_errors_of_the_file() -> None:
    class Lost(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise EOFError("connection lost")

    with pytest.raises(EOFError, match="connection lost"):
        list(read_export(Lost(), EMAIL))  # pyright: ignore[reportArgumentType]


def test_a_name_that_promises_zipped_content_must_keep_it() -> None:
    assert refused(text(row(1)), name="optout_1.CSV.GZ").startswith("The name of the file ends in .gz, but its content")


@pytest.mark.parametrize("kept", [10, -1, -8, -20])
def test_a_zipped_file_that_is_cut_off_is_refused(kept: int) -> None:
    assert refused(gzip.compress(text(*map(row, range(99))))[:kept]).startswith("The zipped file is cut off.")


@pytest.mark.parametrize("at", [3, -5, -300])
def test_a_zipped_file_that_is_damaged_is_refused(at: int) -> None:
    content = bytearray(gzip.compress(text(*map(row, range(99)))))
    content[at] ^= 0xFF
    assert "The zipped file is" in refused(bytes(content))


def test_what_stands_behind_the_zipped_part_is_damage() -> None:
    assert refused(gzip.compress(text(row(1))) + b"more").startswith("The zipped file is damaged.")


def test_damage_far_behind_is_found_after_the_first_batches() -> None:
    content = gzip.compress(text(*map(row, range(40_000))))
    reader = read_export(io.BytesIO(content[:-1]), EMAIL, batch_rows=1000, now=NOW)
    assert next(reader).rows == 999  # the header is a line, too
    with pytest.raises(BadExport):
        list(reader)


# The header


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0), b"\xef\xbb\xbf", b"\n\r\n \n"])
def test_an_empty_file_is_refused(content: bytes) -> None:
    assert refused(content).startswith("The file is empty, not even a header.")


def test_missing_columns_are_named_and_so_is_what_stands_there() -> None:
    layout = replace(EMAIL, attributes=("blackListEmail", "blackListFax"))
    told = refused(text(header="external_id,blackListEmail,Zebulon"), layout)
    assert told == (
        "The columns `externalId`, `blackListFax` are missing in the header. There stand `external_id`, "
        "`blackListEmail` and 1 others. Write `export.key_column: external_id`. If a column that is not used has times "
        "of change, add `blackListEmailLastModified: <label>, blackListFaxLastModified: <label>` with its label to "
        "`export.columns`. Or: The header has the labels of the columns: click "
        "them in the Extract file activity and write these names there."
    )


LABELLED = ("External Resource ID", "No longer contact by email", "Byron's label")
"""Adobe's labels of two attributes, which a header has unless somebody changes them, and a label of somebody's own."""


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_header_of_labels_is_answered_with_what_to_write_and_is_read_after_that(sign: str) -> None:
    header = sign.join(LABELLED)
    told = refused(text(header=header), replace(EMAIL, separator=sign))
    assert told.startswith(
        "The columns `externalId`, `blackListEmail` are missing in the header. There stand `External Resource ID`, `No "
        "longer contact by email` and 1 others. Write `export.key_column: External Resource ID` and `export.columns: "
        '{blackListEmail: "No longer contact by email"}`.'
    )
    assert "Byron" not in told
    wrong = refused(text(header=header), replace(EMAIL, separator="^"))
    assert f"Write `export.separator: {'tab' if sign == chr(9) else chr(34) + sign + chr(34)}`" in wrong
    layout = replace(EMAIL, key_column="External Resource ID", separator=sign)
    row = sign.join((guid(1), "1", SECRET))
    assert "Write `export.columns: {" in refused(text(row, header=header), layout)
    layout = replace(layout, labels={"No longer contact by email": "blackListEmail"})
    [batch] = read_export(io.BytesIO(text(row, header=header)), layout, now=NOW)
    assert batch.good.select("id", "blackListEmail").rows() == [(guid(1), True)]


def test_a_label_of_a_time_of_change_is_read_too() -> None:
    header = "externalId,blackListEmail,Changed"
    layout = replace(EMAIL, labels={"Changed": "blackListEmailLastModified"})
    [batch] = read_export(io.BytesIO(text(row(1), header=header)), layout, now=NOW)
    assert batch.good["blackListEmailLastModified"].to_list() == [datetime(2026, 11, 23, 6, tzinfo=UTC)]


def test_names_are_compared_exactly() -> None:
    told = refused(text(header="externalId,blacklistemail"))
    assert told.startswith("The column `blackListEmail` is missing in the header. There stand `externalId`, `blackl")
    assert "key_column" not in told


@pytest.mark.parametrize(
    "first",
    [f"{guid(1)},1,{SECRET}", SECRET, f"{SECRET},Byron", f"externalId,name0,{SECRET},,1", f"externalId,{guid(1)}"],
)
def test_what_may_be_data_is_not_shown(first: str) -> None:
    told = refused(text(header=first))
    assert "What stands in the first line is not told here" in told
    assert "Byron" not in told


@pytest.mark.parametrize(
    ("separator", "told"),
    [
        (";", 'separated by `;`. Write `export.separator: ";"`'),
        ("\t", "separated by tab. Write `export.separator: tab`"),
        ("|", 'separated by `|`. Write `export.separator: "|"`'),
        ("^", 'separated by `^`. Write `export.separator: "^"`'),
        (" ", 'separated by a blank. Write `export.separator: " "`'),
    ],
)
def test_another_separator_is_recognised(separator: str, told: str) -> None:
    assert told in refused(text(header=HEADER.replace(",", separator)))
    assert told in refused(text(header=f'"{HEADER}"'.replace(",", f'"{separator}"')))


def test_columns_that_are_not_read_are_named_but_for_those_that_look_like_data() -> None:
    reader = read_export(io.BytesIO(text(header=f"{HEADER},First name,,{guid(2)},7th")), EMAIL, now=NOW)
    assert next(reader, None) is None
    assert reader.unused_columns == ("First name",)


def test_a_sign_that_parts_one_name_only_is_no_separator() -> None:
    assert "separated" not in refused(text(header="externalId/x,blackListPhone"))


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


# Encodings


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("expected", ["utf-8", "cp1252"])
def test_utf_16_is_recognised(encoding: str, expected: str) -> None:
    name = encoding[:6]
    told = refused(text(row(1)).decode().encode(encoding), replace(EMAIL, encoding=expected))
    assert told.startswith(f"The file looks like {name.upper()}, not `{expected}`. Write `export.encoding: {name}`")


def test_utf_8_is_not_taken_for_utf_16() -> None:
    told = refused(text(row(1)), replace(EMAIL, encoding="utf-16"))
    assert told.startswith("The file does not look like `utf-16`")


@pytest.mark.parametrize("encoding", ["base64", "rot13", "idna", "undefined", "no such"])
def test_what_is_no_encoding_of_text_is_told(encoding: str) -> None:
    assert refused(text(), replace(EMAIL, encoding=encoding)).startswith(f"The file cannot be read as `{encoding}`.")


def test_content_that_is_no_text_is_told() -> None:
    told = refused(b"PK\x03\x04" + bytes(range(256)) + b"\n" + text())
    assert "The first line is no plain text. Is `export.encoding` right? Is the file encrypted" in told


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "shift_jis", "big5", "euc_kr"])
def test_bytes_of_another_encoding_do_not_take_separators_along(encoding: str) -> None:
    lines = [b"M\xe9\xff," + row(1).encode(), b"\x81," + row(2).encode(), b"x\xe9\n"]
    told = Told(text(header=f"name,{HEADER}") + b"\n".join(lines), replace(EMAIL, encoding=encoding))
    assert told.ids == [1, 2]
    assert told.bad == {4: "1 fields instead of 4"}
    [warning] = told.reader.warnings
    assert warning == f"Some bytes of the file are no {encoding}: is `export.encoding` right?"


@pytest.mark.parametrize("column", [0, 1, 2])
def test_bytes_of_another_encoding_in_a_needed_cell_make_a_bad_row(column: int) -> None:
    cells = row(1).encode().split(b",")
    cells[column] += b"\xe9"
    told = Told(text(row(2)) + b",".join(cells) + b"\n")
    assert told.ids == [2]
    assert told.bad == {3: f"`{HEADER.split(',')[column]}` has bytes that are no utf-8: is the encoding right?"}


def test_halves_of_characters_are_no_characters() -> None:
    content = text(f"x+2AA-,{row(1)}", f"x,{row(2)}+2AA-", header=f"note,{HEADER}")
    told = Told(content, replace(EMAIL, encoding="utf-7"))
    assert told.ids == [1]
    assert told.bad == {3: "`blackListEmailLastModified` has bytes that are no utf-7: is the encoding right?"}


def test_zero_bytes_spoil_only_the_cells_that_are_needed() -> None:
    told = Told(text(f"a\0b,{row(1)}", f"a,{row(2, chr(0))}", header=f"note,{HEADER}"))
    assert (told.ids, told.bad) == ([1], {3: "`blackListEmail` has a zero byte"})


# Bad rows


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
    (row(7, time="2026-11-25T10:00:00.001Z"), "`blackListEmailLastModified` lies in the future", 7),
    (row(7, time="1999-12-31T23:59:59Z"), "`blackListEmailLastModified` lies before 2000", 7),
    (f"x,{SECRET},x", "`externalId` is no GUID; `blackListEmail` is none of 0, 1, false, true, no, yes; "
                      "`blackListEmailLastModified` is no time in the layout xml", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason", "id_"), BAD_ROWS)
def test_a_bad_row_is_told_with_line_id_and_reason_and_stops_no_other(line: str, reason: str, id_: int | None) -> None:
    told = Told(text(row(1), line, row(2)))
    assert told.ids == [1, 2]
    [batch] = told.batches
    assert batch.bad.rows() == [(3, guid(id_) if id_ else None, reason)]


def test_a_time_may_lie_a_day_ahead_and_reach_back_to_2000() -> None:
    told = Told(text(row(1, time="2026-11-25T10:00:00Z"), row(2, time="2000-01-01T00:00:00Z")))
    assert told.ids == [1, 2]


def test_bad_rows_of_both_kinds_stand_in_the_order_of_the_file() -> None:
    told = Told(text("x", row(1, "x"), "y", row(2, "y")))
    assert [batch.bad["line"].to_list() for batch in told.batches] == [[2, 3, 4, 5]]


def test_a_last_line_that_does_not_end_is_bad_for_it_may_be_cut() -> None:
    told = Told(text(row(1)) + row(2).encode())
    assert (told.ids, told.bad) == ([1], {3: "the last line does not end: the file may be cut off"})
    assert told.batches[-1].bad["id"].to_list() == [guid(2)]


@pytest.mark.parametrize("end", [f'"{TIME}', f'"{TIME}\n', f'"{TIME}"x\n'])
def test_a_quote_that_does_not_close_makes_one_bad_row(end: str) -> None:
    told = Told(text(row(1)) + f"{guid(2)},1,{end}".encode())
    assert (told.ids, list(told.bad)) == ([1], [3])


QUOTED = f"{HEADER},name"
OPEN = "a quote does not close as it should: is the string delimiter of the Extract file activity set?"


@pytest.mark.parametrize("batch_rows", [100, 10_000])
@pytest.mark.parametrize("name", ['"Ada', '"Ada" Byron', '"Ada ""B', '"'])
def test_an_open_quote_takes_no_row_along(name: str, batch_rows: int) -> None:
    others = [f"{row(number)},Bob" for number in range(3, 3000)]
    told = Told(text(f"{row(1)},Eve", f"{row(2)},{name}", *others, header=QUOTED), batch_rows=batch_rows)
    assert told.ids == [1, *range(3, 3000)]
    assert told.bad == {3: OPEN}


def test_two_open_quotes_that_make_one_row_of_many_are_told_and_nothing_between_them_is_believed() -> None:
    told = Told(text(f'{row(1)},"Ada', f"{row(2)},Bob", f'{row(3)},Eve"', f"{row(4)},Joe", header=QUOTED))
    assert told.ids == [4]
    assert told.bad == {2: f"a quoted field takes in 2 more lines, which look like rows; {OPEN}"}


def test_rows_that_somebody_wrote_into_a_text_are_not_read_as_rows() -> None:
    told = Told(text(f'{row(1)},"Ada\n{row(9)},x\n"', f"{row(2)},Bob", header=QUOTED))
    assert 9 not in told.ids


def test_two_open_quotes_in_different_columns_spoil_only_their_rows() -> None:
    told = Told(
        text(f'{row(1)},"Ada,x', f"{row(2)},Bob,x", f'{row(3)},Eve,"x', f"{row(4)},Joe,x", header=f"{QUOTED},x")
    )
    assert (told.ids, list(told.bad)) == ([2, 4], [2, 4])


def test_an_open_quote_that_closes_in_another_column_spoils_only_its_row() -> None:
    told = Told(text(f'{row(1)},"Ada,x', f"{row(2)},Bob,x", f'{row(3)},Eve,5"', header=f"{QUOTED},x"))
    assert (told.ids, told.bad) == ([2, 3], {2: "4 fields instead of 5"})


def test_a_file_without_line_ends_is_not_held() -> None:
    content = text(header=f"{HEADER},note") + b"x" * 20_000_000
    tracemalloc.start()
    try:
        told = Told(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(told.bad) == [2]
    assert peak < 10_000_000


@pytest.mark.parametrize("filler", ["x" * 140_000, "," * 140_000, "x" * 3_000_000, '"' + "x" * 140_000 + '"'])
def test_a_line_has_a_bounded_length(filler: str) -> None:
    told = Told(text(f"{row(1)},", f"{row(2)},{filler}", f"{row(3)},", header=QUOTED))
    assert told.ids == [1, 3]
    assert told.bad[3].startswith("longer than 131,072 characters")


def test_a_row_over_many_lines_has_a_bounded_length() -> None:
    cells = ",".join('"' + "x\n" * 40_000 + '"' for _ in range(2))
    told = Told(text(f"{row(1)},{cells}", f"{row(2)},a,b", header=f"{QUOTED},more"))
    assert told.ids == [2]
    assert told.bad == {2: "longer than 131,072 characters: does a line end, or a quote close, too late?"}


# Dates


AUTO = ["11/24/2026 06:00:00", "05/04/2026"]


def test_the_layout_of_dates_is_found_out_from_all_times_of_the_first_batch_that_has_any() -> None:
    rows = [row(1, time=""), row(2, time="")] + [row(3 + at, time=time) for at, time in enumerate(AUTO)]
    told = Told(text(*rows), batch_rows=3)
    assert told.reader.date_layout == "mmddyyyy"
    assert told.good["blackListEmailLastModified"].to_list() == [
        None,
        None,
        datetime(2026, 11, 24, 6, tzinfo=UTC),
        datetime(2026, 5, 4, tzinfo=UTC),
    ]


def test_times_of_foreign_profiles_and_of_all_columns_help_to_find_it() -> None:
    layout = replace(EMAIL, attributes=("blackListEmail", "blackListFax"))
    header = f"{HEADER},blackListFax,blackListFaxLastModified"
    assert Told(text(f"{row(1, time='05/04/2026')},,11/24/2026", header=header), layout).ids == [1]
    assert Told(text(row(1, time="05/04/2026"), ",,11/24/2026")).reader.date_layout == "mmddyyyy"


def test_a_time_that_can_be_read_in_two_ways_is_never_guessed() -> None:
    told = refused(text(row(1, time="05/04/2026")))
    assert told.startswith("The times of the file can be read as mmddyyyy or as ddmmyyyy, and mean different moments.")
    assert "`export.date_format: mmddyyyy`" in told


@pytest.mark.parametrize(("date_format", "month", "day"), [("mmddyyyy", 5, 4), ("ddmmyyyy", 4, 5)])
def test_the_configuration_decides_it(date_format: str, month: int, day: int) -> None:
    told = Told(text(row(1, time="05/04/2026"), row(2, time=TIME)), replace(EMAIL, date_format=date_format))
    assert told.values == [(True, datetime(2026, month, day, tzinfo=UTC))]
    assert told.bad == {3: f"`blackListEmailLastModified` is no time in the layout {date_format}"}
    assert told.reader.date_layout == date_format


def test_while_two_layouts_mean_the_same_the_next_batches_decide() -> None:
    rows = [row(1, time="05/05/2026"), row(2, time="06/06/2026"), row(3, time="07/08/2026"), row(4, time="08/24/2026")]
    assert Told(text(*rows[:2]), batch_rows=1).ids == [1, 2]
    assert Told(text(*rows), batch_rows=3).good["blackListEmailLastModified"].dt.month().to_list() == [5, 6, 7, 8]
    assert "can be read as mmddyyyy or as ddmmyyyy" in refused(text(*rows[:3]), batch_rows=1)


def test_once_it_is_known_a_time_of_another_layout_is_a_bad_row() -> None:
    told = Told(text(row(1, time="11/24/2026"), row(2, time="24/11/2026")), batch_rows=2)
    assert (told.ids, told.bad) == ([1], {3: "`blackListEmailLastModified` is no time in the layout mmddyyyy"})


def test_times_of_two_layouts_are_told_with_how_many_are_which() -> None:
    told = refused(text(row(1, time="11/24/2026"), row(2, time="11/23/2026"), row(3, time="24/11/2026")))
    assert "of 3 different ones mmddyyyy fits 2, ddmmyyyy fits 1." in told


def test_times_of_no_layout_are_told() -> None:
    told = refused(text(row(1, time="24 Nov 2026")))
    assert told.startswith("The times of the file are in none of the layouts that are known: xml, yyyymmdd, mmddyyyy,")


# The order of files


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("optout_20261124_060000.csv.gz", datetime(2026, 11, 24, 6, tzinfo=UTC)),
        ("d365_loads/exports_20200101_000000/optout_20261124_060001.txt", datetime(2026, 11, 24, 6, 0, 1, tzinfo=UTC)),
        ("a_20200101_000000_b_20261124_235959", datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)),
        ("optout_20261324_060000.csv", None),
        ("optout_20261124_0600001.csv", None),
        ("optout_20261124.csv", None),
        ("folder_20261124_060000/optout.csv", None),
    ],
)
def test_the_time_in_the_name(name: str, time: datetime | None) -> None:
    assert time_in_name(name) == time


def test_files_are_in_the_order_of_the_time_in_their_name_else_of_their_modification() -> None:
    files = [
        ("optout_20261124_060000.csv", NOW.replace(hour=9)),
        ("late.csv", NOW.replace(hour=7)),
        ("optout_20261123_060000.csv", NOW.replace(hour=10)),
        ("early.csv", NOW.replace(hour=5)),
        ("earlier.csv", NOW.replace(hour=5)),
    ]
    ordered = sorted(files, key=lambda file: file_order(*file))
    assert [name for name, _ in ordered] == [files[at][0] for at in (2, 4, 3, 0, 1)]


# Files without measure


def test_equal_lines_of_profiles_that_are_not_ours_may_be_zipped_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a size that they can have at all, see ZIPPED_BEYOND."""
    content = gzip.compress(text(*([",false,"] * 200_000)))
    assert len(content) * 200 < 200_000 * 8
    assert Told(content).foreign == 200_000
    monkeypatch.setattr(export_lines, "ZIPPED_BEYOND", 1 << 20)
    assert "200 times" in refused(content)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_is_larger_than_any_export_is_refused(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    content = text(*map(row, range(99)))
    monkeypatch.setattr(export_lines, "MOST_BYTES", len(content))
    assert Told(pack(content)).rows == 99
    monkeypatch.setattr(export_lines, "MOST_BYTES", len(content) - 1)
    assert "is no export of opt-outs" in refused(pack(content))
