"""Write suggestions as YAML with a comment beside each line, and insert a table into a file. Pure.

Suggestions that are not sure are commented out such that removing `# ` switches them on. Comments contain names of
columns, attributes, types and options, never values of rows.

An inserted entry follows the last one under `tables`, with its indentation and the file's line ends; all else stays
byte for byte. Comments that are indented deeper than the `-` belong to the entry before, those at its level to what
follows.
"""

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from datetime import date

import yaml

from sync_assets.config.loader import Document
from sync_assets.config.models import TableOptions
from sync_assets.config.values import CONTACT, PROFILE
from sync_assets.dataverse.metadata import MASTER, MERGED
from sync_assets.errors import SyncAssetsError
from sync_assets.scaffold.suggestions import SURE, Suggested, shown

SCHEMA_FILE = "sync_assets.schema.json"
"""In the same folder as the configuration, so that the line that refers to it is right on every machine."""

_COMMENT_COLUMN = 44
"""Column at which comments begin."""
_WIDTH = 118

OPT_OUT_PAIRS = {
    "donotemail": "blackListEmail",
    "donotphone": "blackListPhone",
    "donotfax": "blackListFax",
    "donotpostalmail": "blackListPostalMail",
}
"""Columns of contact with the same meaning as an attribute. Adobe maps none by itself
(docs/dev/references/campaign.md 14).
"""

_OPTIONS = {
    "apply_deletes: true": "records deleted in Dynamics 365 are deleted in Campaign, too; without it they stay",
    "apply_updates: false": "rows are sent on first load and replay only; without it, their changes, too",
    "picklists: codes": "choices in text attributes by number; without it, by label",
}
"""Keys of a table with the value that is not the default, and what it does."""

_HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# Which Dynamics 365 table feeds which Campaign resource. Begun by `sync-assets init` from what both systems say of
# themselves, yours from here on. `sync-assets doctor` checks it, `sync-assets plan` tells what a sync would do,
# `sync-assets add TABLE` adds a table. Secrets never stand here: they come from the environment.
#
# Beside each line stands how sure it is and why. Below {SURE} % it is commented out: remove `# ` to use it.
# Where longer texts are rejected, `firstname: {{to: firstName, truncate: true}}` has them cut. An empty value empties
# the attribute unless `mobilephone: {{to: mobilePhone, keep_if_empty: true}}`. Keys of all tables may stand once, under
# `defaults`. Keys that begin with x- are ignored, so that YAML anchors can be defined there.

# Required. Privacy requests (access, erasure) are your task, in both systems: this program neither sees nor forwards
# them. Keep this line only if that is arranged.
privacy_acknowledged: true

