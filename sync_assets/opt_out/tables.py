"""The Parquet tables of opt-outs. The first two are assets of the same keys."""

EXPORT = ("campaign", "opt_out_export")
"""Valid rows of an export file."""
DECISIONS = ("opt_out", "decisions")
"""Decisions, by file and by day."""
REJECTED_ROWS = ("campaign", "opt_out_rejected_rows")
"""Rows of an export file that are not valid, with their reasons."""
