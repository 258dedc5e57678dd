"""Keys of the Parquet tables of opt-outs. EXPORT and DECISIONS are also the keys of Dagster assets."""

EXPORT = ("campaign", "opt_out_export")
"""Valid rows of an export file."""
DECISIONS = ("opt_out", "decisions")
"""Decisions, partitioned by file and by day."""
REJECTED_ROWS = ("campaign", "opt_out_rejected_rows")
"""Rejected rows of an export file, with reasons."""
