"""The assets of opt-outs: a file (or a poll of profiles) becomes rows, rows become decisions, decisions are written.

Thin: each runs one flow and shows its numbers. The first one stands in export_asset.py.
"""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import dagster as dg

from sync_assets import interruptible
from sync_assets.errors import SyncAssetsError
from sync_assets.ingress import quality, shown
from sync_assets.ingress.heartbeat import heartbeat
from sync_assets.ingress.preflight import findings_of
from sync_assets.ingress.shown import d365_key
from sync_assets.ingress.target import CONTACT
from sync_assets.ledger import Reject
from sync_assets.ledger.opt_out_files import POLL, FileState, OptOutFile
from sync_assets.ledger.opt_out_rules import Stated
from sync_assets.ledger.reasons import kind_of_reason
from sync_assets.opt_out import files, pages, taking
from sync_assets.opt_out.applying import TO_CAMPAIGN, TO_D365, Applied, write_campaign, write_d365
from sync_assets.opt_out.audit import Audit
from sync_assets.opt_out.columns import OPT_OUT_CHECKS
from sync_assets.opt_out.decide import decide
from sync_assets.opt_out.deciding import Deciding
from sync_assets.opt_out.export_asset import SHOWN, export_asset, stop
from sync_assets.opt_out.export_file import time_in_name
from sync_assets.opt_out.io_manager import ParquetParts
from sync_assets.opt_out.names import (
    CONTACT_OPT_OUT,
    DECISIONS,
    EXPORT,
    PARQUET,
    PROFILE_OPT_OUT,
    REJECTED,
    active,
    attributes,
)
from sync_assets.opt_out.parties import Parties, parties
from sync_assets.opt_out.partitions import WORK, opt_out_files, poll_of
from sync_assets.opt_out.store import Gone, Parts, prune
from sync_assets.partitions import TABLE_TAG
from sync_assets.run_errors import told
from sync_assets.runtime import Runtime

ACCEPTED = "no_opt_out_is_refused"
DECIDED = "everything_due_is_decided"


def resources(runtime: Runtime) -> dict[str, Any]:
    return {PARQUET: ParquetParts(lambda: runtime.store)}


def opt_out_assets(runtime: Runtime) -> list[dg.AssetsDefinition]:
    if not active(runtime.config):
        return []
    assets = [export_asset(runtime), _decisions(runtime), _contact_opt_out(runtime)]
    return [*assets, _profile_opt_out(runtime)] if runtime.config.opt_out.direction == "bidirectional" else assets


def _decisions(runtime: Runtime) -> dg.AssetsDefinition:
    contact = runtime.config.table(CONTACT)
    changes = dg.AssetDep(d365_key(contact), partition_mapping=dg.LastPartitionMapping())
    both = runtime.config.opt_out.direction == "bidirectional"

    @dg.asset(
        key=DECISIONS,
        group_name="opt_out",
        partitions_def=opt_out_files,
        ins={"rows": dg.AssetIn(key=EXPORT, input_manager_key=PARQUET)},
        deps=[changes] if both else [],
        kinds={"polars", "parquet"},
        owners=list(runtime.config.owners.opt_out),
        metadata=pages.decisions(runtime.config, decide),
        description="What is decided of each opt-out that may differ: both values, both times, the value that both "
        "sides are to hold, why, and which side is written (direction "
        f"{runtime.config.opt_out.direction}). Kept for audit.",
        check_specs=[
            dg.AssetCheckSpec(name, asset=DECISIONS, blocking=True, description=text)
            for name, (_, text) in OPT_OUT_CHECKS.items()
        ]
        + [dg.AssetCheckSpec(DECIDED, asset=DECISIONS, description="Campaign could be asked where it has to be.")],
        op_tags={TABLE_TAG: WORK},
    )
    def decisions(context: dg.AssetExecutionContext, rows: Parts) -> Iterator[Any]:
        with closing(runtime):
            yield from _decide(context, rows)

    def _decide(context: dg.AssetExecutionContext, rows: Parts) -> Iterator[Any]:
        partition = context.partition_key
        audit, calls = Audit(runtime.store, partition, context.run_id), runtime.calls.total()
        with told(runtime, context, f"decision of {partition}") as failed, heartbeat(runtime, context.run_id):
            stated = _state(runtime, partition, rows)
            deciding, told_of = interruptible.run(_all_decided(runtime, audit))
        if failed:
            yield from _findings(failed[0])
            raise dg.Failure(str(failed[0]), allow_retries=False)
        left = runtime.ledger.opt_outs_left(attributes(runtime.config))
        yield dg.MaterializeResult(
            metadata={
                "dagster/partition_row_count": told_of,
                "decisions": told_of,
                **{f"stated_{kind}": stated[kind] for kind in get_args(Stated)},
                "to_d365": left.to_d365,
                "to_campaign": left.to_campaign,
                "held": left.held,
                "engine_calls": runtime.calls.total() - calls,
                "by_reason": quality.table(
                    ("reason", "side written", "records"),
                    [(reason, side, number) for (reason, side), number in audit.reasons.most_common()],
                ),
                "audit": audit.url,
                **shown.links(runtime, contact),
            },
            check_results=[
                dg.AssetCheckResult(passed=True, asset_key=DECISIONS, check_name=name, description=text)
                for name, (_, text) in OPT_OUT_CHECKS.items()
            ]
            + [_all_due_is_decided(runtime, deciding)],
        )

    return decisions


