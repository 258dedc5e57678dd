"""Rules about the end of a run: both sides, the ledger's report, and what belongs to others."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any

from sync_assets_tests.simulation.call_rules import is_opt_out
from sync_assets_tests.simulation.contract import Contract, Mapped, attribute_of
from sync_assets_tests.simulation.expected_records import ExpectedRecords
from sync_assets_tests.simulation.history import History, Id, Request, content
from sync_assets_tests.simulation.observed import CallKind, Row
from sync_assets_tests.simulation.violation import Found, rule

MIDNIGHT_SLACK = timedelta(minutes=2)
"""A call so near to midnight may be counted on either day."""
UNSTORED = timedelta(minutes=15)
"""A crash may lose the count of calls answered so long before, with their outcomes: a batch of opt-outs is long."""


@rule("A crash anywhere loses nothing; a record or table that cannot go on never stops the others (design)")
def the_run_ends_idle(history: History) -> Found:
    if history.seen.idle:
        return
    # An update of a hidden record is tried again for ever if Campaign names no cause.
    hidden = Counter(table for table, id_ in history.changes if history.hidden_for_good((table, id_)))
    pending = {table: counts["pending"] for table, counts in history.seen.ledger.counts.items() if counts["pending"]}
    if not pending or any(number > hidden[table] for table, number in pending.items()):
        yield "", "", f"the last sync left this: {dict(history.seen.ledger.counts)}"


@rule("Campaign holds what Dynamics 365 said last, by mapping, filter and links (design, one idea)")
def both_sides_agree(history: History) -> Found:
    if not history.seen.idle:
        return
    expected = ExpectedRecords(history)
    for table in history.seen.tables:
        contract = history.contracts[table.table]
        ids = {id_ for of, id_ in history.changes if of == table.table}
        for id_ in sorted(ids):
            record = (table.table, id_)
            one, held = expected.of(record), history.final_records(table, id_)
            if len(held) > 1:
                inserts = (one for one in history.writes.get((table.resource, id_), ()) if one.method == "POST")
                if any(history.repeats_a_late_import(table.resource, id_, one) for one in inserts):
                    continue  # Campaign chooses which of them is updated
                yield *record, f"{len(held)} records have its id"
            if one.kind in ("kept", "open") or _others_moved(history, contract, id_):
                continue
            if one.kind == "absent" and held and not _deleted_while_hidden(history, contract, id_):
                yield *record, "Campaign still holds it"
            if one.mapped is not None and not held:
                yield *record, "Campaign does not hold it"
            elif one.mapped is not None:
                yield from _differences(history, contract, record, one.mapped, held[0])


def _effects(history: History, contract: Contract, id_: str, *, opt_outs: bool = True) -> Iterator[Any]:
    for request in history.writes.get((contract.table.resource, id_), ()):
        if opt_outs or not is_opt_out(contract, request):
            yield from (call for call in request.calls if call.took_effect)


def _deleted_while_hidden(history: History, contract: Contract, id_: str) -> bool:
    """Return True if a delete, or its lookup, did not find the record: its profile did not have the new key."""
    return bool(history.seen.former_keys) and any(
        call.method in ("DELETE", "GET") and call.status == 404 and call.after
        for request in history.about(contract.table.resource, id_)
        for call in request.calls
    )


def _others_moved(history: History, contract: Contract, id_: str) -> bool:
    """Return True if others deleted the record after our last write, or inserted it by a late run of an import.

    Opt-outs do not count: they are written to any profile with our id.
    """
    resource, key = contract.table.resource, contract.table.key
    since = max((call.handled.n for call in _effects(history, contract, id_, opt_outs=False)), default=0)
    return any(
        None in (change.before, change.after)
        and id_ in ((change.before or {}).get(key), (change.after or {}).get(key))
        and change.moment.n > since
        for change in history.seen.others
        if change.resource == resource and change.by == "others"
    )


def _differences(history: History, contract: Contract, record: Id, mapped: Mapped, held: Any) -> Found:
    others = _attributes_of_others(history, contract, record[1])
    for name, value in mapped.values.items():
        if name in others:
            continue
        allowed = [value]
        if name in contract.once:
            rows = [change.after for change in history.changes[record] if change.after is not None]
            allowed = [contract.mapped(row).values.get(name) for row in rows]
        seen = attribute_of(held, name)
        if not any(contract.same(name, seen, one, stored=True) for one in allowed):
            yield *record, f"{name} is {seen!r} in Campaign and should be {value!r}"
    for link in contract.links:
        seen = history.target(held.get(link.to)) or None  # a parent without the key: of the former target
        if link.to not in others and seen != mapped.parents[link.to]:
            yield *record, f"{link.to} leads to {seen} and should lead to {mapped.parents[link.to]}"


def _attributes_of_others(history: History, contract: Contract, id_: str) -> set[str]:
    """Return what other people changed since we wrote it last: Campaign keeps it until Dynamics 365 changes.

    After a change of the mapping an update carries the attributes alone that differ by it.
    """
    names: set[str] = set()
    written: dict[str, int] = {}
    for call in sorted(_effects(history, contract, id_), key=lambda call: call.handled.n):
        written |= dict.fromkeys(call.body or {}, call.handled.n)
    for change in history.seen.others:
        before, after = content(change.before) or {}, content(change.after) or {}
        mine = change.resource == contract.table.resource and id_ in (
            before.get(contract.table.key),
            after.get(contract.table.key),
        )
        if mine and change.by == "others":
            changed = {name for name in contract.attributes if _differs(before, after, name)}
            changed |= {link.to for link in contract.links if before.get(link.to) != after.get(link.to)}
            names |= {name for name in changed if change.moment.n > written.get(name.partition(".")[0], 0)}
    return names


def _differs(before: dict[str, Any], after: dict[str, Any], name: str) -> bool:
    first = name.partition(".")[0]
    return before.get(first) != after.get(first)


@rule("Records without our id are never touched (design, rule 1)")
def records_of_others_stay_as_they_are(history: History) -> Found:
    last: dict[tuple[str, str], Any] = {}
    for change in history.seen.others:
        last[change.resource, change.pkey] = change
    for (resource, pkey), change in last.items():
        contract = history.by_resource.get(resource)
        after = content(change.after)
        if after is None or (contract and history.known((contract.table.table, after[contract.table.key]))):
            continue
        records = history.seen.final_records.get(resource, ())
        held = next((content(one) for one in records if one["PKey"] == pkey), None)
        if held != after:
            names = sorted({name for name in after if (held or {}).get(name) != after[name]})
            yield resource, pkey, f"it is gone or differs in {', '.join(names)}"


@rule("Rejected are the records that a server or our mapping refused, no others (glossary)")
def only_refused_records_are_rejected(history: History) -> Found:
    expected = ExpectedRecords(history)
    for table, ids in history.seen.ledger.rejected.items():
        contract = history.contracts[table]
        refused = {one.id for one in history.seen.refusals if one.table == table}
        for id_ in sorted(ids - refused):
            rows: list[Row | None] = [change.after for change in history.changes[table, id_]]
            invalid = any(row is not None and contract.mapped(row).invalid for row in rows)
            removed = (table, id_) in history.removed_by_others or history.hidden_for_good((table, id_))
            # Of a parent out of scope, which no replay sends again, or of one that Campaign hides.
            removed = removed or any(
                history.hidden_for_good(parent)
                or (
                    parent in history.removed_by_others
                    and not history.final_records(history.contracts[parent[0]].table, parent[1])
                )
                for _, parent in history.parents_ever((table, id_))
            )
            if not (invalid or removed):
                yield table, id_, f"it is rejected; expected: {expected.of((table, id_)).kind}"


@rule("A child whose parent is not acknowledged is waiting, and goes by itself once it is (design, links)")
def exactly_the_children_without_a_parent_wait(history: History) -> Found:
    if not history.seen.idle:
        return
    expected, ledger = ExpectedRecords(history), history.seen.ledger
    for (table, id_), changes in history.changes.items():
        del changes
        record, contract = (table, id_), history.contracts[table]
        waits = id_ in ledger.waiting.get(table, ()) or id_ in ledger.orphaned.get(table, ())
        if expected.of(record).kind == "present" and waits:
            yield *record, "it waits or is orphaned, though its parents are in Campaign"
        row = history.final_row(record)
        if row is None or not contract.passes(row) or contract.mapped(row).invalid or expected.rejected_once(record):
            continue
        if record in expected.held | expected.excluded:
            continue
        children_go_first = any(
            record == parent
            for child in history.removed_by_others
            if child[1] in ledger.rejected.get(child[0], ())
            for _, parent in history.parents_ever(child)
        )
        if expected.lost(record, row) and id_ in ledger.waiting.get(table, ()) and not children_go_first:
            yield *record, "it waits for a parent that is gone for good, instead of being orphaned"
        refused = id_ in ledger.rejected.get(table, ()) and history.orphaned_by_others(record)  # it stood until then
        if _has_no_parent(history, contract, row) and not (
            waits or refused or history.final_records(contract.table, id_)
        ):
            yield *record, "a parent that it needs is not in Campaign; it neither waits nor is orphaned"


def _has_no_parent(history: History, contract: Contract, row: Row) -> bool:
    parents = contract.mapped(row).parents
    for link in contract.links:
        parent = parents[link.to]
        if link.required and (
            parent is None or not history.final_records(history.contracts[link.parent].table, parent)
        ):
            return True
    return False


@rule("Every engine call that reached the engine is counted once, on its UTC day (contract, commands)")
def the_ledger_counts_each_engine_call_once(history: History) -> Found:
    counted: Counter[CallKind] = Counter()
    for kinds in history.seen.ledger.engine_calls.values():
        counted.update(kinds)
    certain, unsure = Counter[CallKind](), Counter[CallKind](kind for _, kind in history.seen.unanswered)
    by_day: defaultdict[str, Counter[CallKind]] = defaultdict(Counter)
    for request in history.requests:
        sure = request.answer and not _lost_by_a_crash(history, request)
        (certain if sure else unsure)[request.kind] += 1
        near = {
            (request.sent.at + slack).astimezone(UTC).date().isoformat() for slack in (-MIDNIGHT_SLACK, MIDNIGHT_SLACK)
        }
        if sure and len(near) == 1:
            by_day[near.pop()][request.kind] += 1
    for kind in ("insert", "update", "delete", "read"):
        if not certain[kind] <= counted[kind] <= certain[kind] + unsure[kind]:
            yield (
                "",
                kind,
                f"the ledger counts {counted[kind]}; answered {certain[kind]}, without an answer {unsure[kind]}",
            )
        for day, kinds in by_day.items():
            if history.seen.ledger.engine_calls.get(day, {}).get(kind, 0) < kinds[kind]:
                yield "", kind, f"on {day} the ledger counts fewer than the {kinds[kind]} that were answered"


def _lost_by_a_crash(history: History, request: Request) -> bool:
    since, until = request.sent.at, request.sent.at + UNSTORED
    if history.restored(request.sent.n, request.sent.n):
        return True
    return any(of == request.first.process and since <= moment.at <= until for moment, of in history.seen.crashes)


RULES = (
    the_run_ends_idle,
    both_sides_agree,
    records_of_others_stay_as_they_are,
    only_refused_records_are_rejected,
    exactly_the_children_without_a_parent_wait,
    the_ledger_counts_each_engine_call_once,
)
