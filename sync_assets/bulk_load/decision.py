"""Decide whether first inserts go by file. Pure."""

from typing import Literal

Way = Literal["file", "rest", "later"]
"""later: nothing is sent before it is known how many there are."""


def way_of(first_inserts: int, above: int, *, continues: bool, may_grow: bool) -> Way:
    """Return how the first inserts of a table go.

    Args:
        first_inserts: records that were never sent and may be sent now.
        above: the configured limit, `bulk_load.above`.
        continues: the table's last load left records to the next one.
        may_grow: the table is read for the first time, and that read is not complete.
    """
    if first_inserts > above or (continues and first_inserts > 0):
        return "file"
    return "later" if may_grow and first_inserts > 0 else "rest"
