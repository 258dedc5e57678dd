"""Write the daily opt-out file as a Campaign workflow does (docs/dev/references/campaign.md 8)."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from sync_assets.sandbox.campaign.resources import OPT_OUTS
from sync_assets.sandbox.campaign.settings import BadSettings
from sync_assets.sandbox.campaign.store import Store


class ExportOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Configuration of the workflow's Extract file activity. The real layout is not documented, so all is optional."""

    name: str | None = None
    """File name; default `optout_YYYYMMDD_HHMMSS.csv`, with `.gz` if compressed."""
    only_changed: bool = False
    """Only profiles whose lastModified is at or after the last export (a profile at the limit appears twice)."""
    foreign: bool = False
    """Also profiles without a key."""
    attributes: tuple[str, ...] = tuple(OPT_OUTS)
    separator: str = ","
    encoding: str = "utf-8"
    gz: bool = False
    header: bool = True
    times: bool = True
    """A LastModified column after each attribute that has one."""
    booleans: tuple[str, str] = ("0", "1")
    """Texts for false and true."""
    headings: dict[str, str] = {}
    """Column headings that differ from the attribute's name, such as its label."""
    time_format: str | None = None
    """Format of change times as in strftime; None: ISO 8601, as in the activity's XML format."""
    keep_empty: bool = False
    """Write a file even if there are no rows."""


class Export:
    """The workflow that writes the file. folder: of the SFTP server; None: there is none."""

    def __init__(self, store: Store, folder: Path | None) -> None:
        self._store = store
        self.folder = folder
        self._written_at: float | None = None

    def write(self, values: dict[str, Any] | None = None) -> Path | None:
        """Write the file in place, without a temporary name, as an upload does. Return None if there are no rows.

        Args:
            values: Values of ExportOptions.

        Raises:
            BadSettings: The options are not valid, or the instance has no folder for exports.
        """
        try:
            options = msgspec.convert(values or {}, ExportOptions)
        except msgspec.ValidationError as error:
            raise BadSettings(str(error)) from None
        if self.folder is None:
            raise BadSettings("this sandbox has no SFTP folder to export to")
        moment, columns = self._store.clock(), self._columns(options)
        rows = self._rows(options, columns)
        self._written_at = moment
        if not rows and not options.keep_empty:
            return None
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=options.separator, lineterminator="\n")
        if options.header:
            writer.writerow(options.headings.get(name, name) for name in columns)
        writer.writerows(rows)
        content = text.getvalue().encode(options.encoding)
        stamp = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d_%H%M%S")
        name = options.name or f"optout_{stamp}.csv" + (".gz" if options.gz else "")
        file = self.folder / Path(name).name
        file.write_bytes(gzip.compress(content) if options.gz else content)
        return file

    def _columns(self, options: ExportOptions) -> list[str]:
        without = self._store.settings.opt_outs_without_time
        columns = ["externalId"]
        for name in options.attributes:
            columns.append(name)
            if options.times and name not in without and OPT_OUTS.get(name):
                columns.append(f"{name}LastModified")
        return columns

    def _rows(self, options: ExportOptions, columns: list[str]) -> list[list[str]]:
        since = self._written_at if options.only_changed else None
        border = datetime.fromtimestamp(since, UTC).isoformat(" ", "milliseconds")[:23] if since is not None else ""
        rows: list[list[str]] = []
        for record in self._store.tables["profile"].records.values():
            values = record.values
            if (values.get("externalId") or options.foreign) and values["lastModified"] >= border:
                rows.append([_text(name, values.get(name, ""), options) for name in columns])
        return rows


def _text(name: str, value: Any, options: ExportOptions) -> str:
    if name in OPT_OUTS:
        return options.booleans[bool(value)]
    if not name.endswith("LastModified") or not value:
        return str(value)
    if options.time_format is not None:
        return datetime.fromisoformat(value).strftime(options.time_format)
    return value.replace(" ", "T")  # the only format with a time zone
