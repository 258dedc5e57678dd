"""The assets of opt-outs: a file (or a poll of profiles) becomes rows, rows become decisions, decisions are written.

Thin: each runs one flow and shows its numbers. There are none while opt-outs are disabled, and none in direction
d365_to_campaign, where they are fields of the contact like any other.
"""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from sync_assets.config import Config
from sync_assets.config_opt_out import WRITES_D365
from sync_assets.errors import SyncAssetsError
from sync_assets.ingress import quality
from sync_assets.ingress.assets import d365_key
from sync_assets.ingress.preflight import findings_of
from sync_assets.ingress.target import CONTACT
from sync_assets.ledger import Reject
from sync_assets.ledger.opt_out_files import POLL, FileState
from sync_assets.ledger.opt_out_rules import Stated
from sync_assets.opt_out import files, taking
from sync_assets.opt_out.applying import TO_CAMPAIGN, TO_D365, Applied, write_campaign, write_d365
from sync_assets.opt_out.audit import DECISIONS, Audit
from sync_assets.opt_out.columns import OPT_OUT_CHECKS
from sync_assets.opt_out.deciding import Deciding
from sync_assets.opt_out.export_file import BadExport, time_in_name
from sync_assets.opt_out.io_manager import ParquetParts
from sync_assets.opt_out.parties import Parties, parties
from sync_assets.opt_out.partitions import CHANGES, WORK, opt_out_files, poll_of
from sync_assets.opt_out.store import Parts
from sync_assets.partitions import TABLE_TAG
from sync_assets.run_errors import told
from sync_assets.runtime import Runtime
from sync_assets.sftp import FileGone

EXPORT = dg.AssetKey(["campaign", "opt_out_export"])
CONTACT_OPT_OUT = dg.AssetKey(["d365", "contact_opt_out"])
PROFILE_OPT_OUT = dg.AssetKey(["campaign", "profile_opt_out"])
REJECTED = ("campaign", "opt_out_rejected_rows")
"""Where rows that are not valid are kept, beside the assets."""

READABLE = "the_file_can_be_read"
VALID = "every_row_is_valid"
ACCEPTED = "no_opt_out_is_refused"
PARQUET = "opt_out_parquet"
SHOWN = 20


def active(config: Config) -> bool:
    """Whether there are flows of opt-outs."""
    return config.opt_out.direction in WRITES_D365


def attributes(config: Config) -> list[str]:
    return [mapping.to for mapping in config.opt_out.mappings.values()]


def chain(config: Config) -> list[dg.AssetKey]:
    """The assets after the file's, in their order."""
    keys = [DECISIONS, CONTACT_OPT_OUT]
    return [*keys, PROFILE_OPT_OUT] if config.opt_out.direction == "bidirectional" else keys


def resources(runtime: Runtime) -> dict[str, Any]:
    return {PARQUET: ParquetParts(lambda: runtime.store)}


def opt_out_assets(runtime: Runtime) -> list[dg.AssetsDefinition]:
    if not active(runtime.config):
        return []
    assets = [_export(runtime), _decisions(runtime), _contact_opt_out(runtime)]
    return [*assets, _profile_opt_out(runtime)] if runtime.config.opt_out.direction == "bidirectional" else assets


