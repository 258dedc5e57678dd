"""Rules about single requests to Campaign: whether they are needed, and what they may contain."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import dropwhile, groupby, pairwise
from typing import Any

from sync_assets_tests.simulation.contract import Contract, attribute_of, has_attribute, names_of
from sync_assets_tests.simulation.history import History, Id, Request, content
from sync_assets_tests.simulation.observed import Row
from sync_assets_tests.simulation.violation import Found, rule

SLACK = timedelta(minutes=15)
"""So long before a request is sent its record may have been claimed: a change in this time may have come too late."""
CAPTURED_AGAIN = timedelta(days=1)
"""How long after a change of the configuration a full read may follow from it: Dynamics 365 may be unreachable."""
HORIZON = timedelta(minutes=15)
"""A request without an answer may take effect until so long after it was given up (how it works, lost answers)."""
REFUSALS_IN_A_ROW = 20
"""A bare error is tried again in growing intervals, nine times in three hours; by two workers.

Trial updates after such a refusal, with a part of its attributes, are no more than these allow.
"""


def each_write(history: History) -> Iterator[tuple[Contract, Id, list[Request]]]:
    """Yield the writes of each record."""
    for (resource, key), writes in history.writes.items():
        contract = history.by_resource[resource]
        yield contract, (contract.table.table, key), writes


def is_opt_out(contract: Contract, request: Request) -> bool:
    """Return True for a request of the opt-out flow, which opt_out_rules.py judges.

    In direction d365_to_campaign opt-outs are fields, and are sent without the key for contacts out of scope.
    """
    fields = set[str]() if contract.direction == "d365_to_campaign" else contract.attributes
    flags = {one.attribute for one in contract.opt_outs} - fields
    return request.method == "PATCH" and bool(request.body) and set(request.body) <= flags


def _matches(history: History, contract: Contract, body: Mapping[str, Any], row: Row | None) -> bool:
    """Return True if a body says what this version of the row says, by any configuration."""
    return row is not None and any(_matches_by(history, one, body, row) for one in contract.versions)


def _matches_by(history: History, contract: Contract, body: Mapping[str, Any], row: Row) -> bool:
    mapped = contract.mapped(row)
    names = [name for name in contract.attributes if has_attribute(body, name)]
    if names and mapped.invalid:
        return False
    if not mapped.values.keys() >= set(names):
        return False
    if not all(contract.same(name, attribute_of(body, name), mapped.values[name]) for name in names):
        return False
    for link in contract.links:
        if link.to in body:
            target = history.target(body[link.to])
            if target != mapped.parents[link.to] and (link.required or target is not None):
                return False
    return True


def rows_since(history: History, contract: Contract, record: Id, request: Request, until: int) -> list[Row | None]:
    """Return the versions of a row from the one that a request sent until before event `until`.

    The row may have changed there and back after the request was claimed: the oldest version of the last minutes that
    the request may have sent counts. Empty if no version fits.
    """
    changes = [one for one in history.changes[record] if one.moment.n < request.sent.n]
    fitting = [one for one in changes if _matches(history, contract, request.body, one.after)]
    if not fitting:
        return []
    rows = history.rows(record, min(fitting[-1].moment.at, request.sent.at - SLACK), until)
    return list(dropwhile(lambda row: not _matches(history, contract, request.body, row), rows))


def _signature(contract: Contract, row: Row | None) -> Any:
    if row is None:
        return None
    signatures: list[Any] = []
    for one in contract.versions:
        mapped = one.mapped(row)
        values = {name: value for name, value in mapped.values.items() if name not in one.once}
        signatures.append((one.passes(row), sorted(values.items()), mapped.parents, mapped.invalid))
    return signatures


def _signatures(contract: Contract, rows: list[Row | None]) -> list[Any]:
    """Return what the versions of a row mean for Campaign, without those that repeat the one before."""
    return [one for one, _ in groupby(_signature(contract, row) for row in rows)]


def _parents_moved(history: History, contract: Contract, record: Id, since: datetime, until: int) -> int:
    """Return how often the parents of a row were inserted or deleted in Campaign."""
    moved = 0
    for link in contract.links:
        resource = history.contracts[link.parent].table.resource
        parents = {(row or {}).get(f"_{link.column}_value") for row in history.rows(record, since, until)} - {None}
        for parent in parents:
            moved += sum(
                one.method != "PATCH" and one.first.took_effect and since <= one.first.handled.at
                for one in history.writes.get((resource, str(parent)), ())
                if one.sent.n < until
            )
    return moved


def _may_have_changed(history: History, record: Id, resource: str, before: Request, now: Request) -> bool:
    """Return True if what Campaign acknowledged may have been forgotten or changed by others since."""
    since, until = before.sent.n, now.sent.n
    return (
        history.crashed(before.first.process, since, until)
        or history.others_changed(resource, record[1], since, until)
        or history.restored(since, until)
        or any(
            one.table == record[0] and one.kind == "forced replay" and since <= one.moment.n <= until
            for one in history.seen.replays
        )
    )


def _link_not_verified(history: History, contract: Contract, record: Id, before: Request, now: Request) -> bool:
    """Return True if the link of an update could not be read back: the update is sent once more, and then read back.

    The answer to the read of the record, or of the parent to which it leads, was lost, or one of them that was needed
    did not reach the engine.
    """
    reads = [one for one in history.about(contract.table.resource, record[1]) if one.method == "GET"]
    between = [one for one in reads if before.sent.n < one.sent.n < now.sent.n]
    read_back = any(one.sent.n > now.sent.n and one.first.process == now.first.process for one in reads)
    sends_link = any(link.to in before.body for link in contract.links)
    not_read = not between or _leads_to_unknown(history, contract, before, now.sent.n)
    of_parents = [
        one
        for _, (table, id_) in history.parents_ever(record)
        for one in history.about(history.contracts[table].table.resource, id_)
        if one.method == "GET" and before.sent.n < one.sent.n < now.sent.n
    ]
    return bool(contract.links) and (
        any(one.delivered is None for one in (*between, *of_parents)) or (sends_link and read_back and not_read)
    )


def _leads_to_unknown(history: History, contract: Contract, request: Request, until: int) -> bool:
    """Return True if a request names a parent by its key, of which its process got no answer before event `until`.

    Campaign shows a link as the PKey of the parent: only an answer about the parent shows whose PKey that is.
    """
    for link in contract.links:
        value, id_ = request.body.get(link.to), history.target(request.body.get(link.to))
        if id_ and value == {"PKey": id_}:
            about = history.about(history.contracts[link.parent].table.resource, id_)
            own = [one for one in about if one.first.process == request.first.process and one.first.key == id_]
            if not any(one.acknowledged and one.sent.n < until for one in own):
                return True
    return False


def _confirms(history: History, record: Id, resource: str, before: Request, now: Request) -> bool:
    """Return True if a request is sent once more, since one without an answer could overtake the last one."""
    lost = [
        one.sent
        for one in history.about(resource, record[1])
        if one.delivered is None or history.crashed(one.first.process, one.sent.n, now.sent.n)
    ]
    lost += [sent for sent, _ in history.seen.unanswered]
    lost += [moment for moment, _ in history.seen.crashes]
    if any(of == record[0] and moment.n < now.sent.n for moment, of in history.seen.abandoned):
        return True
    return any(sent.n < now.sent.n and before.sent.at < sent.at + HORIZON + SLACK for sent in lost)


def _needed(history: History, contract: Contract, record: Id, before: Request, now: Request) -> bool:
    """Return True if something happened since a request was acknowledged that may call for another one."""
    rows = rows_since(history, contract, record, before, now.sent.n)
    return (
        not rows
        or len(_signatures(contract, rows)) > 1
        or _parents_moved(history, contract, record, before.sent.at - SLACK, now.sent.n) > 0
        or _may_have_changed(history, record, contract.table.resource, before, now)
        or _link_not_verified(history, contract, record, before, now)
        or _confirms(history, record, contract.table.resource, before, now)
        or history.configuration_changed(before.sent.at - CAPTURED_AGAIN, now.sent.n)
    )


@rule("An unchanged row costs no call, however often it is captured or replayed (design, one idea)")
def no_update_without_need(history: History) -> Found:
    for contract, record, writes in each_write(history):
        requests = [one for one in writes if not is_opt_out(contract, one)]
        for before, now in pairwise(requests):
            if now.method != "PATCH" or before.method not in ("POST", "PATCH") or not _answered_before(before, now):
                continue
            repeats = now.body == before.body or content(now.first.before) == content(now.first.after)
            accepted = now.acknowledged and before.acknowledged
            if accepted and repeats and not _needed(history, contract, record, before, now):
                yield *record, f"event {now.sent.n} updates it, event {before.sent.n} had sent the same"


def _answered_before(before: Request, now: Request) -> bool:
    return before.delivered is not None and before.delivered.n < now.sent.n


@rule("Insert is one POST: what Campaign acknowledged is not inserted or deleted again (design, push)")
def no_second_insert_or_delete(history: History) -> Found:
    for contract, record, writes in each_write(history):
        for n, now in enumerate(writes):
            if now.method == "PATCH":
                continue
            other = "DELETE" if now.method == "POST" else "POST"
            for before in reversed(writes[:n]):
                if before.method == other:
                    break
                if before.method == now.method and before.acknowledged and _answered_before(before, now):
                    resource = contract.table.resource
                    if not (
                        history.orphaned_by_others(record)
                        or _may_have_changed(history, record, resource, before, now)
                        or _confirms(history, record, resource, before, now)
                    ):
                        yield *record, f"event {now.sent.n} is a second {now.method} after event {before.sent.n}"
                    break


@rule("When the answer to a POST was lost, the push looks the record up by its key (how it works, push)")
def a_lost_insert_is_looked_up_first(history: History) -> Found:
    for contract, record, writes in each_write(history):
        resource = contract.table.resource
        for before, now in pairwise(writes):
            if before.method != "POST" or now.method != "POST" or not before.first.took_effect:
                continue
            known = _answered_before(before, now) and not history.crashed(
                before.first.process, before.sent.n, now.sent.n
            )
            looked = any(
                one.method == "GET" and one.delivered and before.sent.n < one.delivered.n < now.sent.n
                for one in history.about(resource, record[1])
            )
            if not (known or looked or history.restored(before.sent.n, now.sent.n)):
                yield *record, f"event {now.sent.n} inserts it after event {before.sent.n}, without a look"


@rule("Never a second record with our id (premises 6, how it works)")
def no_second_record(history: History) -> Found:
    for contract, record, writes in each_write(history):
        resource = contract.table.resource
        for request in () if history.orphaned_by_others(record) else writes:
            for call in request.calls if request.method == "POST" else ():
                there = call.took_effect and history.with_key(resource, record[1], call.handled.n)
                if there and not history.repeats_a_late_import(resource, record[1], request):
                    yield *record, f"event {call.handled.n} inserts it, though Campaign holds it"


@rule("A lost answer costs another try, no more; a rejected record waits for a change or retry (how it works, push)")
def calls_are_bounded(history: History) -> Found:
    processes = len({call.process for call in history.seen.calls})
    for contract, record, writes in each_write(history):
        requests = [one for one in writes if not is_opt_out(contract, one)]
        start, end = history.changes[record][:1], history.seen.end.n
        if not start:
            continue  # judged by only_our_records_are_written
        since = start[0].moment.at
        failures = sum(not one.acknowledged for one in requests)
        allowed = (
            len(_signatures(contract, history.rows(record, since, end)))
            + _parents_moved(history, contract, record, since, end)
            + sum(one.table == record[0] for one in history.seen.replays)
            + len(history.seen.crashes)
            + len(history.seen.restored)
            + sum(of == record[0] for _, of in history.seen.abandoned)
            + sum(1 for change in history.seen.others if change.resource == contract.table.resource)
            + processes * len(contract.links)
            + sum(one.delivered is None for one in requests)
            + sum(kind != "read" for _, kind in history.seen.unanswered)
            + 2 * len(history.seen.replaced)  # an update, or a delete and an insert of a row that leaves the filter
        )
        if len(requests) - failures > allowed:
            yield *record, f"{len(requests)} writes, {failures} without success; {allowed} changes and other causes"
        yield from _refused_again_and_again(history, contract, record, requests)


def _refused_again_and_again(history: History, contract: Contract, record: Id, requests: list[Request]) -> Found:
    row: list[Request] = []
    for request in requests:
        # An update that finds no record is the look-up after an insert that failed without a reason.
        refused = request.delivered is not None and not request.acknowledged and request.first.status != 404
        retried = row and (
            any(
                one.table == record[0] and row[0].sent.n < one.moment.n < request.sent.n for one in history.seen.replays
            )
            or len(_signatures(contract, history.rows(record, row[0].sent.at - SLACK, request.sent.n))) > 1
            or _may_have_changed(history, record, contract.table.resource, row[0], request)
            or history.configuration_changed(row[0].sent.at, request.sent.n)
        )
        if refused and row and not retried and set(request.body) < set(row[-1].body):
            continue  # a trial update, which shows the attribute that Campaign refuses
        row = [*([] if retried else row), request] if refused else []
        if len(row) == REFUSALS_IN_A_ROW + 1:
            yield *record, f"refused {len(row)} times in a row, last by event {request.sent.n}"


@rule("Nothing is written to Campaign but mapped attributes of records that carry our id (design, rule 1)")
def only_our_records_are_written(history: History) -> Found:
    for request in history.requests:
        if request.method == "GET":
            continue
        contract, call = history.by_resource.get(request.first.resource), request.first
        if contract is None:
            yield call.resource, str(call.pkey), f"event {request.sent.n} writes a resource that is not mapped"
            continue
        record = (contract.table.table, call.key or "")
        if not history.known(record):
            yield *record, f"event {request.sent.n} writes {call.pkey}, which carries no id of a row"
        allowed = {link.to for link in contract.links} | {one.attribute for one in contract.opt_outs}
        allowed = allowed.union(*(one.attributes for one in contract.versions))
        allowed |= {contract.table.key} if request.method == "POST" else set()
        further = set(names_of(request.body, contract.table.attributes)) - allowed
        if further:
            yield *record, f"event {request.sent.n} writes {', '.join(sorted(further))}"


def _is_trial(history: History, contract: Contract, record: Id, request: Request) -> bool:
    """Return True for an update with values that an answer had just shown, after a refused one (how it works, push)."""
    resource = contract.table.resource
    writes = [one for one in history.writes[resource, record[1]] if one.sent.n < request.sent.n]
    shown = [one for one in history.about(resource, record[1]) if one.method == "GET" and one.sent.n < request.sent.n]
    if request.method != "PATCH" or not (writes and shown) or writes[-1].acknowledged:
        return False
    opt_outs = {pair.attribute for pair in contract.opt_outs}  # sent as wanted, and judged by opt_out_rules.py
    names = set(names_of(request.body, contract.table.attributes)) - opt_outs
    return any(
        all(attribute_of(held, name) == attribute_of(request.body, name) for name in names)
        for held in history.with_key(resource, record[1], shown[-1].first.handled.n)
    )


@rule("The mapped payload, as Dynamics 365 last said; rows that fail the filter stay unchanged (design, one idea)")
def each_payload_is_a_version_of_the_row(history: History) -> Found:
    for contract, record, writes in each_write(history):
        for request in writes:
            if (
                request.method == "DELETE"
                or is_opt_out(contract, request)
                or _is_trial(history, contract, record, request)
            ):
                continue
            names = set[str]().union(*(one.attributes for one in contract.versions))
            attributes = any(has_attribute(request.body, name) for name in names)
            rows = [one.after for one in history.changes[record] if one.moment.n < request.sent.n]
            if attributes:
                rows = [row for row in rows if contract.ever_wanted(row)]
            if not any(_matches(history, contract, request.body, row) for row in rows):
                yield *record, f"event {request.sent.n} sends what no version of the row in scope says"
            if request.method == "POST" and any(
                link.required and not request.body.get(link.to) for link in contract.links
            ):
                yield *record, f"event {request.sent.n} inserts it without a link that it needs"


RULES = (
    no_update_without_need,
    no_second_insert_or_delete,
    a_lost_insert_is_looked_up_first,
    no_second_record,
    calls_are_bounded,
    only_our_records_are_written,
    each_payload_is_a_version_of_the_row,
)
