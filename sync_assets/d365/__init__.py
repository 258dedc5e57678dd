"""Dataverse: sign-in, change feed, queries, metadata, writes.

client       metadata and the change feed: start reading here
pages        a page as it comes -> a typed Polars frame, deletions apart; pure
rows         the present state of some rows, asked for by id
rights       what the application user may do with a table
batch, batch_answer   writes, many in one request; only columns of rows that exist, and only opt-outs use it
metadata, sign_in     keys, columns, labels of options; Entra ID through msal

Knows nothing of Campaign, the ledger or Dagster.
"""
