"""Campaign Standard: sign-in, records, metadata, the dialect of its errors.

Knows nothing of D365, the ledger or Dagster.
"""
