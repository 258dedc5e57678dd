"""An export file is read strictly: what is good, in batches and in order.

The format: docs/dev/references/campaign.md 8. Any content at all: test_any_export_file.py. Its bytes: test_lines.py.
Its header and rows: test_rows.py. Its dates: test_cells.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import paramiko
import pytest

from sync_assets.opt_out.export.cells import valid_schema
from sync_assets.opt_out.export.file import Layout, file_order, time_in_name
from sync_assets_tests.support.export_files import EMAIL, HEADER, NOW, TIME, ReadFile, guid, row, text
from sync_assets_tests.support.sandbox_process import SandboxProcess


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
        result = ReadFile(file, layout, now=now)
    assert (result.rows, result.foreign, result.bad, result.reader.warnings) == (6, 1, {}, [])
    assert result.ids == list(range(5))
    assert result.good["blackListEmail"].to_list() == [False, True, False, True, False]
    changed = [
        time is not None and abs((now - time).total_seconds()) < 60
        for time in result.good["blackListEmailLastModified"]
    ]
    assert changed == result.good["blackListEmail"].to_list()
    assert result.good["blackListPushnotificationLastModified"].null_count() == 5
    assert result.reader.zipped is gz


def test_values_and_times_are_typed() -> None:
    layout = replace(EMAIL, attributes=("blackListEmail", "ccpaOptOut"))
    header = "ccpaOptOutLastModified,ccpaOptOut,externalId,blackListEmailLastModified,blackListEmail"
    result = ReadFile(
        text(f"2026-11-23T06:00:00.250Z,1,{guid(0xA).upper()},,0", f",,{guid(11)},,", header=header), layout
    )
    assert result.good.to_dicts() == [
        {
            "line": 2,
            "id": guid(0xA),
            "blackListEmail": False,
            "blackListEmailLastModified": None,
            "ccpaOptOut": True,
            "ccpaOptOutLastModified": datetime(2026, 11, 23, 6, 0, 0, 250_000, tzinfo=UTC),
        },
        {"line": 3, "id": guid(11)} | dict.fromkeys(valid_schema(layout.attributes).names()[2:]),
    ]
    assert result.reader.date_layout == "xml"


def test_profiles_without_a_key_are_counted_and_are_not_bad_whatever_stands_in_them() -> None:
    result = ReadFile(text(row(1), f",1,{TIME}", " ,?,?", row(2)))
    assert (result.ids, result.foreign, result.bad, result.rows) == ([1, 2], 2, {}, 4)


def test_times_that_are_missing_are_unknown_and_a_warning() -> None:
    layout = replace(EMAIL, attributes=("blackListEmail", "blackListFax", "blackListPushnotification"))
    header = "externalId,blackListEmail,blackListEmailLastModified,blackListFax,blackListPushnotification"
    result = ReadFile(text(f"{row(1)},0,1", header=header), layout)
    [warning] = result.reader.warnings  # Campaign has none for push notifications
    assert "no column `blackListFaxLastModified`:" in warning
    assert result.good["blackListFaxLastModified"].to_list() == [None]
    assert result.good["blackListPushnotification"].to_list() == [True]


def test_the_change_column_has_the_suffix_that_is_configured() -> None:
    result = ReadFile(
        text(row(1), header="externalId,blackListEmail,blackListEmail_at"), replace(EMAIL, changed_suffix="_at")
    )
    assert result.values == [(True, datetime(2026, 11, 23, 6, tzinfo=UTC))]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\r\r\n"])
def test_line_ends_of_any_kind_and_blank_lines(end: str) -> None:
    result = ReadFile(text(row(1), "", row(2), "", "", end=end))
    assert (result.ids, result.rows) == ([1, 2], 2)
    assert result.good["line"].to_list() == ([2, 4] if end != "\r\r\n" else [3, 7])


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", "\ufeff"), ("utf-8-sig", ""), ("cp1252", ""), ("utf-16", ""), ("utf-16-le", "\ufeff"), ("utf-32", "")],
)
def test_encodings_with_and_without_a_mark(encoding: str, mark: str) -> None:
    content = (mark + text(f"{row(1)},Müller", header=f"{HEADER},name").decode()).encode(encoding)
    result = ReadFile(content, replace(EMAIL, encoding=encoding))
    assert (result.ids, result.reader.warnings) == ([1], [])


def test_the_mark_of_utf_8_is_no_part_of_the_header_even_if_another_encoding_is_configured() -> None:
    assert ReadFile(b"\xef\xbb\xbf" + text(row(1)), replace(EMAIL, encoding="cp1252")).ids == [1]


def test_quoted_cells_may_hold_separators_quotes_and_line_ends() -> None:
    quoted = f'"a,""b""\n\nc","{guid(1)}","1","{TIME}"'
    result = ReadFile(
        text(quoted, f",{row(2)}", header='"note",' + ",".join(f'"{name}"' for name in HEADER.split(",")))
    )
    assert (result.ids, result.good["line"].to_list(), result.bad) == ([1, 2], [2, 5], {})


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_batches_have_so_many_rows_and_together_they_are_the_file(batch_rows: int) -> None:
    result = ReadFile(text(*map(row, range(7)), "x"), batch_rows=batch_rows)
    assert result.ids == list(range(7))
    assert result.good["line"].to_list() == list(range(2, 9))
    assert list(result.bad) == [9]
    assert max(batch.rows for batch in result.batches) <= batch_rows


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