tables:
"""


def whole_file(tables: Sequence[Suggested], start: date) -> str:
    """Return a configuration file with these tables, whose first partition is `start`."""
    text = _HEAD + "\n".join(table_block(suggested, 2) for suggested in tables)
    for suggested in tables:
        if (suggested.table.name, suggested.resource.name) == (CONTACT, PROFILE):
            direction = _beside("  direction: disabled", "d365_to_campaign, campaign_to_d365 or bidirectional")
            text += "\n# Opt-outs between contact and profile. You decide which column maps to which attribute.\n"
            text += f"opt_out:\n{direction}\n"
            pairs = [pair for pair in OPT_OUT_PAIRS.items() if pair[0] in suggested.table.columns]
            text += "  # mappings:\n" if pairs else ""
            text += "".join(f"  #   {column}: {to}\n" for column, to in pairs)
            if MASTER in suggested.table.columns:
                carry = "an opt-out of a contact that was merged into another one counts for that one"
                text += f"{_beside('  # merged: carry', carry)}\n"
    runs = f"# The first partition in Dagster: the day on which this file was made.\nruns:\n  start_date: {start}\n"
    return f"{text}\n{runs}"


def table_block(suggested: Suggested, indent: int, defaults: TableOptions | None = None) -> str:
    """Return the entry of one table under `tables`, its `-` indented by `indent` blanks; ends with a newline.

    defaults: the file's own, which the entry does not repeat.
    """
    blanks = " " * indent
    return "".join(f"{blanks}{line}".rstrip() + "\n" for line in _lines(suggested, defaults or TableOptions()))


def _lines(suggested: Suggested, defaults: TableOptions) -> Iterator[str]:
    table, resource, given = suggested.table, suggested.resource, defaults.model_fields_set
    # The label on one line, without control characters.
    label = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+", " ", suggested.label).strip()[:60]
    yield f"# {label or table.name} -> {resource.name}"
    yield f"- table: {_name(table.name)}"
    yield f"  resource: {_name(resource.name)}"
    key = f"{suggested.key.percent} %, {suggested.key.why}; it takes {table.key} and has to be an identification key"
    yield _beside(f"  key: {_name(suggested.key.name)}", key)
    if resource.api != defaults.api:
        yield f"  api: {resource.api}"
    entries: list[tuple[bool, str, str]] = []
    for field in suggested.fields:
        types = f"{shown(field.column)} -> {shown(field.attribute)}"
        parts = [f"{field.percent} %, {field.why}", types, *([field.note] if field.note else [])]
        text = f"{_name(field.column.name)}: {_name(field.attribute.path)}"
        entries.append((field.sure, text, "; ".join(parts)))
    yield from _section("fields", entries)
    if "statecode" in table.columns and "filters" not in given:
        rule = "{field: statecode, is: eq, value: 0}"
        merged = table.name == CONTACT and MERGED in table.columns
        every = "every row, and both profiles of two contacts that were merged" if merged else "every row"
        yield _beside(f"  # filters: {{rules: [{rule}]}}", f"active rows only; without it, {every}")
    # Comments only: a key of a table outweighs the same key under `defaults`.
    for option, text in _OPTIONS.items():
        if option.partition(":")[0] not in given:
            yield _beside(f"  # {option}", text)
    entries = []
    for link in suggested.links:
        text = f"- {{field: {_name(link.column.name)}, to: {_name(link.attribute.path)}, table: {_name(link.parent)}"
        other = {
            True: "",
            False: "; write one if it was published as a `1 cardinality simple link`",
            None: "; the metadata does not state the cardinality: write zero_or_one if it was published so",
        }[link.attribute.mandatory]
        text += f", cardinality: {link.cardinality}}}"
        entries.append((link.sure, text, f"{link.percent} %, {link.why}{other}"))
    yield from _section("links", entries)
    head = "  # Campaign requires these, and nothing is mapped to them: "
    yield from textwrap.wrap(", ".join(suggested.mandatory), _WIDTH, initial_indent=head, subsequent_indent="  #   ")


def _section(name: str, entries: list[tuple[bool, str, str]]) -> Iterator[str]:
    """Yield a section with its entries, sure or not; if none of them is sure its head is a comment as well."""
    live = any(sure for sure, _, _ in entries)
    if entries:
        yield f"  {name}:" if live else f"  # {name}:"
    for sure, text, why in entries:
        if sure:
            yield _beside(f"    {text}", why)
        else:
            yield _beside(f"    # {text}" if live else f"  #   {text}", why)


def _beside(text: str, comment: str) -> str:
    return f"{text.ljust(_COMMENT_COLUMN)}  # {comment}"


def _name(text: str) -> str:
    """Return a name for YAML, quoted only if YAML would read it as null or a boolean."""
    return json.dumps(text) if text.lower() in ("null", "true", "false") else text


def insert_table(text: str, block: Callable[[int], str]) -> str:
    """Return `text` with one more entry, which `block(indent)` writes. Raises SyncAssetsError for a flow-style list."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    entries = next((value for key, value in pairs if getattr(key, "value", None) == "tables"), None)
    if not isinstance(entries, yaml.SequenceNode) or entries.flow_style or not entries.value:
        raise _not_a_block()
    last, dash = entries.value[-1], entries.start_mark.column
    content = _last_character(last)
    end = _end_of_entry(text, content, dash)
    newline = "\r\n" if "\r\n" in text else "\n"
    before, after = text[:end], text[end:]
    glue = "" if before.endswith("\n") else newline
    gap = newline if "\n" in text[last.start_mark.index : content] else ""  # no blank line after a one-line entry
    entry = block(dash).replace("\n", newline)
    result = f"{before}{glue}{gap}{entry}{after}"
    old, new = Document(text).data, Document(result)  # aliases or unusual layouts may have changed more
    if new.findings or not isinstance(new.data, dict) or not isinstance(old, dict):
        raise _not_a_block()
    if [*old["tables"]] != new.data["tables"][:-1] or {**new.data, "tables": None} != {**old, "tables": None}:
        raise _not_a_block()
    return result


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


def _next_line(text: str, position: int) -> int:
    newline = text.find("\n", position)
    return len(text) if newline < 0 else newline + 1
