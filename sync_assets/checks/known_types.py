"""Remember beside a configuration file the types of mapped columns and attributes, so that Dagster shows them at once.

`init` and `add` write the file `.<configuration>.types`, and so does a capture whose preflight finds other types. Where
it cannot be written, nothing is remembered.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.runtime.systems import write_if_possible

KnownTypes = Mapping[str, Mapping[str, str]]
"""The types of a table: by side (d365 or campaign), by the name of a column or an attribute."""


def read(config: Path) -> dict[str, KnownTypes]:
    """Return the known types by table; none if there is no file beside the configuration."""
    with suppress(OSError, ValueError):
        return json.loads(_path(config).read_text("utf-8"))
    return {}


def remember(config: Path, *mappings: TableMapping) -> None:
    """Store the types of tables if they differ from the known ones."""
    known = read(config)
    now = known.copy()
    for mapping in mappings:
        mapped = [*mapping.fields, *mapping.links]
        columns = [mapping.table_key, *(field.column for field in (*mapped, *mapping.opt_outs))]
        attributes = [mapping.key, *(field.attribute for field in mapped)]
        opt_outs: dict[str, str] = {opt_out.attribute: "boolean" for opt_out in mapping.opt_outs}
        now[mapping.table] = {
            "d365": {column.name: column.type for column in columns},
            "campaign": {attribute.path: attribute.type for attribute in attributes} | opt_outs,
        }
    if now != known:
        write_if_possible(_path(config), json.dumps(now, indent=1) + "\n")


def _path(config: Path) -> Path:
    return config.with_name(f".{config.name}.types")
