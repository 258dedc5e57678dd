"""The run launcher that a `dagster.yaml` of an earlier version names: Dagster's own, with a note."""
