"""Checks before the first write: whether a table can be synchronised as it is set up.

preflight          configuration against the metadata of both systems: start reading here
guardrails         limits that stop a run before its first write
schema_drift       types that changed under a mapping
link_cardinality   links whose cardinality differs from the configuration
opt_out_columns    which columns can carry an opt-out
findings           the results of checks
"""
