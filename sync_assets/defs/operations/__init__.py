"""Dagster jobs for operators. Each calls the same function as the command of the same name."""
