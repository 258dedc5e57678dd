"""Dagster assets of the mapped tables: `d365/<table>`, `campaign/<resource>` and `campaign/<resource>_audit`.

assets, audit_assets               definitions of the assets
table_run                          the run of a group of linked tables: capture, push, follow changes
checks, ready_check, check_results asset checks and their results
sensors, run_requests, active_runs when a run is requested, and which runs are active
run_results, maintenance_results   metadata and results of a run
asset_keys                         keys of the assets
asset_metadata                     columns, lineage, links, code references
"""
