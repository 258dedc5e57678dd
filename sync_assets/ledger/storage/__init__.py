"""Database access for the ledger: one interface to SQLite and PostgreSQL.

database, database_url                    connections, transactions, errors with remedies; the URL
schema, opt_out_tables, operation_tables  the tables: of records and feeds, of opt-outs, all others
migrate                                   the upgrade of an older schema
result_rows                               the rows of `results`, and PostgreSQL's views of them
payload_cipher                            the encryption of payloads
session, transaction                      what the repositories share; statements on thousands of records at once
"""
