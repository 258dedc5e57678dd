"""`hold`: privacy holds on contacts. Ids, times and counts; no personal values."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Annotated

import msgspec
import typer

from sync_assets.audit.person_records import by_table, is_gone, whereabouts
from sync_assets.bulk_load.held_records import take_out
from sync_assets.commands.hold_document import (
    AddedHold,
    HoldList,
    RecordsInCampaign,
    RecordsInLedger,
    RecordsInSystem,
    ReleasedHold,
    VerifiedHold,
)
from sync_assets.commands.terminal import Json, Parts, end, open_runtime, print_document
from sync_assets.commands.values import check_tables, plain, record_id
from sync_assets.config.values import CONTACT
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.records.hold_records import HeldRecord
from sync_assets.ledger.report_values import HeldContact
from sync_assets.ledger.scratch import scratch_ledger
from sync_assets.ledger.times import clock, iso
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import FORMER, same_address
from sync_assets.runtime.workers import release_dead
from sync_assets.words import counted

app = typer.Typer(
    name="hold",
    help="Privacy holds: neither system is written about a held contact and the person's other records.",
    no_args_is_help=True,
    add_completion=False,
)
Contact = Annotated[str, typer.Argument(metavar="ID", help="The contact's id in Dynamics 365, a GUID.")]
Kept = Annotated[
    list[str] | None, typer.Option(metavar="TABLE/ID", help="A record that stays on purpose; may be repeated.")
]

NEEDS = "A hold needs the contact's"
_KEPT = "`--kept` needs TABLE/ID with the record's"
_CHECK_ID = "Check the id: `sync-assets explain {}` finds it in other tables, too."
WAIT_SECONDS = 120.0
"""How long `add` waits for requests that a worker was sending before."""


@app.command("add")
def add_command(
    contact: Contact,
    force: Annotated[
        bool, typer.Option("--force", help="Hold an unknown contact too, such as one that was deleted before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write neither this contact nor the person's other records until `hold release`. Finds these records in both
    systems, which costs engine calls (reads only).
    """
    print_document(add(open_runtime(may_create=True), contact, force=force), as_json, show_added)


@app.command("release")
def release_command(contact: Contact, as_json: Json = False) -> None:
    """End the hold. Records of a contact that Dynamics 365 still has are synchronised again, others are excluded."""
    print_document(release(open_runtime(), contact), as_json, show_released)


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the contacts on hold, since when, and the number of their records."""
    print_document(listed(open_runtime().ledger), as_json, show_holds)


@app.command("verify")
def verify_command(contact: Contact, kept: Kept = None, as_json: Json = False) -> None:
    """List the records of the contact that either system still has. Exit status 0: all are deleted in both but those
    that are named by --kept; 1: another one is left, or the contact is unknown. After a move of Campaign, asks the
    former one if the environment names it.
    """
    with of_named_campaign(open_runtime()) as runtime:
        document = verify(runtime, contact, kept or ())
    print_document(document, as_json, show_whereabouts)
    if why := unproven(document):
        end(1, why, "When both have deleted all, run `sync-assets hold verify` again.")


def add(runtime: Runtime, id_text: str, *, force: bool = False) -> AddedHold:
    """Place a contact and the person's other records on hold from now on.

    First those in the ledger, then those that either system has besides. They stay held when their lookups are cleared.
    Returns once no request for one of them is under way: none can follow. After WAIT_SECONDS it returns how many are.

    force: hold a contact that neither the ledger nor the systems have, such as one that was deleted before.

    Raises SyncAssetsError if the contact is unknown and not forced: the id may be mistyped.
    """
    id_ = record_id(id_text, NEEDS)
    release_dead(runtime.ledger)  # records of dead workers are not in flight
    new = runtime.ledger.holds.held_since(id_) is None
    hold = runtime.ledger.holds.hold(id_) if runtime.ledger.holds.is_known(id_) else None
    trace = interruptible.run(whereabouts(runtime, id_))
    if hold is None:
        if not (trace.known or force):
            cause = (
                f"The ledger does not have {id_}, and not every system could be asked: {' '.join(trace.errors)}"
                if trace.errors
                else f"Neither the ledger nor Dynamics 365 nor Campaign has a contact {id_}, so it is not put on hold."
            )
            deleted = "For a person who was deleted before: `--force`, or `force` of the job privacy_hold."
            raise SyncAssetsError(cause, f"{_CHECK_ID.format(id_)} {deleted}")
        hold = runtime.ledger.holds.hold(id_, known=trace.known)
    hold = runtime.ledger.holds.add_to_hold(id_, trace.records) or hold
    give_up_at = time.monotonic() + WAIT_SECONDS
    while hold.in_flight and time.monotonic() < give_up_at:
        time.sleep(0.25)
        release_dead(runtime.ledger)
        hold = runtime.ledger.holds.add_to_hold(id_, ()) or hold
    errors = trace.errors
    if hold.loading:
        errors += interruptible.run(take_out(runtime, id_, WAIT_SECONDS))
        hold = runtime.ledger.holds.add_to_hold(id_, ()) or hold
    noted = sorted({(record.table, record.id) for record in runtime.ledger.holds.records_of_hold(id_)})
    return AddedHold(
        **msgspec.structs.asdict(hold),
        new=new,
        noted=dict(Counter(table for table, _ in noted)),
        errors=errors,
    )


def release(runtime: Runtime, id_text: str) -> ReleasedHold:
    """End the hold.

    If Dynamics 365 no longer has the contact, none of the person's records is created again: they are excluded from
    then on. If the contact is restored later, a second release ends that.

    Raises SyncAssetsError if there is no hold (most likely the id is mistyped), or if Dynamics 365 cannot be asked.
    """
    id_ = record_id(id_text, NEEDS)
    if not runtime.ledger.holds.records_of_hold(id_):
        raise SyncAssetsError(f"{id_} is not on hold.", "`sync-assets hold list` shows who is.")
    try:
        deleted = interruptible.run(is_gone(runtime.clients, id_))
    except SyncAssetsError as error:
        raise SyncAssetsError(
            f"The hold stays: Dynamics 365 did not answer whether it still has {id_}. {error}", "Then release it again."
        ) from error
    if deleted and runtime.ledger.holds.held_since(id_) is None:
        raise SyncAssetsError(
            f"{id_} is not on hold. Dynamics 365 does not have it, so the person's other records stay excluded.",
            "If the contact is restored, release it again.",
        )
    freed, excluded = runtime.ledger.holds.end_hold(id_, deleted=deleted) or (0, 0)
    return ReleasedHold(id_, freed, deleted, excluded)


def listed(ledger: Ledger) -> HoldList:
    """Return all holds, the oldest first."""
    return HoldList(ledger.holds.all())


@contextmanager
def of_named_campaign(runtime: Runtime) -> Iterator[Runtime]:
    """Yield the runtime. If it names the ledger's former Campaign, yield one with a copy of the ledger, to ask that."""
    url = runtime.settings.campaign().url
    with closing(runtime.using(any_ledger=True, announce=lambda _: None)) as of_any:
        of_any.access.check_not_older()
        named, former = of_any.ledger.systems.stored().get("campaign"), of_any.ledger.migrations.facts(FORMER)
    if not (named and former) or same_address(named.url, url) or not same_address(former["url"], url):
        yield runtime
        return
    with scratch_ledger(runtime.settings.ledger_url, runtime.cipher) as copy:
        copy.systems.replace("campaign", url, None)
        for table in runtime.config.tables:
            copy.dialect.forget(table.resource)  # findings about the new Campaign
        with closing(replace(runtime, given=copy)) as asked:
            yield asked


