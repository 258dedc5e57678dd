"""Database access for the ledger: one interface to SQLite and PostgreSQL.

database, database_url, database_errors   connections and transactions, the URL, and errors with remedies
schema, migrate                           the tables, and the upgrade of an older schema
bulk, bulk_sqlite, bulk_postgres          statements on thousands of records at once
json_rows, copy_rows                      the encoding of many new rows for one statement
"""
