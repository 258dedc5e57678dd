"""The run queue that `dagster.yaml` names: Dagster's own, which refuses tags that replace what a run executes.

Dagster's launchers for ECS and Kubernetes read command, image, role and resources of a run from its tags, and the UI
lets its user set any tag. A run has the secrets of both systems: with such a tag it would execute any command with
them. No job of ours has one. Each way to queue a run ends here: the UI, GraphQL, backfills, sensors, schedules.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from sync_assets.errors import SyncAssetsError

REFUSED_PREFIXES = ("ecs/", "dagster-k8s/")
REFUSED = ("dagster/image",)
NOTES_OF_THE_LAUNCHER = ("ecs/task_arn", "ecs/cluster")
"""Dagster's ECS launcher adds them to a run that it started, and a re-execution inherits them. They name the task that
is stopped with the run, and the launcher replaces them."""


class GuardedRunCoordinator(dg.QueuedRunCoordinator):
    """Queues runs as Dagster does, except those with tags that replace command, image, role or resources."""

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Queue a run.

        Raises:
            SyncAssetsError: The run has such a tag. Dagster marks it failed and shows the message.
        """
        if refused := refused_tags(context.dagster_run.tags):
            raise SyncAssetsError(
                f"The run has tags that replace what it executes, or with which resources: {', '.join(refused)}.",
                "Launch it without them; the task definition or the image is the place for such settings.",
            )
        return super().submit_run(context)


def refused_tags(tags: Iterable[str]) -> list[str]:
    """Return the names among those of tags that no run may have, sorted."""
    return sorted(
        tag for tag in tags if (tag.startswith(REFUSED_PREFIXES) or tag in REFUSED) and tag not in NOTES_OF_THE_LAUNCHER
    )
