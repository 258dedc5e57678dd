"""Repositories of all but records.

sessions                                    workers, and the Dagster runs that they work on
opt_outs, opt_out_rows, opt_out_decisions   opt-outs, their stored rows, and decisions for audit
opt_out_files                               export files
merged_contacts                             opt-outs of merged contacts
notes                                       facts of several kinds, the two systems, mappings in use
call_limits, leases, maintenance            limits of engine calls; work of one session; tables in maintenance
record_history                              the requests for each record
reports, stored_records                     totals and lists; single records for `explain`
results                                     rows for others by day, without ids of records that are gone
"""
