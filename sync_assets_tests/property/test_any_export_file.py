"""Any valid content is read back as it was written; any bytes at all give rows or BadExport, and nobody's data."""

import csv
import gzip
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from sync_assets.config.values import OPT_OUT_ATTRIBUTES
from sync_assets.opt_out.export.file import BadExport, Batch, Layout, Reader

NOW = datetime(2026, 11, 24, tzinfo=UTC)
EARLIEST = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000)
SECRETS = ("Zebulon", "Ada Byron", "ada@example.com", "Yolanda")
QUOTING: tuple[Literal[0, 1], ...] = (csv.QUOTE_ALL, csv.QUOTE_MINIMAL)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252", "shift_jis")

ids = st.uuids().map(str)
values = st.sampled_from([None, False, True])
times = st.none() | st.integers(EARLIEST, int(NOW.timestamp() * 1000)).map(
    lambda milliseconds: datetime.fromtimestamp(milliseconds / 1000, UTC)
)


@dataclass
class File:
    content: bytes
    layout: Layout
    batch_rows: int
    rows: list[dict[str, Any]]
    """the good rows"""
    foreign: int


@st.composite
def files(draw: st.DrawFn) -> File:
    """A file as some workflow may write it: any separator, encoding, line end and quoting; columns in any order."""
    attributes = tuple(draw(st.lists(st.sampled_from(OPT_OUT_ATTRIBUTES), min_size=1, max_size=3, unique=True)))
    timed = [name for name in attributes if draw(st.booleans())]
    columns = ["externalId", *attributes, *(f"{name}LastModified" for name in timed), "note", "note"]
    columns = draw(st.permutations(columns))
    encoding = draw(st.sampled_from(ENCODINGS))
    end = draw(st.sampled_from(["\n", "\r", "\r\n"]))
    quoting = draw(st.sampled_from(QUOTING))
    separator = draw(st.sampled_from(",;\t|:^~ -0aT.\x01ｱ" if encoding == "utf-8" else ",;\t|:^~ -0aT."))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow([name.replace("blackList", draw(st.sampled_from(["blackList", "denyList"]))) for name in columns])
    good: list[dict[str, Any]] = []
    foreign = 0
    for _ in range(draw(st.integers(0, 6))):
        row: dict[str, Any] = {"line": len(lines(text.getvalue())) + 1, "id": draw(st.none() | ids)}
        for name in attributes:
            row |= {name: draw(values), f"{name}LastModified": draw(times) if name in timed else None}
        writer.writerow([draw(cells(name, row, encoding, quoting)) for name in columns])
        good += [row] if row["id"] else []
        foreign += not row["id"]
    content = text.getvalue().encode(encoding, "replace")
    packed = draw(st.sampled_from([bytes, gzip.compress]))(content)
    layout = Layout("externalId", attributes, "LastModified", separator, encoding, "xml")
    return File(packed, layout, draw(st.integers(1, 8)), good, foreign)


def lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]


def cells(name: str, row: dict[str, Any], encoding: str, quoting: int) -> st.SearchStrategy[str]:
    """The ways to write what stands in the row under this name."""
    if name == "note":
        # csv quotes no line end but its own, unless it quotes everything
        forbidden = "" if quoting == csv.QUOTE_ALL else "\r\n"
        text = st.text(
            st.characters(exclude_characters=forbidden, exclude_categories=["Cs"]) | st.sampled_from('",;\t ')
        )
        return st.sampled_from(SECRETS) | text.map(lambda note: note.encode(encoding, "replace").decode(encoding))
    value = row["id" if name == "externalId" else name]
    if value is None:
        return st.sampled_from(["", " ", "  "])
    if isinstance(value, bool):
        return st.sampled_from(["1", "true", "YES", " True "] if value else ["0", "false", "No", "FALSE "])
    if isinstance(value, str):
        return st.sampled_from([value, value.upper(), f" {value} "])
    text = value.isoformat("T", "milliseconds").removesuffix("+00:00")
    return st.sampled_from([f"{text}Z", text, text.replace("T", " "), f"{text}+00:00"])


def told(content: bytes, layout: Layout, batch_rows: int) -> list[Batch]:
    return list(Reader(io.BytesIO(content), layout, batch_rows=batch_rows, now=NOW))


@given(files())
def test_a_valid_file_is_read_back_as_written(file: File) -> None:
    batches = told(file.content, file.layout, file.batch_rows)
    assert [row for batch in batches for row in batch.valid.to_dicts()] == file.rows
    assert [batch.rejected.to_dicts() for batch in batches if len(batch.rejected)] == []
    assert sum(batch.foreign for batch in batches) == file.foreign


@st.composite
def spoiled(draw: st.DrawFn) -> File:
    """A file in which something went wrong: bytes are missing, changed, repeated or put in."""
    file = draw(files())
    content = bytearray(file.content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        until = at + draw(st.integers(0, 3))
        content[at:until] = draw(
            st.sampled_from([b"", b'"', b"\n", b"\0", b"\xff", b"\xe9", b",", b";", b"\r", bytes(content[:at])])
        )
    return File(bytes(content), file.layout, file.batch_rows, file.rows, file.foreign)


def check(content: bytes, layout: Layout, batch_rows: int) -> None:
    reader = Reader(io.BytesIO(content), layout, batch_rows=batch_rows, now=NOW)
    result: list[str] = []
    last = 1
    try:
        for batch in reader:
            assert batch.rows == len(batch.valid) + len(batch.rejected) + batch.foreign
            numbers = sorted([*batch.valid["line"], *batch.rejected["line"]])
            assert len(set(numbers)) == len(numbers)
            assert all(number > last for number in numbers)
            last = max(numbers, default=last)
            assert batch.valid["id"].str.contains("^[0-9a-f-]{36}$").all()
            assert batch.rejected["id"].drop_nulls().str.contains("^[0-9a-f-]{36}$").all()
            result += batch.rejected["reason"].to_list()
    except BadExport as error:
        result.append(str(error))
    for text in [*result, *reader.warnings]:
        assert not any(secret in text for secret in SECRETS), text
        assert text.isprintable()


@given(spoiled())
def test_any_failure_is_reported_without_personal_data(file: File) -> None:
    check(file.content, file.layout, file.batch_rows)


@given(
    st.binary(max_size=300) | st.text('"\r\n,;01aT-:é\0\ufeff', max_size=200).map(str.encode),
    st.sampled_from(
        [b"", b"externalId,ccpaOptOut,ccpaOptOutLastModified\n", b"\x1f\x8b", b"\xff\xfe", b"\xef\xbb\xbf"]
    ),
    st.sampled_from(["utf-8", "cp1252", "utf-16", "utf-7", "gb18030", "unicode_escape", "punycode", "iso2022_jp"]),
    st.sampled_from(",;\t0"),
    st.integers(1, 4),
)
def test_any_bytes_at_all_give_rows_or_bad_export(
    content: bytes, start: bytes, encoding: str, separator: str, batch_rows: int
) -> None:
    layout = Layout("externalId", ("ccpaOptOut",), "LastModified", separator, encoding)
    check(start + content, layout, batch_rows)
    check(gzip.compress(start + content), layout, batch_rows)
