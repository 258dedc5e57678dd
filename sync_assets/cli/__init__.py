"""The program `sync-assets`: `main`, and a module for each command that starts Dagster, or reads what it stored.

`sync` is in sync.py, its Dagster runs in sync_runs.py, the instance that stores them in instance.py; the other commands
are in `commands`.
"""
