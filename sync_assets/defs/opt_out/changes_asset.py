"""Define the asset `opt_out/changes`: decide and write all opt-outs that are due without an export file."""

# No `from __future__ import annotations`: Dagster reads the annotations of `context` and `config` at run time.

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import dagster as dg

from sync_assets.config.values import CONTACT
from sync_assets.defs.opt_out import opt_out_metadata, run_results
from sync_assets.defs.opt_out.asset_keys import CHANGES
from sync_assets.defs.opt_out.partitions import WORK
from sync_assets.defs.partitions import TABLE_TAG
from sync_assets.defs.resources import OF_TABLES, bound
from sync_assets.defs.run_errors import reported
from sync_assets.defs.tables import asset_metadata
from sync_assets.defs.tables.asset_keys import d365_key
from sync_assets.flows import Outcome
from sync_assets.foreign_text import markdown
from sync_assets.opt_out.changes import Changes
from sync_assets.opt_out.profile_polling import ProfilePoll
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import heartbeat


class ChangesConfig(dg.Config):
    """`poll`: read the profiles that changed since the last poll from Campaign's API now, even if no poll is due."""

    poll: bool = False


def changes_asset(runtime: Runtime, outcome: Outcome | None) -> dg.AssetsDefinition:
    """Define the asset."""
    config, direction = runtime.config, runtime.config.opt_out.direction
    # Depends on all partitions of contacts, since a due opt-out may come from any day. With the last partition only,
    # Dagster would show the asset as unsynced after each run of contacts, even if no opt-out changed.
    contacts = [d365_key(config.table(CONTACT))] if direction == "bidirectional" else []

    @dg.asset(
        key=CHANGES,
        group_name="opt_out",
        deps=contacts,
        kinds={"dynamics365", "adobecampaign"},
        owners=list(config.owners.opt_out),
        metadata=opt_out_metadata.changes(config, Changes.settle),
        tags={"sync/pii": "true"},
        description="Everything that is due without a file: profiles are polled if `poll_profiles_minutes` says so, "
        "then opt-outs are decided and written where the two sides differ (direction "
        f"{direction}). A run writes all that is due; running it again retries what is left. Each decision is kept for "
        "audit.",
        check_specs=[
            dg.AssetCheckSpec(run_results.DECIDED, asset=CHANGES, description=run_results.DECIDED_TEXT),
            dg.AssetCheckSpec(run_results.ACCEPTED, asset=CHANGES, description=run_results.ACCEPTED_TEXT),
        ],
        op_tags={TABLE_TAG: WORK},
        required_resource_keys=OF_TABLES,
    )
    def changes(context: dg.AssetExecutionContext, config: ChangesConfig) -> Iterator[Any]:
        with closing(bound(runtime, context.resources, OF_TABLES)) as its:
            yield from _run_changes(context, its, outcome or Outcome(), poll=config.poll)

    return changes


def _run_changes(context: dg.AssetExecutionContext, runtime: Runtime, outcome: Outcome, *, poll: bool) -> Iterator[Any]:
    audit, calls = (
        DecisionLog(runtime.store, folder_of_changes(datetime.now(UTC)), context.run_id),
        runtime.calls.total(),
    )
    done = Changes(runtime, audit)
    with reported(outcome, context, "run of opt-outs") as failed, heartbeat(runtime, context.run_id):
        done.failed = failed
        interruptible.run(done.settle(poll=poll))
    problems = list(dict.fromkeys(map(str, failed)))
    if done.deciding is None:
        yield dg.AssetCheckResult(
            passed=False, asset_key=CHANGES, check_name=run_results.DECIDED, description=markdown(problems[0])
        )
        raise dg.Failure(" ".join(problems), allow_retries=False)
    refused = runtime.ledger.opt_outs.refused()
    yield dg.MaterializeResult(
        metadata=_metadata(runtime, done) | {"engine_calls": runtime.calls.total() - calls},
        check_results=[
            run_results.everything_due_is_decided(outcome, CHANGES, done.deciding),
            run_results.no_opt_out_is_refused(CHANGES, refused),
        ],
    )
    if problems:
        raise dg.Failure(" ".join(problems), allow_retries=False)
    run_results.stop(outcome, *(one.problem for one in done.written.values()))


def _metadata(runtime: Runtime, done: Changes) -> dict[str, Any]:
    """Return the numbers of a run. Without a poll its numbers are 0, so that the UI's plots have no gaps."""
    polled, left = (
        done.polled or ProfilePoll(),
        runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes),
    )
    return {
        "profiles_read": polled.profiles,
        **run_results.stated_metadata(polled.stated),
        **(run_results.decided_metadata(runtime, done.deciding) if done.deciding else {}),
        **{
            name: number
            for side, one in done.written.items()
            for name, number in run_results.written_metadata(one, side).items()
        },
        "still_due": left.due,
        "held": left.held,
        **run_results.refused_metadata(runtime.ledger.opt_outs.refused()),
        **asset_metadata.links(runtime, runtime.config.table(CONTACT)),
    }
