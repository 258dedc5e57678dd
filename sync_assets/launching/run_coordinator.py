"""The run queue that `dagster.yaml` names: Dagster's own, which refuses runs that could obtain secrets.

Dagster's launchers for ECS and Kubernetes read command, image, role and resources of a run from its tags, and the UI
lets its user set any tag. A run has the secrets of both systems: with such a tag it would execute any command with
them. No job of ours has one.

The configuration of a run may replace the address of a system, to which the run would then send the secret of that
system. It may also name an environment variable (`{env: NAME}`), whose value an error or a log could show.

Each way to queue a run ends here: the UI, GraphQL, backfills, sensors, schedules.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from sync_assets.errors import SyncAssetsError

REFUSED_PREFIXES = ("ecs/", "dagster-k8s/")
LAUNCHER_TAGS = ("ecs/task_arn", "ecs/cluster")
"""Dagster's ECS launcher adds them to a run that it started, and a re-execution inherits them. They name the task that
is stopped with the run, and the launcher replaces them. The launcher for Kubernetes adds `dagster/image`, which none of
the launchers reads, so that it is not refused either."""


PREFIXES = {
    "dynamics_365": "D365_",
    "campaign_standard": "CAMPAIGN_",
    "campaign_sftp": "CAMPAIGN_SFTP_",
    "ledger": "SYNC_ASSETS_LEDGER_",
}
"""Of the environment variables of each resource, as in `defs/resources.py`, which takes long to import."""


class GuardedRunCoordinator(dg.QueuedRunCoordinator):
    """Queues runs as Dagster does, except those that could obtain secrets: by their tags or configuration."""

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Queue a run.

        Raises:
            SyncAssetsError: The run has such a tag or setting. Dagster marks it failed and shows the message.
        """
        if refused := refused_tags(context.dagster_run.tags):
            raise SyncAssetsError(
                f"The run has tags that replace what it executes, or with which resources: {', '.join(refused)}.",
                "Launch it without them; the task definition or the image is the place for such settings.",
            )
        if refused := refused_settings(context.dagster_run.run_config):
            raise SyncAssetsError(
                f"The run's configuration replaces a resource or names an environment variable: {', '.join(refused)}.",
                "Launch it without them; addresses and secrets come from the environment of the code location.",
            )
        return super().submit_run(context)


def refused_tags(tags: Iterable[str]) -> list[str]:
    """Return the names among those of tags that no run may have, sorted."""
    return sorted(tag for tag in tags if tag.startswith(REFUSED_PREFIXES) and tag not in LAUNCHER_TAGS)


def refused_settings(config: Mapping[str, Any]) -> list[str]:
    """Return the paths of settings in a run's configuration that no run may have, sorted.

    A field of a resource may name its own variable, which is its default, or be empty.
    """
    return sorted({".".join(path) for path, value in _leaves(config) if not _harmless(path, value)})


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each value that is no mapping or list, and each reference to a variable, with the path of its keys."""
    if isinstance(value, Mapping) and set(value) != {"env"}:
        for key, child in value.items():
            yield from _leaves(child, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _leaves(child, path)
    else:
        yield path, value


def _harmless(path: tuple[str, ...], value: Any) -> bool:
    if path[:1] != ("resources",):
        return not isinstance(value, Mapping)
    if value in ("", None):
        return True
    match path:
        case (_, name, "config", field) if kind := next((known for known in PREFIXES if name.endswith(known)), ""):
            variable = value.get("env") if isinstance(value, Mapping) else ""
            # An installation with a name may have variables with a prefix.
            own = str(variable).endswith(f"_{PREFIXES[kind]}{field.upper()}") and name != kind
            return own or variable == PREFIXES[kind] + field.upper()
        case _:
            return False
