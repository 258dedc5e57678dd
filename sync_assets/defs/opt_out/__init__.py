"""Dagster assets of opt-outs: the export file, decisions, the writes to both systems, and changes without a file."""
