"""Repositories of records: capture, claim, acknowledge, delete, and what a record's dependencies allow.

feeds, captures, replays, rebuilds                  rows in
claims, acknowledged_links                          requests out, and their answers
deletions, cascading_deletes                        deletes, counted beforehand
dependency_status, blocked_records                  parents, children, and what waits for what
holds, hold_records                                 privacy holds
"""
