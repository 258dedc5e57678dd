"""Dagster assets of the mapped tables: `d365/<table>`, `campaign/<resource>` and `campaign/<resource>_audit`.

assets, audit_assets               definitions of the assets
table_run                          the run of a group of linked tables: capture, push, follow changes
table_work                         the result of a run for a table; its reports
checks                             how the checks are evaluated
sensors                            when a run is requested: for changes, for pending records
run_requests                       requests with a backoff; which runs are active
asset_metadata                     columns, lineage, links, code references
"""
