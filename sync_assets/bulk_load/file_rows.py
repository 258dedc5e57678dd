"""Write records as lines of a file that Campaign's activity Load file reads. Pure.

UTF-8, lines end with LF, values are separated by tabs and never quoted. The first line has the names of the attributes:
the key, the mapped fields, opt-outs, links. A link is the parent's key. Source: docs/bulk-load.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from sync_assets.audit.value_comparison import leaves
from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.ledger.model import LoadRow

_NOT_IN_A_LINE = r"[\t\n\r\x00]"
DECODER = msgspec.json.Decoder(float_hook=str)
"""Numbers with a point keep all their digits."""
SAMPLES: dict[str, object] = {
    "date": "2000-02-29",
    "datetime": "2000-02-29 12:30:00.000Z",
    "boolean": True,
    "integer": 7,
    "float": 1.5,
}
"""Synthetic values by the type of the attribute."""


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The columns of a table's files, in their order.

    key: the attribute of our id. fields: attributes of the payload, dotted. opt_outs: sent beside the payload.
    links: attributes set by the parent's key. types: of the fields, as Campaign describes them.
    """

    key: str
    fields: tuple[str, ...]
    opt_outs: tuple[str, ...]
    links: tuple[str, ...]
    types: dict[str, str]

    @classmethod
    def of(cls, config: TableConfig, resource: Resource, opt_outs: Sequence[str]) -> "FileColumns":
        """Return the columns for a table as mapped."""
        mapped = [field.to for field in config.fields.values()]
        mapped += [link.to for link in config.links if link.style == "join"]
        fields = tuple(name for name in dict.fromkeys(mapped) if name != config.key)
        links = tuple(link.to for link in config.links if link.style != "join")
        types = {path: attribute.type for path, attribute in resource.attributes.items() if path in fields}
        return cls(config.key, fields, tuple(opt_outs), links, types)

    @property
    def names(self) -> str:
        """The names of the attributes, separated by tabs."""
        return "\t".join([self.key, *self.fields, *self.opt_outs, *self.links])

    @property
    def header(self) -> bytes:
        return f"{self.names}\n".encode()


def lines_of(rows: Sequence[LoadRow], columns: FileColumns) -> tuple[bytes, list[int]]:
    """Return the lines of records, and the seqs of those that no line can hold.

    These have a tab, a line break or NUL in a value, or an attribute of an earlier mapping.
    """
    payloads = [dict(leaves(DECODER.decode(row.payload))) for row in rows]
    known = {columns.key, *columns.fields}
    unmapped = pl.Series([not known.issuperset(payload) for payload in payloads], dtype=pl.Boolean)
    links = [{link.attribute: link.id for link in row.links} for row in rows]
    opt_outs = [dict(row.opt_outs) for row in rows]
    series = [pl.Series(columns.key, [row.id for row in rows], dtype=pl.String)]
    series += [_cells(name, [one.get(name) for one in payloads], columns.types.get(name)) for name in columns.fields]
    series += [_cells(name, [one.get(name, False) for one in opt_outs], "boolean") for name in columns.opt_outs]
    series += [pl.Series(name, [one.get(name) for one in links], dtype=pl.String) for name in columns.links]
    frame = pl.DataFrame(series)
    broken = frame.select(pl.any_horizontal(pl.all().str.contains(_NOT_IN_A_LINE).fill_null(value=False)))
    left_out = broken.to_series() | unmapped
    seqs = pl.Series([row.seq for row in rows], dtype=pl.Int64).filter(left_out).to_list()
    text = frame.filter(~left_out).write_csv(separator="\t", quote_style="never", include_header=False, null_value="")
    return text.encode(), seqs


def _cells(name: str, values: Sequence[object], type_: str | None) -> pl.Series:
    """Return the cells of a column: true and false as 1 and 0, a date and a time without zone, no value as null."""
    texts = [None if value is None or value == "" else _text(value) for value in values]
    cells = pl.Series(name, texts, dtype=pl.String)
    if type_ == "date":
        return cells.str.head(10)
    return cells.str.replace("T", " ", literal=True).str.head(19) if type_ == "datetime" else cells


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