def verify(runtime: Runtime, id_text: str, kept: Sequence[str] = ()) -> VerifiedHold:
    """Return where the contact and the person's other records still are.

    kept: records that stay on purpose, as TABLE/ID; those that a system has are `kept`, not `found`. Raises
    OlderLedger: its lost requests are unknown.
    """
    id_ = record_id(id_text, NEEDS)
    named = [(table, record_id(of, _KEPT)) for table, _, of in (text.partition("/") for text in kept)]
    check_tables(runtime.config, [table for table, _ in named])
    if CONTACT in dict(named):
        raise SyncAssetsError("The contact itself cannot be kept.", "Delete it in both systems, or leave out --kept.")
    runtime.access.check_not_older()
    trace = interruptible.run(whereabouts(runtime, id_))
    for answer in (trace.d365, trace.campaign):
        answer.keep(named)
    held_since = runtime.ledger.holds.held_since(id_)
    leased = [record.leased_until for record in trace.in_flight if record.leased_until]
    return VerifiedHold(
        id=id_,
        known=trace.known,
        gone=trace.gone,
        certain_at=trace.certain_at,
        held_since=held_since,
        is_excluded=held_since is None and bool(runtime.ledger.holds.records_of_hold(id_)),
        d365=RecordsInSystem(**trace.d365.document()),
        campaign=RecordsInCampaign(
            **trace.campaign.document(),
            url=runtime.settings.campaign().url,
            former_url=runtime.ledger.migrations.facts(FORMER).get("url"),
            not_seen=by_table([HeldRecord(table, of) for table, of in trace.not_seen]),
        ),
        resources={table.table: table.resource for table in runtime.config.tables},
        ledger=RecordsInLedger(
            records=dict(Counter(record.table for record in trace.related)),
            with_content=sum(record.payload for record in trace.related),
            in_flight=len(trace.in_flight),
            in_flight_until=max(leased, default=None),
            loading=sum(record.loading for record in trace.related),
        ),
    )


