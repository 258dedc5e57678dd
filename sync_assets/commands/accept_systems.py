"""`accept-systems`: confirm that the ledger's systems moved, with their records, to other addresses."""

from typing import Annotated, Any

import typer

from sync_assets.commands.terminal import Json, Parts, open_runtime, print_document
from sync_assets.ledger.repositories.notes import Side
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import NAMES, same_address


def command(
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm. Without this option the command only shows the change.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Confirm that the ledger's systems moved, with all their records, to the addresses of the environment."""
    print_document(accept_systems(open_runtime(may_create=yes, any_ledger=True), yes=yes), as_json, show)


def accept_systems(runtime: Runtime, *, yes: bool) -> dict[str, Any]:
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
    moved: dict[str, Any] = {}
    for side, (url, identity) in named.items():
        before = stored.get(side)
        if before and same_address(before.url, url) and before.identity == identity:
            continue
        moved[side] = {"before": before and {"url": before.url, "identity": before.identity}}
        moved[side]["now"] = {"url": url, "identity": identity}
        if yes:
            ledger.systems.replace(side, url, identity)
            if side == "campaign":  # another instance may behave differently, so its findings are deleted
                for table in runtime.config.tables:
                    ledger.dialect.forget(table.resource)
    return {"ledger": ledger.where, "moved": moved, "accepted": bool(moved) and yes}


def show(document: dict[str, Any]) -> Parts:
    if not document["moved"]:
        yield f"The ledger {document['ledger']} belongs to these systems already."
        return
    for side, moved in document["moved"].items():
        before = _shown(moved["before"]) if moved["before"] else "not known so far"
        yield f"{NAMES[side]}: {before} -> {_shown(moved['now'])}"
    if document["accepted"]:
        yield f"The ledger {document['ledger']} belongs to these systems now."
        return
    yield (
        "Nothing was changed. Is it the same data under a new address? Then `sync-assets accept-systems --yes`. If the "
        "records are others, this ledger would be wrong about each of them: name another one in SYNC_ASSETS_LEDGER_URL."
    )


def _shown(system: dict[str, Any]) -> str:
    return system["url"] + (f" (organisation {system['identity']})" if system["identity"] else "")
