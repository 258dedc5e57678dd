"""Results for systems outside: numbers for a monitoring system.

metrics     what the ledger holds now, as metrics of Prometheus: counts, ages and shares; no ids, no values
"""
