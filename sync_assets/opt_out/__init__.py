"""Opt-outs between contact and profile: the export file, the decision, the writes. Domain first, Dagster last."""