def _all_due_is_decided(runtime: Runtime, deciding: Deciding) -> dg.AssetCheckResult:
    """Fails while something has to wait for Campaign. The run goes on: what is decided is to be written."""
    text = "Everything that was due is decided."
    if deciding.unanswered:
        text = f"Campaign could not be asked about {deciding.unanswered:,} contacts; their opt-outs stay due."
        runtime.stopped.append(f"{text} {deciding.problem or ''}".strip())
    return dg.AssetCheckResult(
        passed=not deciding.unanswered,
        asset_key=DECISIONS,
        check_name=DECIDED,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{text} {deciding.problem or ''}".strip(),
        metadata={"unanswered": deciding.unanswered},
    )


def _state(runtime: Runtime, partition: str, rows: Parts) -> Counter[Stated]:
    """What the partition says, into the ledger. Of a file that is done with nothing is left to do after that. Raises
    SyncAssetsError if nobody has read what it says: a file must not count as done, nor a poll as made, for that."""
    ledger, poll = runtime.ledger, poll_of(partition)
    file = None if poll else files.find(runtime, partition)
    unread = not runtime.store.published(EXPORT.path, partition)
    if unread and (poll or (file and file.state != FileState.DONE)):
        raise SyncAssetsError(
            f"The rows of {partition} have not been read yet.", f"Materialise {EXPORT.to_user_string()} along with it."
        )
    moment = poll or (file and _written_at(file))
    if moment is None:
        return Counter()  # changes in Dynamics 365; or a file that the ledger knows no more, and was taken long ago
    try:
        stated = taking.state(ledger, rows, attributes(runtime.config), partition, moment)
    except Gone:  # another run has read the same file at the same time
        stated = taking.state(ledger, rows.anew(), attributes(runtime.config), partition, moment)
    if file and file.state != FileState.DONE:
        rejected = Parts(runtime.store, REJECTED, [partition]).rows
        counts = {"files_processed": 1, "rejected_rows": rejected}
        ledger.file_done(file, counts)
        runtime.opt_outs.update(counts)
        _forget_copies(runtime)
    elif poll:
        last = ledger.last_noted(POLL)
        ledger.note(POLL, poll)
        if last is None or last.date() < poll.date():  # daily: it looks at all partitions that there are
            _forget_copies(runtime)
    return stated


def _forget_copies(runtime: Runtime) -> None:
    """Copies of what was read are kept as long as the files; decisions are kept for good."""
    long_ago = datetime.now(UTC) - timedelta(days=runtime.config.opt_out.export.keep_days)
    for asset in (EXPORT.path, REJECTED):
        prune(runtime.store, asset, long_ago)


def _written_at(file: OptOutFile) -> datetime:
    """When the file speaks, at the latest: the name's time may be that of another zone, and what it says must not
    become newer by it than anything that happened since."""
    return min(time_in_name(file.name) or file.modified, file.modified, datetime.now(UTC))


