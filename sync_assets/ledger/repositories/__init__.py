"""Repositories beside the records: opt-outs, runs, maintenance, limits, reports. `base` is what all share."""