def unproven(document: VerifiedHold) -> str | None:
    """Return why a document of `verify` is no proof of the deletion; None if it is one."""
    errors = [*document.d365.errors, *document.campaign.errors]
    if not (document.known or errors):
        unknown = f"Neither the ledger nor a system has a contact {document.id}, so no deletion is proved."
        return f"{unknown} {_CHECK_ID.format(document.id)}"
    if not document.gone:
        again = f"or correct the errors, then `sync-assets hold verify {document.id}`."
        remedy = f"Delete the listed records, name those that stay on purpose by `--kept TABLE/ID`, {again}"
        return "\n".join([*errors, f"{document.id} is not known to be gone from both systems. {remedy}"])
    return None


def show_added(document: AddedHold) -> Parts:
    yield (
        f"{document.id} is on hold since {iso(document.since)}: {counted(document.records, 'record', 'are')} "
        "written to neither system until `sync-assets hold release`."
    )
    if not document.known:
        yield "The ledger does not have this contact yet; if it is captured later, it is held."
    if document.in_flight:
        yield (
            f"Requests for {counted(document.in_flight, 'record')} are still under way after {WAIT_SECONDS:.0f} s. "
            "Delete nothing yet; repeat `hold add`, until it reports none."
        )
    if document.loading:
        yield (
            f"A load by file may still write {counted(document.loading, 'record')}. Delete nothing before its end, "
            "which `sync-assets loads` shows."
        )
    yield from _show_certain_at(document, "Delete nothing before that.")
    for error in document.errors:
        yield f"Not all of this person's records could be asked for: {error} Then repeat `hold add`."


def _show_certain_at(document: HeldContact | VerifiedHold, remedy: str) -> Parts:
    if document.certain_at:
        at = clock(document.certain_at)
        yield f"not certain before {at}: a request got no answer, and may still take effect. {remedy}"


def show_released(document: ReleasedHold) -> Parts:
    if document.gone:
        yield (
            f"{document.id} is no longer on hold. Dynamics 365 does not have this contact, so no record is created "
            f"again. Excluded, unless another contact is its parent: {counted(document.excluded, 'record')}."
        )
    else:
        yield (
            f"{document.id} is no longer on hold: {counted(document.released, 'record')} may be synchronised "
            "again. Each is read again from Dynamics 365 before it is sent."
        )


def show_holds(document: HoldList) -> Parts:
    for hold in document.holds:
        unknown = "" if hold.known else ", the contact is not known to the ledger"
        flying = f", {hold.in_flight:,} in flight until {plain(hold.in_flight_until)}" if hold.in_flight else ""
        yield f"{hold.id}  since {iso(hold.since)}  {counted(hold.records, 'record')}{unknown}{flying}"
    if not document.holds:
        yield "No contact is on hold."


def show_whereabouts(document: VerifiedHold) -> Parts:
    url, former = document.campaign.url, document.campaign.former_url
    if former:
        yield f"Campaign at {url} was asked{', the former one' if same_address(url, former) else ''}."
    if former and not same_address(url, former):
        yield (
            f"The former Campaign, at {former}, may have the person, too: `sync-assets hold verify {document.id} "
            "--env-file FILE`, with a file that names it, asks it."
        )
    for answer, name in ((document.d365, "Dynamics 365"), (document.campaign, "Campaign")):
        ids_by_table, kept, errors = answer.found, answer.kept, answer.errors
        for of_table, state in ((ids_by_table, "still there"), (kept, "kept on purpose, as named")):
            for table, ids in of_table.items():
                resource = document.resources.get(table, table) if answer is document.campaign else table
                yield f"{name}: {state}: {resource} {', '.join(ids)}"
        if not ids_by_table and not errors:
            hides = answer is document.campaign and bool(document.campaign.not_seen)
            gone = ("shows no others" if kept else "shows none") if hides else "all others gone" if kept else "gone"
            yield f"{name}: {gone if document.known else 'not known'}"
    for table, ids in document.campaign.not_seen.items():
        resource = document.resources.get(table, table)
        yield (
            f"Campaign does not show {counted(len(ids), 'record')} of {resource}: deleted, or hidden without a parent. "
            f"Check in Campaign: {', '.join(ids)}"
        )
    ledger = document.ledger
    records = ", ".join(f"{number:,} {table}" for table, number in ledger.records.items())
    with_content = counted(ledger.with_content, "record")
    content = f"; {with_content} with data still to be sent" if ledger.with_content else ""
    yield f"ledger: ids and hashes of {records}{content}" if records else "ledger: nothing"
    if ledger.in_flight:
        yield (
            f"{counted(ledger.in_flight, 'record')} claimed by a worker until {plain(ledger.in_flight_until)} at the "
            "latest: verify again after that."
        )
    if ledger.loading:
        yield (
            f"{counted(ledger.loading, 'record')} in a load by file, which may still write: verify again after its "
            "end, which `sync-assets loads` shows."
        )
    yield from _show_certain_at(document, "Verify again after that.")
    if document.is_excluded:
        yield (
            "The contact was deleted when the hold was released: its records are excluded, so none is inserted or "
            f"updated. If the contact was restored, run `sync-assets hold release {document.id}`."
        )
    elif document.held_since is None:
        yield "The contact is not on hold, so it may be written again."
