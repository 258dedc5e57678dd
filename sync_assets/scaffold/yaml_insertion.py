"""Insert one more table into a configuration file, and leave everything else byte for byte. Pure.

The entry is added after the last one under `tables`, with its indentation and the file's line ends. Comments that are
indented deeper than the `-` belong to the entry before, those at its level to what follows.
"""

from __future__ import annotations

from collections.abc import Callable

import yaml

from sync_assets.config.yaml_lines import Document
from sync_assets.errors import SyncAssetsError


def insert_table(text: str, block: Callable[[int], str]) -> str:
    """Return `text` with one more entry, which `block(indent)` writes, each line ending in a newline.

    Raises SyncAssetsError if the list is written in a form to which a line can't be added.
    """
    entries = _entries(text)
    last, dash = entries.value[-1], entries.start_mark.column
    content = _last_character(last)
    end = _end_of_entry(text, content, dash)
    newline = "\r\n" if "\r\n" in text else "\n"
    before, after = text[:end], text[end:]
    glue = "" if before.endswith("\n") else newline
    gap = newline if "\n" in text[last.start_mark.index : content] else ""  # no blank line after a one-line entry
    entry = block(dash).replace("\n", newline)
    whole = f"{before}{glue}{gap}{entry}{after}"
    _check(text, whole)
    return whole


def _entries(text: str) -> yaml.SequenceNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    tables = next((value for key, value in pairs if getattr(key, "value", None) == "tables"), None)
    if not isinstance(tables, yaml.SequenceNode) or tables.flow_style or not tables.value:
        raise _not_a_block()
    return tables


def _not_a_block() -> SyncAssetsError:
    return SyncAssetsError(
        "`tables` is not written as a list whose entries each begin with `- ` on a line of their own.",
        "Write it so, as `sync-assets init` does, or add the table by hand.",
    )


def _last_character(node: yaml.Node) -> int:
    """Return where the content of a node ends; a block's own end mark is after the comments that follow it."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return node.end_mark.index
    last = node.value[-1]
    key, value = last if isinstance(last, tuple) else (last, last)
    return max(key.end_mark.index if key is not value else 0, _last_character(value))


def _end_of_entry(text: str, position: int, dash: int) -> int:
    """Return the end of the entry's last line, its own comments included."""
    if position and text[position - 1] == "\n":  # behind a `|` or `>` text
        position -= 1
    end = _next_line(text, position)
    ahead = end
    while ahead < len(text):
        following = _next_line(text, ahead)
        line = text[ahead:following]
        bare = line.strip()
        if bare.startswith("#") and len(line) - len(line.lstrip()) > dash:
            end = following
        elif bare:
            break
        ahead = following
    return end


def _check(former: str, whole: str) -> None:
    """Raise SyncAssetsError unless the only change is one more table, even with aliases or unusual layouts."""
    old, new = Document(former), Document(whole)
    if new.findings or not isinstance(new.data, dict) or not isinstance(old.data, dict):
        raise _not_a_block()
    if [*old.data["tables"]] != new.data["tables"][:-1] or {**new.data, "tables": None} != {**old.data, "tables": None}:
        raise _not_a_block()


def _next_line(text: str, position: int) -> int:
    found = text.find("\n", position)
    return len(text) if found < 0 else found + 1
