"""Call the assets of a run of `sync` one after the other, without the engine of Dagster that plans and records a run.

The engine takes half of the processor time of a `sync` of a few records. All that is ours in a run is executed: flows,
checks, errors, heartbeats. Left out are the plan, the resources and the events; tests of those, and of
what a run leaves in Dagster, set `Program.dagster`.
"""

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from sync_assets.cli import replay, sync_runs
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import RunOutcome
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.lazy_instance import lazy_instance

_LOG = logging.getLogger(__name__)
_LOG.propagate = False
_LOG.addHandler(logging.NullHandler())
CHECKS: dict[dg.AssetKey, dict[str, dg.AssetCheckResult]] = {}
"""The results of the last run of each asset in this process, by the check's name."""
_ENVIRONMENT = SimpleNamespace(environment=dict)
"""A resource that leaves the runtime's own environment as it is."""


@contextmanager
def plain_runs() -> Iterator[None]:
    """Let the commands that a test calls in this process call the assets, with a Dagster in memory beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_runs, "execute", execute)
        for module in (sync_runs, replay):
            patch.setattr(module, "dagster_instance", lazy_instance)
        yield


def execute(
    runtime: Runtime,
    outcome: RunOutcome,
    instance: dg.DagsterInstance,
    assets: Sequence[dg.AssetsDefinition],
    request: dg.RunRequest,
) -> None:
    """Stand in for `sync_runs.execute`. An error that an asset does not catch is raised."""
    run_id, partition, tags = str(uuid.uuid4()), request.partition_key, request.tags
    try:
        for asset in assets:  # what an asset depends on stands before it
            keys = asset.keys & set(request.asset_selection or ())
            if not keys:
                continue
            context = SimpleNamespace(
                run_id=run_id, run=SimpleNamespace(run_id=run_id, tags=tags), instance=instance, log=_LOG,
                partition_key=partition, partition_keys=[partition], selected_asset_keys=keys,
                selected_asset_check_keys={key for key in asset.check_keys if key.asset_key in keys},
                resources=SimpleNamespace(**dict.fromkeys(asset.required_resource_keys, _ENVIRONMENT)),
                add_asset_metadata=lambda *_, **__: None,
            )  # fmt: skip
            function: Any = asset.op.compute_fn
            given: dict[str, Any] = {}
            if function.has_config_arg():
                given["config"] = function.get_config_arg().annotation()
            CHECKS.update({key: {} for key in keys})
            for result in function.decorated_fn(context, **given):
                checked = [result] if isinstance(result, dg.AssetCheckResult) else getattr(result, "check_results", ())
                for one in checked:
                    CHECKS[one.asset_key or next(iter(keys))][str(one.check_name)] = one
    except dg.Failure:
        if not (outcome.problems or outcome.stopped):
            outcome.problems.append(SyncAssetsError(f"The Dagster run {run_id} failed."))  # without the cause, as there
