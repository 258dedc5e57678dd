"""Build SQLite statements that insert many rows at once.

For each row that the driver binds it waits for the interpreter lock: that takes one and a half times as long, and three
times while a thread prepares the next page.
"""

from typing import Any

import polars as pl

from sync_assets.ledger.prepared_page import same_in_each

ROWS = 1000
"""Rows per statement, which holds three copies of their texts. All rows of a page at once take 45 MB more at the peak
and no less time."""
_LONGEST = 20
"""Characters of a signed 64-bit number."""


def inserts(table: str, rows: pl.DataFrame) -> list[tuple[str, tuple[Any, ...]]]:
    """Build the statements that insert `rows` (integer, String and Binary columns), each with its parameters.

    A value that is the same in every row is one parameter. The texts or bytes of a column are concatenated to one
    parameter, with the start and length of each. A row's numbers are one string of digits: SQLite extracts a substring
    in a third of the time of a JSON member.
    """
    same = same_in_each(rows)
    into = f"INSERT INTO {table} ({', '.join(rows.columns)})"
    selects = [_Select(some, same) for some in rows.iter_slices(ROWS)]
    return [(f"{into} {one.statement}", tuple(one.parameters)) for one in selects]


class _Select:
    """A SELECT of rows that are encoded in `parameters`."""

    def __init__(self, rows: pl.DataFrame, same: dict[str, bool]) -> None:
        self.parameters: list[Any] = []
        self._digits = [pl.repeat('"', pl.len())]
        self._width = 0
        values = [self._given(column[0]) if same[column.name] else self._value(column) for column in rows]
        strings = rows.select(pl.concat_str(*self._digits, pl.lit('"')).str.join(",")).item()
        self.statement = f"SELECT {', '.join(values)} FROM json_each({self._given(f'[{strings}]')})"  # noqa: S608

    def _given(self, value: Any) -> str:
        self.parameters.append(value)
        return f"?{len(self.parameters)}"

    def _value(self, column: pl.Series) -> str:
        value, nulls = pl.col(column.name), bool(column.null_count())
        if column.dtype.is_integer():
            return self._number(value, _LONGEST, nulls=nulls)
        if column.dtype == pl.String:
            # Converted to bytes at once: Python's text takes four bytes per character if a single one is an emoji.
            whole = column.str.join("", ignore_nulls=True).cast(pl.Binary).item()
            return f"CAST({self._piece(whole, value.str.len_bytes(), nulls=nulls)} AS TEXT)"
        return self._piece(b"".join(column.drop_nulls().to_list()), value.bin.size(), nulls=nulls)

    def _piece(self, whole: bytes, size: pl.Expr, *, nulls: bool) -> str:
        start, width = size.fill_null(0).cum_sum() - size + 1, len(str(len(whole) + 1))
        begins, length = (self._number(number, width, nulls=nulls) for number in (start, size))
        # substr of an empty blob would be NULL.
        return f"substr({self._given(whole or b' ')}, {begins}, {length})"

    def _number(self, number: pl.Expr, width: int, *, nulls: bool) -> str:
        digits, at = number.cast(pl.String).str.zfill(width), self._width + 1
        self._digits.append(digits.fill_null("?" * width) if nulls else digits)
        self._width += width
        cut = f"CAST(substr(value, {at}, {width}) AS INTEGER)"
        return f"CASE WHEN substr(value, {at}, 1) <> '?' THEN {cut} END" if nulls else cut
