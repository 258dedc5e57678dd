"""Model of the part `bulk_load` of the configuration file (docs/bulk-load.md)."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from sync_assets.config.values import AttributeName, Hours, LogicalName, Model, SftpFolder, TrimmedText

MEGABYTE = 1_000_000


class BulkLoad(Model):
    """First loads by file: files on the Campaign SFTP, which a workflow of each table imports."""

    above: Annotated[int, Field(ge=0, le=3_000_000)] = 200_000
    """First inserts of a table beyond which all of them go by file; up to this number they go by REST.

    At most 3,000,000, since a capture pauses at 4,000,000 pending records.
    """
    directory: SftpFolder = "d365_loads/imports"
    """Relative to the folder after sign-in, or from the root with a `/`. Not that of the opt-out files."""
    file_mb: Annotated[float, Field(gt=0, le=10_000)] = 200
    """The size of one file in megabytes (of 1,000,000 bytes), before compression."""
    compress: Literal["gz", "none"] = "gz"
    """`gz`: files end with `.tsv.gz`. `none`: with `.tsv`."""
    workflows: dict[LogicalName, TrimmedText] = Field(default_factory=dict[str, str])
    """Table: its import workflow, which inserts only, as in {contact: WKF20}. Other tables go by REST."""
    on_failure: Literal["rest", "wait"] = "rest"
    """The records that a workflow ended without importing: `rest` sends them one by one, `wait` waits for a person."""
    wait_hours: Hours = 24
    """How long a workflow may take. Then `status` and an alert name the load, which waits for a person."""
    updates: Annotated[tuple[AttributeName, ...], Field(strict=False)] = ()
    """Attributes that REST refuses in updates, as in [location] on Campaign v8: a file a day brings their changes."""
    update_workflows: dict[LogicalName, TrimmedText] = Field(default_factory=dict[str, str])
    """Table: its workflow for files of `updates`, which updates only, as in {contact: WKF30}."""

    def has(self, table: str) -> bool:
        """Return True if files bring first inserts or updates of a D365 table."""
        return table in self.workflows or table in self.update_workflows

    def updated(self, table: str, paths: Iterable[str]) -> list[str]:
        """Return those of a table's dotted attributes that its files of updates bring."""
        names = self.updates if table in self.update_workflows else ()
        return [path for path in paths if any(f"{path}.".startswith(f"{name}.") for name in names)]
