"""`explain`: one record from end to end, with the Dagster runs that changed it."""

from __future__ import annotations

from sync_assets.defs.instance.command_line import dagster_instance, has_history
from sync_assets.defs.operations.record_runs import add_runs
from sync_assets.operations.explain import Explained
from sync_assets.operations.explain import explain as run
from sync_assets.runtime.context import Runtime


def explain(runtime: Runtime, given: str, table: str | None, *, show_values: bool) -> Explained:
    """Explain a record, see operations/explain.py. Creates no Dagster instance where there is none."""
    explained = run(runtime, given, table, show_values=show_values)
    if any(explained.moments.values()) and has_history():
        with dagster_instance() as instance:
            add_runs(explained, instance)
    return explained
