"""The program `sync-assets`: `main`, and a module for each command that starts Dagster, or reads what it stored.

main lists all commands, and ends the program: start reading here. `sync` is in sync.py, its Dagster runs in
sync_runs.py, the instance that stores them in instance.py; the other commands are in `commands`.
"""
