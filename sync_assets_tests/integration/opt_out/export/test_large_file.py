"""Export files that are large, or made to be: read in flat memory."""

import csv
import io
import itertools
from typing import Any, cast

import pytest

from sync_assets.opt_out.export import lines as export_lines
from sync_assets.opt_out.export.file import Reader
from sync_assets_tests.support.endless_answers import growth, zeros
from sync_assets_tests.support.export_files import EMAIL, NOW, QUOTED, refused, row, text


def test_the_text_after_an_open_quote_is_bounded() -> None:
    rows = [f"{row(number)},Bob" for number in range(2, 30_000)]
    limit = csv.field_size_limit(10**9)
    try:
        reader = Reader(io.BytesIO(text(f'{row(1)},"Ada', *rows, header=QUOTED)), EMAIL, batch_rows=100, now=NOW)
        assert next(reader).rows > 0
        assert reader.bytes_read < 1_000_000
        assert sum(len(batch.valid) for batch in reader) > 27_000
    finally:
        csv.field_size_limit(limit)


class Bomb(io.RawIOBase):
    """A zipped file of zeros for ever, a thousand times smaller than what it holds."""

    def __init__(self) -> None:
        self.pieces = itertools.chain(zeros(1)[:1], itertools.repeat(zeros(1)[1]))

    def read(self, size: int = -1, /) -> bytes:
        return next(self.pieces)


def test_a_zipped_file_that_unpacks_without_measure_is_refused_in_flat_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_lines, "ZIPPED_BEYOND", 256 << 20)
    with growth() as grown:
        message = refused(cast("Any", Bomb()))
    assert message.startswith("The zipped file unpacks to more than 200 times its size")
    assert grown.most < 32 << 20
