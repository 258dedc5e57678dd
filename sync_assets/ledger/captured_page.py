"""One page of a table's rows and deletions in Dynamics 365, in the form that the ledger stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sync_assets.ledger.model import LinkSpec

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.prepared_page import LedgerPage


@dataclass(frozen=True, slots=True)
class CapturedPage:
    """The rows and deletions of one page of a table, as `Ledger.captures.save_page` stores them.

    rows: a data frame with the columns id (String, each id once), payload (String: JSON of an insert),
    update_payload (String or null: JSON of an update where it differs), hash (Binary, 16 bytes, of the update payload),
    validation_error (String or null: of the row, whose payload is not stored); for each of `links` a column
    named after its attribute (String or null: the parent's id); and optionally row_hash, row_version and
    insert_only_hash (Int64). Or a prepared_page.LedgerPage, prepared with the same links.
    deleted: ids of rows whose records are to be deleted in Campaign, applied after the rows.
    out_of_scope: ids of rows whose records Campaign keeps; records never sent are purged.
    filtered_out: those of the ids of both whose rows exist in Dynamics 365 outside the filter, with their versions.
    unchanged: (id, row hash) of unchanged rows of the page, none of them in `rows`, as returned by `same_rows`.
    links: the table's links.
    opt_outs: opt-out columns of the rows and of those filtered out, see OptOutRows.apply_captured; None if none are
    mapped. opt_outs_are_fields: the payloads hold them, too.
    """

    rows: "pl.DataFrame | LedgerPage"
    deleted: Sequence[str] = ()
    out_of_scope: Sequence[str] = ()
    filtered_out: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    unchanged: Sequence[tuple[str, int]] = ()
    links: Sequence[LinkSpec] = ()
    opt_outs: "pl.DataFrame | None" = None
    opt_outs_are_fields: bool = False
