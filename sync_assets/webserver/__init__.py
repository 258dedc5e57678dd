"""The guard before Dagster's web server: which requests may reach it. Imports neither Dagster nor our flows."""