def _export(runtime: Runtime) -> dg.AssetsDefinition:
    export = runtime.config.opt_out.export
    expected = timedelta(hours=export.expected_every_hours)

    @dg.asset(
        key=EXPORT,
        group_name="opt_out",
        partitions_def=opt_out_files,
        io_manager_key=PARQUET,
        kinds={"adobecampaign", "sftp", "parquet"},
        description="Opt-outs as Campaign states them: the validated rows of a file of the Campaign SFTP "
        f"(`{export.directory}/{export.pattern}`), or those of the profiles that a poll through the API found changed.",
        check_specs=[
            dg.AssetCheckSpec(
                READABLE, asset=EXPORT, blocking=True, description="The file is whole, has its columns, and times."
            ),
            dg.AssetCheckSpec(
                VALID, asset=EXPORT, description="No row was left out because something is wrong with it."
            ),
        ],
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=max(expected * 1.25, timedelta(minutes=2)), warn_window=max(expected, timedelta(minutes=1))
        ),
        op_tags={TABLE_TAG: WORK},
    )
    def export_rows(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with closing(runtime), tempfile.TemporaryDirectory(prefix="sync_assets_") as folder:
            yield from _take(context, taking.Spool(Path(folder)))

    def _take(context: dg.AssetExecutionContext, spool: taking.Spool) -> Iterator[Any]:
        partition = context.partition_key
        with told(runtime, context, f"reading of {partition}") as failed:
            taken = _taken(runtime, partition, spool)
        if failed:
            raise dg.Failure(str(failed[0]), allow_retries=False)
        if not isinstance(taken, taking.Taken):
            # A file of no use, or one that is not what it was a moment ago, keeps no other one back.
            yield dg.AssetCheckResult(passed=False, asset_key=EXPORT, check_name=READABLE, description=str(taken))
            context.log.error(str(taken))
            _stop(runtime, f"{partition}: {taken}")
            return
        _keep_rejected(runtime, partition, context.run_id, spool)
        yield dg.Output(spool.frames(taking.GOOD), metadata=_taken_metadata(taken))
        yield dg.AssetCheckResult(
            passed=not taken.warnings,
            asset_key=EXPORT,
            check_name=READABLE,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(taken.warnings) or "It could be read.",
        )
        yield _valid(runtime, partition, taken, spool)

    return export_rows


def _taken(runtime: Runtime, partition: str, spool: taking.Spool) -> taking.Taken | BadExport | FileGone:
    if poll_of(partition):
        return taking.spool_profiles(runtime, spool)
    if partition.startswith(f"{CHANGES}@"):
        raise SyncAssetsError(
            "This partition stands for changes in Dynamics 365, there is no file of it.",
            "Materialise opt_out/decisions and what follows from it.",
        )
    file = files.find(runtime, partition)
    if file is None:
        raise SyncAssetsError(
            f"No file of this partition ({partition}) is known.", "It was removed from the SFTP, or never stood there."
        )
    try:
        return taking.spool_file(runtime, file, spool)
    except BadExport as error:
        runtime.ledger.file_refused(file, str(error))
        return error
    except FileGone as error:
        return error


def _keep_rejected(runtime: Runtime, partition: str, run_id: str, spool: taking.Spool) -> None:
    store = runtime.store
    parts = [
        store.write(REJECTED, partition, f"{run_id}-{number:05}", frame)
        for number, frame in enumerate(spool.frames(taking.BAD), 1)
    ]
    former = store.published(REJECTED, partition)
    if parts or former:
        store.publish(REJECTED, partition, "all", parts)


def _taken_metadata(taken: taking.Taken) -> dict[str, Any]:
    return {
        "rows": taken.rows,
        "good_rows": taken.good,
        "rejected_rows": taken.bad,
        "foreign_profiles": taken.foreign,
        "bytes": taken.bytes,
        "seconds": round(taken.seconds, 3),
        "rows_per_second": round(taken.rows / taken.seconds, 1) if taken.seconds else 0.0,
        **({"dates": taken.dates} if taken.dates else {}),
    }


def _valid(runtime: Runtime, partition: str, taken: taking.Taken, spool: taking.Spool) -> dg.AssetCheckResult:
    """Fails while there are bad rows; the first of them with line and reason, ids only."""
    first = next(spool.frames(taking.BAD), None)
    shown = [] if first is None else first.head(SHOWN).select("line", "id", "reason").rows()
    text = "Every row is valid."
    if taken.bad:
        where = runtime.store.url(REJECTED, partition)
        text = f"{taken.bad:,} of {taken.rows:,} rows were left out; the others go on. All of them: {where}."
    return dg.AssetCheckResult(
        passed=not taken.bad,
        asset_key=EXPORT,
        check_name=VALID,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={
            "rejected_rows": taken.bad,
            "reasons": quality.table(("reason", "records"), taken.reasons.most_common(SHOWN)),
            "first_rows": quality.table(
                ("line", "id", "reason"), [(str(line), id_ or "", reason) for line, id_, reason in shown]
            ),
        },
    )


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
        description="What is decided of each opt-out that may differ: both values, both times, the value that both "
        "sides are to hold, why, and which side is written (direction "
        f"{runtime.config.opt_out.direction}). Kept for audit.",
        check_specs=[
            dg.AssetCheckSpec(name, asset=DECISIONS, blocking=True, description=text)
            for name, (_, text) in OPT_OUT_CHECKS.items()
        ],
        op_tags={TABLE_TAG: WORK},
    )
    def decisions(context: dg.AssetExecutionContext, rows: Parts) -> Iterator[Any]:
        with closing(runtime):
            yield from _decide(context, rows)

    def _decide(context: dg.AssetExecutionContext, rows: Parts) -> Iterator[Any]:
        partition = context.partition_key
        audit = Audit(runtime.store, partition, context.run_id)
        with told(runtime, context, f"decision of {partition}") as failed:
            stated = _state(runtime, partition, rows)
            deciding, told_of = asyncio.run(_all_decided(runtime, audit))
        if failed:
            yield from _findings(failed[0])
            raise dg.Failure(str(failed[0]), allow_retries=False)
        left = runtime.ledger.opt_outs_left(attributes(runtime.config))
        yield dg.MaterializeResult(
            metadata={
                "dagster/partition_row_count": told_of,
                "decisions": told_of,
                **{f"stated_{kind}": number for kind, number in sorted(stated.items())},
                "to_d365": left.to_d365,
                "to_campaign": left.to_campaign,
                "held": left.held,
                "by_reason": quality.table(
                    ("reason", "side written", "records"),
                    [(reason, side, number) for (reason, side), number in audit.reasons.most_common()],
                ),
                "audit": audit.url,
            },
            check_results=[
                dg.AssetCheckResult(passed=True, asset_key=DECISIONS, check_name=name, description=text)
                for name, (_, text) in OPT_OUT_CHECKS.items()
            ],
        )
        unanswered = f"Campaign could not be asked about {deciding.unanswered} contacts; they stay due."
        _stop(runtime, deciding.problem or (unanswered if deciding.unanswered else None))

    return decisions


