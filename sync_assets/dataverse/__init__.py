"""The Dataverse client: sign-in, change feed, queries, batch writes, metadata, privileges.

client                  metadata and the change feed: start reading here
page_parser             a page of rows as a typed Polars frame, and its tombstones; pure
row_queries             the present values of some rows, by id
batch                   updates of existing rows, many in one request; only opt-outs use them
privileges              what the application user may do with a table
metadata                keys, columns, labels of options
sign_in, app_credential   Entra ID through msal; certificates and federated tokens

Imports neither Campaign, the ledger nor Dagster.
"""
