"""Which calls the code server answers: the guard before Dagster's gRPC, which has no log-in of its own.

A caller describes the Dagster instance by classes and their configuration. Dagster imports these classes, resolves
`{env: NAME}` in the configuration, and connects to where it leads: any caller could read the environment, and have a
module of its choice executed. Here the instance is the code server's own, whatever a caller names.

Invariant: a call that Dagster adds in a later version is refused until it is listed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class RemoteCall:
    """A call of the code server, before it is answered.

    Attributes:
        name: Of the method in Dagster's gRPC service.
        instance_ref: The caller's description of the Dagster instance; None if the call has none.
        run_config: The configuration that the call resolves.
        run_id: The run that the call starts; None if it has none.
    """

    name: str
    instance_ref: Any = None
    run_config: Mapping[str, Any] | None = None
    run_id: str | None = None


class CodeServerGuard:
    """Decides which calls are answered."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def refusal(self, call: RemoteCall) -> str | None:
        """Return why a call is refused, None if it is answered. The text quotes nothing of the call."""
        if call.name in WITHOUT_INSTANCE:
            return None
        if call.name not in WITH_INSTANCE:
            return f"Refused by sync_assets: neither web server nor daemon need the call {call.name}."
        if call.instance_ref is not None and call.instance_ref != self._instance.get_ref():
            return (
                "Refused by sync_assets: the caller's Dagster instance is not that of the code server. Give web "
                "server, daemon and code server the same DAGSTER_HOME path and the same dagster.yaml."
            )
        if refused_settings(call.run_config or {}):
            return (
                "Refused by sync_assets: the configuration replaces a resource or names an environment variable. "
                "Addresses and secrets come from the environment of the code location."
            )
        return self._refusal_to_start(call.run_id) if call.name == "StartRun" else None

    def _refusal_to_start(self, run_id: str | None) -> str | None:
        """Runs that the queue would refuse: who can write to Dagster's database need not pass it."""
        run = self._instance.get_run_by_id(run_id or "")
        if run and (refused_tags(run.tags) or refused_settings(run.run_config)):
            return "Refused by sync_assets: the run has tags or settings with which no run may start."
        return None