def _state(runtime: Runtime, partition: str, rows: Parts) -> Counter[Stated]:
    """What the partition says, into the ledger. Of a file that is done with nothing is left to do after that."""
    ledger, poll = runtime.ledger, poll_of(partition)
    file = None if poll else files.find(runtime, partition)
    moment = poll or (file and (time_in_name(file.name) or file.modified))
    if moment is None:
        return Counter()  # changes in Dynamics 365; or a file that the ledger knows no more, and was taken long ago
    stated = taking.state(ledger, rows, attributes(runtime.config), partition, moment)
    if file and file.state != FileState.DONE:
        rejected = Parts(runtime.store, REJECTED, [partition]).rows
        counts = {"files_processed": 1, "rejected_rows": rejected}
        ledger.file_done(file, counts)
        runtime.opt_outs.update(counts)
    elif poll:
        ledger.note(POLL, poll)
    return stated


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
        write_d365,
    )


def _profile_opt_out(runtime: Runtime) -> dg.AssetsDefinition:
    return _writes(
        runtime,
        PROFILE_OPT_OUT,
        "Opt-outs of profiles in Campaign, as decided: written where they differ, never where they agree.",
        {"adobecampaign"},
        write_campaign,
    )


def _writes(
    runtime: Runtime,
    key: dg.AssetKey,
    description: str,
    kinds: set[str],
    write: Callable[[Parties], Any],
) -> dg.AssetsDefinition:
    @dg.asset(
        key=key,
        group_name="opt_out",
        partitions_def=opt_out_files,
        deps=[DECISIONS],
        kinds=kinds,
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
        with told(runtime, context, f"writing of {key.to_user_string()}") as failed:
            done = asyncio.run(_all_written())
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
            },
            check_results=[_accepted(key, refused)],
        )
        _stop(runtime, done.problem)

    return written


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


def _stop(runtime: Runtime, problem: str | None) -> None:
    """What was done stands; the run fails all the same, since something is left that it could not do."""
    if problem:
        runtime.stopped.append(problem)
        raise dg.Failure(problem, allow_retries=False)
