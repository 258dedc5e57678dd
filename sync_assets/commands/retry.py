"""`retry`: make rejected records, opt-outs and opt-out files pending again."""

from typing import Annotated

import typer

from sync_assets.campaign.addressing import HIDDEN
from sync_assets.commands.terminal import Json, OptionalTable, Parts, fail, open_runtime, print_document
from sync_assets.commands.values import check_tables
from sync_assets.config.models import Config
from sync_assets.config.values import CONTACT
from sync_assets.ledger import Ledger
from sync_assets.ledger.rules.opt_outs import OptOutState
from sync_assets.words import counted


def command(
    table: OptionalTable = None,
    record: Annotated[str | None, typer.Option("--id", help="Only the record with this id of Dynamics 365.")] = None,
    as_json: Json = False,
) -> None:
    """Make rejected records pending again. The next sync, or the run `follow`, sends them."""
    runtime = open_runtime()
    document = retry(runtime.config, runtime.ledger, table, record)
    if record and not any(document.values()):
        where = table or "any table"
        fail(f"No record {record} of {where} is rejected. `sync-assets rejects` lists the records that are.")
    print_document(document, as_json, show)


def retry(config: Config, ledger: Ledger, table: str | None, record: str | None = None) -> dict[str, int]:
    """Make rejected records pending again; return how many, and how many stay rejected by a validation error."""
    check_tables(config, [table])
    id_ = record.lower() if record else None
    retried = ledger.claims.retry(table, id_)
    for mapped in [config.table(table)] if table else config.tables:
        ledger.dialect.forget(mapped.resource, HIDDEN)
    if table in (None, CONTACT):
        retried += ledger.opt_outs.reconsider(OptOutState.REJECTED, id_)
        retried += ledger.opt_out_files.retry_files() if id_ is None else 0
    rejects = ledger.reports.rejects(table)
    not_retryable = [reject for reject in rejects if not reject.retryable and id_ in (None, reject.id)]
    return {"retried": retried, "not_retryable": len(not_retryable)}


def show(document: dict[str, int]) -> Parts:
    retried, stays = document["retried"], document["not_retryable"]
    if retried or not stays:
        yield f"{counted(retried, 'record', 'are')} pending again." if retried else "No such record is rejected."
    if stays:
        yield (
            f"{counted(stays, 'record', 'stay')} rejected: the mapping cannot send the rows' values. That needs other "
            "data in Dynamics 365 or another mapping, see `sync-assets rejects`; then the next sync sends them."
        )
