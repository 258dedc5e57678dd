"""Write the lines of an export file, and read the file: all that it tells, or why it is refused."""

import io
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from sync_assets.opt_out.export.cells import valid_schema
from sync_assets.opt_out.export.file import BAD_SCHEMA, BadExport, Layout, Reader

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


QUOTED = f"{HEADER},name"


class ReadFile:
    """All that a file tells."""

    def __init__(self, content: bytes | Any, layout: Layout = EMAIL, **options: Any) -> None:
        options = {"now": NOW} | options
        stream = io.BytesIO(content) if isinstance(content, bytes) else content
        self.reader: Reader = Reader(stream, layout, **options)
        self.batches = list(self.reader)
        for batch in self.batches:
            assert batch.rows == len(batch.valid) + len(batch.rejected) + batch.foreign
            assert batch.valid.schema == valid_schema(layout.attributes)
            assert batch.rejected.schema == BAD_SCHEMA
            assert SECRET not in str(batch.rejected.to_dicts())
        self.rows = sum(batch.rows for batch in self.batches)
        self.foreign = sum(batch.foreign for batch in self.batches)
        self.good = pl.concat([valid_schema(layout.attributes).to_frame(), *(batch.valid for batch in self.batches)])
        self.ids = [int(id_[-12:], 16) for id_ in self.good["id"]]
        self.bad: dict[int, str] = {
            line: reason for batch in self.batches for line, reason in batch.rejected.select("line", "reason").rows()
        }

    @property
    def values(self) -> list[tuple[Any, ...]]:
        return self.good.drop("line", "id").rows()


def refused(content: bytes, layout: Layout = EMAIL, **options: Any) -> str:
    with pytest.raises(BadExport) as caught:
        ReadFile(content, layout, **options)
    assert caught.value.remedy
    assert SECRET not in str(caught.value)
    return str(caught.value)
