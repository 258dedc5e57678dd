"""Repositories of records: capture, claim, acknowledge, delete, and re-evaluate by dependencies.

feeds, captures, replays, rebuilds      change feeds and captured rows
claims, acknowledged_links              requests to Campaign and their outcomes
deletions                               deletes, collected and counted before they are carried out
dependency_status, blocked_records      links, parents and children; reports of what waits or is orphaned
privacy_holds, hold_records             privacy holds
"""
