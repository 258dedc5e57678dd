"""Results for systems and people outside: numbers for a monitoring system, tables by day, and a page with plots.

report_page the daily report's sections for 30 days, as one HTML file; report_page.html is its frame
metrics     what the ledger holds now, as metrics of Prometheus, without ids and values: start reading here
days        files of `results`: what is written, written anew and deleted
tables      their rows, as Polars reads them from the ledger
stores      a folder, Amazon S3, Azure Blob Storage
"""
