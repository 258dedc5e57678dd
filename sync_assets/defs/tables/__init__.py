"""The assets of the mapped tables: `d365/<table>`, `campaign/<resource>` and its audit.

assets, audit_assets               the assets
table_run                          a run of linked tables: captures, sends, and stays while changes keep coming
checks, ready_check, check_results asset checks, and their answers
sensors, run_requests, active_runs when a run starts, and which runs live
run_results, maintenance_results   what a run reports
asset_metadata                     columns, lineage, owners
"""
