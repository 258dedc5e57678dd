"""Commands of the command line that start Dagster runs, talk to both systems, or write the configuration."""
