"""The Dagster instance: opening it for the command line, pruning its history, and SQL on its storage."""
