"""Classes that a `dagster.yaml` names: the run coordinator, and the run launcher of an earlier version."""
