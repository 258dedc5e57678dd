"""`accept-systems`: confirm that the ledger's systems moved, with their records, to other addresses.

A move may lose records and values. So after a move of Campaign the ledger's acknowledgements do not count any more: a
rebuild of every table begins (rebuild.py), and the next sync compares both systems.
"""

from typing import Annotated

import msgspec
import typer

from sync_assets.audit.record_list import pages_for
from sync_assets.commands.rebuild import begin_anew
from sync_assets.commands.terminal import Json, Parts, open_runtime, print_document
from sync_assets.flows import LoadUnderWay
from sync_assets.ledger.model import LoadState
from sync_assets.ledger.repositories.notes import Side
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import FORMER, NAMES, same_address
from sync_assets.words import counted


def command(
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm. Without this option the command only shows the change.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Confirm that the ledger's systems moved, with all their records, to the addresses of the environment. After a
    move of Campaign the next sync compares both systems.
    """
    print_document(accept_systems(open_runtime(may_create=yes, any_ledger=True), yes=yes), as_json, show)


class SystemAddress(msgspec.Struct, frozen=True):
    """The address of a system. identity: the id of the organisation, of Dynamics 365."""

    url: str
    identity: str | None

    def __str__(self) -> str:
        return self.url + (f" (organisation {self.identity})" if self.identity else "")


class MovedSystem(msgspec.Struct, frozen=True):
    """A system in the ledger (null if it has none yet), and as the environment names it."""

    before: SystemAddress | None
    now: SystemAddress


class ComparisonCost(msgspec.Struct, frozen=True):
    """What the comparison of a table costs: the rows that the next sync reads, and its reads of Campaign."""

    rows: int
    reads: int


class MovedSystems(msgspec.Struct, frozen=True):
    """The document of `accept-systems --json`. moved: by side. comparison: by table, if Campaign moved.

    accepted: the ledger belongs to the named systems now.
    """

    ledger: str
    moved: dict[Side, MovedSystem]
    comparison: dict[str, ComparisonCost]
    accepted: bool


def accept_systems(runtime: Runtime, *, yes: bool) -> MovedSystems:
    """Return the ledger's systems and those that the environment names; with `yes`, assign the ledger to the latter."""
    runtime.settings.require("d365", "campaign")
    ledger, stored = runtime.ledger, runtime.ledger.systems.stored()

    async def organisation() -> str:
        async with runtime.d365() as d365:
            return await d365.organization_id()

    named: dict[Side, tuple[str, str | None]] = {
        "d365": (runtime.settings.d365().url, interruptible.run(organisation())),
        "campaign": (runtime.settings.campaign().url, None),
    }
    for load in ledger.loads.all() if yes else ():
        if load.state != LoadState.DONE:
            raise LoadUnderWay(load.table)
    moved, comparison = dict[Side, MovedSystem](), dict[str, ComparisonCost]()
    for side, (url, identity) in named.items():
        before = stored.get(side)
        if before and same_address(before.url, url) and before.identity == identity:
            continue
        moved[side] = MovedSystem(before and SystemAddress(before.url, before.identity), SystemAddress(url, identity))
        if side == "campaign" and before:
            counts = {table: counts.records for table, counts in ledger.reports.counts().items()}
            rows = {table.table: counts[table.table] for table in runtime.config.tables}
            comparison = {table: ComparisonCost(number, pages_for(number)) for table, number in rows.items()}
        if yes and side == "campaign":
            for table in runtime.config.tables:  # another instance may behave differently, and its records may differ
                ledger.dialect.forget(table.resource)
                ledger.audit_progress.forget(table.table)
            if before:
                begin_anew(runtime.config, ledger)
                ledger.opt_outs.forget_origins()
                ledger.migrations.note(FORMER, {"url": before.url})
        if yes:
            ledger.systems.replace(side, url, identity)  # last: if this process is killed before, it is repeated
    return MovedSystems(ledger.where, moved, comparison, bool(moved) and yes)


def cost_text(comparison: dict[str, ComparisonCost]) -> str:
    """Return the sentence on the comparison after a move of Campaign, and on its cost. comparison: by table."""
    rows, reads = sum(cost.rows for cost in comparison.values()), sum(cost.reads for cost in comparison.values())
    return (
        f"The move may have lost records or values, so the next sync compares both systems before it sends: it reads "
        f"some {counted(rows, 'row')} of Dynamics 365, lists Campaign's records with some "
        f"{counted(reads, 'engine call')}, and sends what is missing or differs."
    )


def show(document: MovedSystems) -> Parts:
    if not document.moved:
        yield f"The ledger {document.ledger} belongs to these systems already."
        return
    for side, moved in document.moved.items():
        yield f"{NAMES[side]}: {moved.before or 'not known so far'} -> {moved.now}"
    if document.comparison:
        yield cost_text(document.comparison)
    if document.accepted:
        following = " `sync-assets plan` shows what the next sync sends." if document.comparison else ""
        yield f"The ledger {document.ledger} belongs to these systems now.{following}"
        return
    yield (
        "Nothing was changed. Is it the same data under a new address? Then `sync-assets accept-systems --yes`. If the "
        "records are others, this ledger would be wrong about each of them: name another one in SYNC_ASSETS_LEDGER_URL."
    )
