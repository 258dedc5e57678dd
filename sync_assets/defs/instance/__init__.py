"""The Dagster instance: which one the command line uses, its history, and SQL on its storage."""