async def _all_decided(runtime: Runtime, audit: Audit) -> tuple[Deciding, int]:
    async with parties(runtime) as both:
        deciding, number = Deciding(both), 0
        async for frame in deciding.decisions():
            await asyncio.to_thread(audit.keep, frame)
            number += frame.height
            runtime.progress("deciding opt-outs", number)
        return deciding, number


def _findings(error: SyncAssetsError) -> Iterator[dg.AssetCheckResult]:
    for finding in findings_of(error):
        yield dg.AssetCheckResult(
            passed=finding.passed, asset_key=DECISIONS, check_name=finding.check, description=finding.message
        )


def _contact_opt_out(runtime: Runtime) -> dg.AssetsDefinition:
    return _writes(
        runtime,
        CONTACT_OPT_OUT,
        "Opt-outs of contacts in Dynamics 365, as decided: written where they differ, never where they agree.",
        {"dynamics365"},
        pages.contact_opt_out(runtime.config, write_d365),
        write_d365,
    )


def _profile_opt_out(runtime: Runtime) -> dg.AssetsDefinition:
    return _writes(
        runtime,
        PROFILE_OPT_OUT,
        "Opt-outs of profiles in Campaign, as decided: written where they differ, never where they agree.",
        {"adobecampaign"},
        pages.profile_opt_out(runtime.config, write_campaign),
        write_campaign,
    )


def _writes(
    runtime: Runtime,
    key: dg.AssetKey,
    description: str,
    kinds: set[str],
    page: Mapping[str, Any],
    write: Callable[[Parties], Any],
) -> dg.AssetsDefinition:
    @dg.asset(
        key=key,
        group_name="opt_out",
        partitions_def=opt_out_files,
        deps=[DECISIONS],
        kinds=kinds,
        owners=list(runtime.config.owners.opt_out),
        metadata=page,
        tags={"sync/pii": "true"},
        description=f"{description} A run writes all that is due; running it again retries what is left.",
        check_specs=[dg.AssetCheckSpec(ACCEPTED, asset=key, description="No opt-out stands refused.")],
        op_tags={TABLE_TAG: WORK},
    )
    def written(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with closing(runtime):
            yield from _write(context)

    async def _all_written() -> Applied:
        async with parties(runtime) as both:
            return await write(both)

    def _write(context: dg.AssetExecutionContext) -> Iterator[Any]:
        calls = runtime.calls.total()
        with told(runtime, context, f"writing of {key.to_user_string()}") as failed, heartbeat(runtime, context.run_id):
            done = interruptible.run(_all_written())
        if failed:
            raise dg.Failure(str(failed[0]), allow_retries=False)
        runtime.opt_outs[TO_D365 if key == CONTACT_OPT_OUT else TO_CAMPAIGN] += done.written
        side = "Dynamics 365: " if key == CONTACT_OPT_OUT else "Campaign: "
        refused = [one for one in runtime.ledger.refused_opt_outs() if side in one.reason]
        yield dg.MaterializeResult(
            metadata={
                "written": done.written,
                "held_already": done.already,
                "to_be_decided_again": done.again,
                "refused": done.refused,
                "no_longer_there": done.gone,
                "unanswered": done.unanswered,
                "engine_calls": runtime.calls.total() - calls,
                **({"refused_by_reason": quality.table(("reason", "records"), _reasons(refused))} if refused else {}),
                **shown.links(runtime, runtime.config.table(CONTACT)),
            },
            check_results=[_accepted(key, refused)],
        )
        stop(runtime, done.problem)

    return written


def _reasons(refused: Sequence[Reject]) -> list[tuple[str, int]]:
    return Counter(kind_of_reason(one.reason) for one in refused).most_common(SHOWN)


def _accepted(key: dg.AssetKey, refused: Sequence[Reject]) -> dg.AssetCheckResult:
    text = "No opt-out stands refused."
    if refused:
        text = (
            f"{len(refused):,} opt-outs stand refused. See `sync-assets rejects`; put right what is wrong, then "
            "`sync-assets retry contact`."
        )
    return dg.AssetCheckResult(
        passed=not refused,
        asset_key=key,
        check_name=ACCEPTED,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"refused": len(refused)},
    )
