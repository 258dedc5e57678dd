"""Two databases behind one interface: SQLite and PostgreSQL.

database, database_url, database_errors   connections, the URL, and errors in plain words
schema, migrate                           tables, and bringing an older ledger up to date
bulk, bulk_sqlite, bulk_postgres          rows by the thousand
json_rows, copy_rows                      how many rows travel in one statement
"""
