"""The assets of opt-outs: the export file, decisions, writes on both sides, and changes without a file."""
