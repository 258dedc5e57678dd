"""The opt-outs of `sync`: waiting files are consumed in their order, then what else is due, until nothing more moves.

A file that may still be written is waited for, as long as it takes it to settle: somebody who types `sync` expects
what lies there to be done afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from sync_assets.errors import SyncAssetsError
from sync_assets.ingress.assets import table_assets
from sync_assets.ingress.runs import end_killed
from sync_assets.opt_out import files
from sync_assets.opt_out.assets import opt_out_assets, resources
from sync_assets.opt_out.names import EXPORT, attributes, chain
from sync_assets.opt_out.partitions import (
    WORK,
    changes_partition,
    opt_out_files,
    profiles_partition,
    run_tags,
)
from sync_assets.opt_out.polling import poll_is_due
from sync_assets.runtime import Runtime

SETTLING_SECONDS = 240.0
"""How long a file that goes on growing is waited for, beyond the time that it takes to settle."""
LOOK_SECONDS = 1.0
ROUNDS = 20

Execute = Callable[..., None]


def sync_opt_outs(runtime: Runtime, instance: dg.DagsterInstance, execute: Execute) -> None:
    """All flows of opt-outs. What keeps one from running is in `runtime.problems` afterwards."""
    end_killed(instance, WORK)
    assets = [
        *(asset for config in runtime.config.in_link_order for asset in table_assets(config, runtime)),
        *opt_out_assets(runtime),
    ]

    def run(partition: str, keys: list[dg.AssetKey]) -> None:
        instance.add_dynamic_partitions(str(opt_out_files.name), [partition])
        where = {"partition_key": partition}
        execute(runtime, instance, assets, keys, where, run_tags(), resources(runtime))

    steps = chain(runtime.config)
    try:
        _consume_files(runtime, lambda partition: run(partition, [EXPORT, *steps]))
        if poll_is_due(runtime, datetime.now(UTC)):
            run(profiles_partition(datetime.now(UTC)), [EXPORT, *steps])
    except SyncAssetsError as error:
        runtime.problems.append(error)
    _settle(runtime, lambda: run(changes_partition(), steps))


def _consume_files(runtime: Runtime, run: Callable[[str], None]) -> None:
    """Each file that is ready, in their order; one that may still be written is waited for."""
    settle = runtime.config.opt_out.export.settle_seconds
    give_up_at = time.monotonic() + settle + SETTLING_SECONDS
    tried: set[str] = set()
    while True:
        seen = files.look(runtime)
        runtime.warnings.extend(trouble for trouble in seen.troubles if trouble not in runtime.warnings)
        ready = [file for file in seen.ready if file.partition not in tried]
        for file in ready:
            tried.add(file.partition)
            run(file.partition)
            if runtime.problems:
                return  # what kept this one from being taken keeps the others from it, too
        if ready:
            continue  # look again: what is done with is tidied up
        if not seen.unsettled:
            return
        if time.monotonic() > give_up_at:
            names = ", ".join(file.name for file in seen.unsettled)
            runtime.stopped.append(f"{names}: still being written, it seems; left for the next sync.")
            return
        runtime.progress("waiting for files to settle", 0)
        time.sleep(LOOK_SECONDS)


def _settle(runtime: Runtime, run: Callable[[], None]) -> None:
    """Decides and writes what is due, until nothing moves."""
    for _ in range(ROUNDS):
        if runtime.problems:
            return
        before = runtime.ledger.opt_outs_left(attributes(runtime.config))
        if not before.due:
            return
        run()
        if runtime.ledger.opt_outs_left(attributes(runtime.config)) == before:
            return
