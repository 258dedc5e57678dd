"""Results for systems and people outside: numbers for a monitoring system, and a page with plots.

report_page the daily report's sections for 30 days, as one HTML file; report_page.html is its frame
metrics     what the ledger holds now, as metrics of Prometheus: counts, ages and shares; no ids, no values
"""
