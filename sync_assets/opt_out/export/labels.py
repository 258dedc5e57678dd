"""Recognise the columns of a header that has labels in place of the attributes' names, and say what to write."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence

import polars as pl

from sync_assets.opt_out.export.date_layouts import DATE_LAYOUTS, parse

LABELS = {
    "externalId": "External Resource ID",
    "blackList": "No longer contact (by any channel)",
    "blackListEmail": "No longer contact by email",
    "blackListFax": "No longer contact by fax",
    "blackListMobile": "No longer contact by SMS",
    "blackListPhone": "No longer contact by phone",
    "blackListPostalMail": "No longer contact by direct mail",
    "blackListPushnotification": "No longer contact by push notification",
}
"""The documented labels of attributes, which a header has unless they were changed (docs/dev/references/campaign.md 8).
No source documents the label of ccpaOptOut."""
WITHOUT_TIME = "blackListPushnotification"
"""The only attribute that Campaign exports without a time of change (docs/dev/references/campaign.md 2)."""
_LOOKED_AT = 100
"""Lines in which columns of times are looked for."""
_BY_LABELS = (
    "The header has the labels of the columns: click them in the Extract file activity and write these names there"
)


def spelt_otherwise(needed: tuple[str, ...], names: list[str]) -> dict[str, str]:
    """Return needed name -> the name of the header that is the same but for case and signs, or its documented label."""
    known = {plain_name(spelling): name for name in needed for spelling in (name, LABELS.get(name, name))}
    return {known[plain_name(name)]: name for name in names if plain_name(name) in known}


def unnamed_times(
    needed: tuple[str, ...], suffix: str, names: list[str], unused: Sequence[str], below: Sequence[str], separator: str
) -> dict[str, str | None]:
    """Return missing time of change -> the unused column that has times in the lines below the header.

    All are None unless there are as many such columns as missing times, which are then paired in their order: cells do
    not tell whose times they are. Empty if no time is missing or no column is left. A date without a time of day does
    not count, since it may be one of birth.
    """
    otherwise = spelt_otherwise(needed, names)
    attributes = sorted(needed[1:], key=lambda name: names.index(otherwise[name]) if name in otherwise else len(names))
    times = [f"{name}{suffix}" for name in attributes if name != WITHOUT_TIME]
    missing, left = [name for name in times if name not in names], set(unused) - set(otherwise.values())
    if not missing or not left:
        return {}
    rows = _rows(below[:_LOOKED_AT], separator, len(names))
    found = [name for at, name in enumerate(names) if name in left and _are_times([row[at] for row in rows])]
    one_each = len(found) == len(set(found)) == len(missing)
    return dict(zip(missing, found, strict=True)) if one_each else dict.fromkeys(missing)


def _rows(lines: Sequence[str], separator: str, width: int) -> list[list[str]]:
    """Return the valid rows of these lines, each of which is parsed on its own."""
    rows: list[list[str]] = []
    for line in lines:
        try:
            rows += csv.reader([line], delimiter=separator, strict=True)
        except csv.Error:
            continue
    return [row for row in rows if len(row) == width]


def _are_times(cells: list[str]) -> bool:
    texts = pl.Series([cell.strip() for cell in cells if cell.strip()], dtype=pl.String)
    if texts.is_empty() or not texts.str.contains(":", literal=True).all():
        return False
    return any(not parse(texts, layout).null_count() for layout in DATE_LAYOUTS)


def how_to_name_times(times: Mapping[str, str | None]) -> str:
    """Return the remedy for `unnamed_times` in the configuration, which has other columns already."""
    pairs = ", ".join(f"{name}: {_quoted(label) if label else '<label>'}" for name, label in times.items())
    if None in times.values():
        return f"If a column that is not used has times of change, add `{pairs}` with its label to `export.columns`."
    return f"Add `{pairs}` to `export.columns`, if these are the times of the change."


def how_to_name(
    missing: list[str], needed: tuple[str, ...], otherwise: dict[str, str], times: Mapping[str, str | None]
) -> str:
    """Return the remedy for missing columns: in the configuration where the header has them under other names.

    times: `unnamed_times`.
    """
    key = needed[0]
    written = [f"`export.key_column: {otherwise[key]}`"] if key in missing and key in otherwise else []
    named = {name: otherwise[name] for name in missing if name in otherwise and name != key}
    if not written and not named:
        return f"{_BY_LABELS}, or name them in `export.columns`."
    named |= {name: label for name, label in times.items() if label}
    if named:
        pairs = ", ".join(f"{name}: {_quoted(label)}" for name, label in named.items())
        written.append(f"`export.columns: {{{pairs}}}`")
    open_times = f" {how_to_name_times(times)}" if None in times.values() else ""
    return f"Write {' and '.join(written)}.{open_times} Or: {_BY_LABELS}."


def _quoted(label: str) -> str:
    """Return a label as written in YAML."""
    return json.dumps(label, ensure_ascii=False)


def plain_name(name: str) -> str:
    """Return a name without signs and blanks, in one case."""
    return "".join(filter(str.isalnum, name)).casefold()
