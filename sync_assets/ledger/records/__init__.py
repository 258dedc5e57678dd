"""Repositories of records: capture, claim, acknowledge, delete, and re-evaluate by dependencies.

feeds, captures, captured_rows          change feeds and captured pages
replays, rebuilds, audits               rows and records that are read or compared again
claims                                  requests to Campaign and their outcomes
deletions, emptied_columns              deletes and emptied values, counted before they are carried out
stored_links, dependency_status         links, parents and children
blocked_records                         reports of records that wait or are orphaned
privacy_holds, hold_records             privacy holds
targets                                 a change of a table's resource or key
"""
