"""Many rows in one statement of SQLite. A row at a time through the driver is a turn of the interpreter each: alone
that costs half as much again, and beside a thread that makes the next page ready three times.
"""

from typing import Any

import polars as pl

from sync_assets.ledger.prepared_page import same_in_each

ROWS = 1000
"""In one statement, which holds three copies of their texts. All of a page take 45 MB more at the peak and no less
time."""
_LONGEST = 20
"""Characters of a signed number of 64 bits."""


def inserts(table: str, rows: pl.DataFrame) -> list[tuple[str, tuple[Any, ...]]]:
    """Statements that insert the columns of `rows` (integers, String, Binary), each with its parameters.

    What is the same in every row is a parameter. Texts and bytes go end to end as one parameter for each column, with
    numbers of where each begins and how long it is. A row's numbers are one string of digits, of which SQLite cuts
    each in a third of the time that it looks up a member of a JSON object.
    """
    same = same_in_each(rows)
    into = f"INSERT INTO {table} ({', '.join(rows.columns)})"
    selects = [_Select(some, same) for some in rows.iter_slices(ROWS)]
    return [(f"{into} {one.statement}", tuple(one.parameters)) for one in selects]


class _Select:
    """`statement`: the rows, out of `parameters`."""

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
            # As bytes at once: a text of Python's takes four bytes a character if a single one is an emoji.
            whole = column.str.join("", ignore_nulls=True).cast(pl.Binary).item()
            return f"CAST({self._piece(whole, value.str.len_bytes(), nulls=nulls)} AS TEXT)"
        return self._piece(b"".join(column.drop_nulls().to_list()), value.bin.size(), nulls=nulls)

    def _piece(self, whole: bytes, size: pl.Expr, *, nulls: bool) -> str:
        start, width = size.fill_null(0).cum_sum() - size + 1, len(str(len(whole) + 1))
        begins, length = (self._number(number, width, nulls=nulls) for number in (start, size))
        # A piece of what is empty would be NULL.
        return f"substr({self._given(whole or b' ')}, {begins}, {length})"

    def _number(self, number: pl.Expr, width: int, *, nulls: bool) -> str:
        digits, at = number.cast(pl.String).str.zfill(width), self._width + 1
        self._digits.append(digits.fill_null("?" * width) if nulls else digits)
        self._width += width
        cut = f"CAST(substr(value, {at}, {width}) AS INTEGER)"
        return f"CASE WHEN substr(value, {at}, 1) <> '?' THEN {cut} END" if nulls else cut
