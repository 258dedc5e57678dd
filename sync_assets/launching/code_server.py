"""Which calls the code server answers: the guard before Dagster's gRPC, which has no log-in of its own.

A caller describes the Dagster instance by classes and their configuration. Dagster imports these classes, resolves
`{env: NAME}` in the configuration, and connects to where it leads: any caller could read the environment, and have a
module of its choice executed. Here the instance is the code server's own, whatever a caller names.

Invariant: a call that Dagster adds in a later version is refused until it is listed here.
"""

from typing import Any

import dagster as dg

from sync_assets.launching.run_coordinator import refused_settings, refused_tags

WITHOUT_INSTANCE = frozenset({
    *("Ping", "Heartbeat", "StreamingPing", "GetServerId", "GetCurrentImage", "GetCurrentRuns", "ReloadCode"),
    *("ListRepositories", "ExternalRepository", "StreamingExternalRepository", "ExternalJob"),
    *("ExternalPartitionNames", "ExternalPipelineSubsetSnapshot", "CancelExecution", "CanCancelExecution"),
})  # fmt: skip
"""Calls that web server and daemon need, and that neither take an instance nor resolve configuration."""

WITH_INSTANCE = frozenset({
    *("ExecutionPlanSnapshot", "ExternalPartitionConfig", "ExternalPartitionTags"),
    *("ExternalPartitionSetExecutionParams", "ExternalScheduleExecution", "SyncExternalScheduleExecution"),
    *("ExternalSensorExecution", "SyncExternalSensorExecution", "StartRun"),
})  # fmt: skip
"""Calls that take the caller's instance; None stands for that of the code server."""


def refusal_of_call(instance: dg.DagsterInstance, call: str, arguments: Any) -> str | None:
    """Return why a call is refused, None if it is answered. The text quotes nothing of the call.

    Args:
        instance: Of the code server.
        call: Name of the method in Dagster's gRPC service.
        arguments: Dagster's object with the caller's description of the instance, the configuration that the call
            resolves, and the id of the run that it starts; it may lack each. None for a call of WITHOUT_INSTANCE.
    """
    if call in WITHOUT_INSTANCE:
        return None
    if call not in WITH_INSTANCE:
        return f"Refused by sync_assets: neither web server nor daemon need the call {call}."
    if getattr(arguments, "instance_ref", None) not in (None, instance.get_ref()):
        return (
            "Refused by sync_assets: the caller's Dagster instance is not that of the code server. Give web "
            "server, daemon and code server the same DAGSTER_HOME path and the same dagster.yaml."
        )
    if refused_settings(getattr(arguments, "run_config", None) or {}):
        return (
            "Refused by sync_assets: the configuration replaces a resource or names an environment variable. "
            "Addresses and secrets come from the environment of the code location."
        )
    # Runs that the queue would refuse: who can write to Dagster's database need not pass it.
    run = instance.get_run_by_id(getattr(arguments, "run_id", None) or "") if call == "StartRun" else None
    if run and (refused_tags(run.tags) or refused_settings(run.run_config)):
        return "Refused by sync_assets: the run has tags or settings with which no run may start."
    return None
