"""Results for systems outside: numbers for a monitoring system, and tables by day.

metrics     what the ledger holds now, as metrics of Prometheus: counts, ages and shares; no ids, no values
days        files of `results`: what is written, written anew and deleted
tables      their rows, as Polars reads them from the ledger
stores      a folder, Amazon S3, Azure Blob Storage
"""
