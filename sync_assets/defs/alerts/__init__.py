"""Incidents of the Dagster instance (`dagster_state`), and the sensor `alerts` that notifies."""
