"""The layout of an export file is guessed from its beginning: which lines to write, and what stays open."""

import gzip
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_assets.config.opt_out import Export
from sync_assets.opt_out.export.file import Layout, Reader
from sync_assets.opt_out.export.guess import Guess, guess_layout
from sync_assets_tests.support.export_files import EMAIL, HEADER, NOW, SECRET, TIME, guid, row, text


def guess(folder: Path, content: bytes, layout: Layout = EMAIL) -> Guess:
    path = folder / "optout.csv"
    path.write_bytes(content)
    guessed = guess_layout(path, layout)
    assert SECRET not in str(guessed)
    return guessed


def lines(folder: Path, content: bytes, layout: Layout = EMAIL) -> list[str]:
    guessed = guess(folder, content, layout)
    assert guessed.questions == []
    return guessed.write


@pytest.mark.parametrize("sign", [";", "\t", "|", "^", " "])
def test_another_separator_is_guessed(tmp_path: Path, sign: str) -> None:
    [line] = lines(tmp_path, text(row(1).replace(",", sign), header=HEADER.replace(",", sign)))
    assert line == ("separator: tab" if sign == "\t" else f'separator: "{sign}"')
    quoted = text(header=f'"{HEADER}"'.replace(",", f'"{sign}"'))
    assert lines(tmp_path, quoted) == [line]


def test_a_sign_that_parts_one_name_only_is_no_separator(tmp_path: Path) -> None:
    assert guess(tmp_path, text(header="externalId/x,blackListPhone")).write == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_guessed_and_so_is_their_absence(tmp_path: Path, encoding: str) -> None:
    content = text(row(1)).decode().encode(encoding)
    if encoding in ("utf-16", "utf-16-le", "utf-32"):  # without a mark, utf-16 means the order of the machine
        assert lines(tmp_path, content)[0] == f"encoding: {encoding[:6]}"
    assert lines(tmp_path, content, replace(EMAIL, encoding=encoding)) == []
    assert lines(tmp_path, text(row(1)), replace(EMAIL, encoding=encoding)) == ["encoding: utf-8"]


def test_latin_1_is_guessed_where_the_bytes_are_no_utf_8(tmp_path: Path) -> None:
    content = text(f"{row(1)},Gr\u00f6\u00dfe", header=f"{HEADER},name").decode().encode("cp1252")
    assert lines(tmp_path, content) == ["encoding: cp1252"]
    assert lines(tmp_path, content, replace(EMAIL, encoding="latin-1")) == []


@pytest.mark.parametrize(
    ("times", "guessed"),
    [
        (["2026-05-04T10:00:00.000Z"], []),
        (["2026-05-04 10:00:00", ""], []),
        (["05/04/2026", "11/24/2026"], ["date_format: mmddyyyy"]),
        (["05/04/2026", "24/11/2026"], ["date_format: ddmmyyyy"]),
        (["05/2026/04", "11/2026/24"], ["date_format: mmyyyydd"]),
        (["05/2026/04", "24/2026/11"], ["date_format: ddyyyymm"]),
        (["2026/24/11"], ["date_format: yyyyddmm"]),
        (["2026/11/24"], ["date_format: yyyymmdd"]),
        (["11242026 10:00:00"], ["date_format: mmddyyyy"]),
        (["05/05/2026"], ["date_format: mmddyyyy"]),  # each that fits means the same moments
        (["11/24/2026", "n/a"], ["date_format: mmddyyyy"]),
    ],
)
def test_the_date_layout_is_guessed_where_only_one_fits(tmp_path: Path, times: list[str], guessed: list[str]) -> None:
    assert lines(tmp_path, text(*(row(number, time=time) for number, time in enumerate(times)))) == guessed


@pytest.mark.parametrize(
    ("times", "question"),
    [
        (["05/04/2026"], "can be read as mmddyyyy or as ddmmyyyy, and mean different moments"),
        (["24 Nov 2026"], "none of the date formats that are known: xml, yyyymmdd, mmddyyyy,"),
        (["11/24/2026", "11/25/2026", "24/11/2026"], "of 3 different ones mmddyyyy fits 2, ddmmyyyy fits 1."),
    ],
)
def test_a_date_layout_that_the_times_leave_open_is_a_question(tmp_path: Path, times: list[str], question: str) -> None:
    guessed = guess(tmp_path, text(*(row(number, time=time) for number, time in enumerate(times))))
    assert guessed.write == []
    assert question in guessed.questions[0]


def test_all_lines_come_at_once_and_the_file_is_read_by_them(tmp_path: Path) -> None:
    header = "External Resource ID;No longer contact by email;Changed;Birth date"
    content = gzip.compress(text(f"{guid(1)};1;24.11.2026 06:00:00;01.02.1980", header=header))
    guessed = lines(tmp_path, content)
    assert guessed == [
        'separator: ";"',
        "key_column: External Resource ID",
        'columns: {blackListEmail: "No longer contact by email", blackListEmailLastModified: "Changed"}',
        "date_format: ddmmyyyy",
    ]
    export = Export.model_validate(yaml.safe_load("\n".join(guessed)))
    labels = {label: name for name, label in export.columns.items()}
    layout = replace(EMAIL, key_column=export.key_column, separator=";", labels=labels, date_format=export.date_format)
    [batch] = Reader(io.BytesIO(content), layout, now=NOW)
    assert batch.valid.height == 1
    assert lines(tmp_path, content, layout) == []


@pytest.mark.parametrize("cells", [("1980-02-03", "5"), (TIME, TIME), ("", ""), (SECRET, TIME + SECRET)])
def test_a_time_whose_column_is_not_sure_is_a_question(tmp_path: Path, cells: tuple[str, str]) -> None:
    content = text(f"{guid(1)},1,{','.join(cells)}", header="externalId,blackListEmail,First,Second")
    guessed = guess(tmp_path, content)
    assert guessed.write == []
    assert "add `blackListEmailLastModified: <label>`" in guessed.questions[0]


def test_times_are_paired_with_their_columns_in_the_order_of_the_header(tmp_path: Path) -> None:
    layout = replace(EMAIL, attributes=("blackListEmail", "blackListPhone"))
    header = "externalId,blackListPhone,Phone changed,blackListEmail,Email changed"
    content = text(f"{guid(1)},1,{TIME},0,{TIME}", f'{guid(2)},1,,0,"{TIME}"', header=header)
    assert lines(tmp_path, content, layout) == [
        'columns: {blackListPhoneLastModified: "Phone changed", blackListEmailLastModified: "Email changed"}'
    ]


@pytest.mark.parametrize("first", [f"{guid(1)},1,{SECRET}", SECRET, f"externalId,name0,{SECRET},,1"])
def test_text_that_may_be_data_is_not_shown(tmp_path: Path, first: str) -> None:
    assert guess(tmp_path, text(header=first)) == Guess(
        [], ["The first line is no header: no column of it is recognised."]
    )


@pytest.mark.parametrize("content", [b"", gzip.compress(text(row(1)), mtime=0)[:-20]])
def test_of_a_file_without_lines_nothing_is_guessed(tmp_path: Path, content: Any) -> None:
    assert guess(tmp_path, content).write == []
