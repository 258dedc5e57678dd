"""Recognise the columns of a header that has labels in place of the attributes' names, and say what to write."""

from __future__ import annotations

import json

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
"""The documented labels of attributes, which a header has unless they were changed (docs/references/campaign.md 8)."""
_BY_LABELS = (
    "The header has the labels of the columns: click them in the Extract file activity and write these names there"
)


def spelt_otherwise(needed: tuple[str, ...], names: list[str]) -> dict[str, str]:
    """Return needed name -> the name of the header that is the same but for case and signs, or its documented label."""
    known = {plain_name(spelling): name for name in needed for spelling in (name, LABELS.get(name, name))}
    return {known[plain_name(name)]: name for name in names if plain_name(name) in known}


def how_to_name(missing: list[str], needed: tuple[str, ...], otherwise: dict[str, str]) -> str:
    """Return the remedy for missing columns: in the configuration where the header has them under other names."""
    key, attributes = needed[0], [name for name in missing if name in otherwise and name != needed[0]]
    written = [f"`export.key_column: {otherwise[key]}`"] if key in missing and key in otherwise else []
    if attributes:
        pairs = ", ".join(f"{name}: {json.dumps(otherwise[name], ensure_ascii=False)}" for name in attributes)
        written.append(f"`export.columns: {{{pairs}}}`")
    if not written:
        return f"{_BY_LABELS}, or name them in `export.columns`."
    return f"Write {' and '.join(written)}. Or: {_BY_LABELS}."


def plain_name(name: str) -> str:
    """Return a name without signs and blanks, in one case."""
    return "".join(filter(str.isalnum, name)).casefold()
