"""Dataverse: sign-in, change feed, queries, metadata, writes. Knows nothing of Campaign, the ledger or Dagster."""
