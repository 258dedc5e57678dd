"""Define the job `follow`: one op without assets, so that nothing is planned and shown as in progress."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from typing import Any

import dagster as dg

from sync_assets.defs.partitions import add_tags, installation_tags
from sync_assets.defs.resources import OF_TABLES, bound, resource_names, systems
from sync_assets.defs.run_errors import failing
from sync_assets.ledger.model import FOLLOWER
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime


def follow_job(runtime: Runtime) -> Any:
    """Return the job. Its run is requested by the sensor `d365_changes`."""
    named = runtime.installation.named
    text = "Follows the changes of all tables, captures and sends them as they come, and reports what changed."

    @dg.op(
        name=named("follow_changes"),
        description=text,
        out=dg.Out(dg.Nothing),
        required_resource_keys=resource_names(runtime, OF_TABLES),
    )
    def follow_changes(context: dg.OpExecutionContext) -> None:
        from sync_assets.defs.follower.follower import Follower  # noqa: PLC0415 - other runs need not wait for it

        with bound(runtime, context.resources, OF_TABLES) as run_runtime, failing("follower"):
            add_tags(context, run_runtime)
            with run_runtime.worker.heartbeat(context.run_id, [FOLLOWER]):
                why = interruptible.run(Follower(context, run_runtime).follow())
            context.log.info(f"The run ends: {why}")

    return dg.GraphDefinition(name=named("follow"), node_defs=[follow_changes]).to_job(
        name=named("follow"),
        description=text,
        # Bound here, since Dagster else makes sensors that request the job anew, with a warning at each load.
        resource_defs={**systems(runtime.environment, runtime.installation)},
        executor_def=dg.in_process_executor,
        tags=installation_tags(runtime),
    )
