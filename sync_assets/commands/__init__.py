"""Commands of the command line that start Dagster runs, read from both systems, or write the configuration."""
