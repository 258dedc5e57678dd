"""Dagster assets of the mapped tables: `d365/<table>`, `campaign/<resource>` and `campaign/<resource>_audit`.

assets, audit_assets               definitions of the assets
table_run                          an asset run of a group of linked tables: capture and push until nothing is due
table_work                         captures and pushes of a table, for an asset run and for the follower
checks                             how the checks are evaluated
sensors                            when a run is requested: for first loads, for the follower
run_requests                       requests; which runs are active, and which changed a record
attempts                           when work that makes no progress is tried again
asset_metadata                     columns, lineage, links, code references
"""
