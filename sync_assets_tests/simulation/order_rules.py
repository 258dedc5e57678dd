"""Rules about the order of requests to Campaign: parents and children, deletions, privacy holds."""

from __future__ import annotations

from datetime import datetime

from sync_assets_tests.simulation.call_rules import SLACK, each_write, is_opt_out, rows_since
from sync_assets_tests.simulation.contract import Contract
from sync_assets_tests.simulation.history import History, Id, Request
from sync_assets_tests.simulation.observed import Hold, Row
from sync_assets_tests.simulation.violation import Found, rule


@rule("No request for a child before its parent stands in Campaign (design, links)")
def parents_come_before_their_children(history: History) -> Found:
    for contract, record, writes in each_write(history):
        for request in writes:
            for link in contract.links:
                parent = history.target(request.body.get(link.to))
                if parent is None or link.loose:
                    continue
                resource = history.contracts[link.parent].table.resource
                if not history.with_key(resource, parent, request.sent.n):
                    yield *record, f"event {request.sent.n} links it to {parent}, which is not in Campaign"
                elif not history.shown_before(resource, parent, request.sent.n):
                    yield *record, f"event {request.sent.n} links it to {parent}, which no answer had shown"


@rule("Children go first for deletes: a parent goes once its last child is deleted or unlinked (how it works)")
def children_go_before_their_parents(history: History) -> Found:
    for contract, record, writes in each_write(history):
        for request in writes:
            if request.method != "DELETE":
                continue
            for children in history.contracts.values():
                for link in children.links:
                    if link.parent == contract.table.table and not link.loose:
                        yield from _linked_children(history, children, link.to, record, request)


def _linked_children(history: History, children: Contract, link: str, record: Id, request: Request) -> Found:
    for child in history.records_at(children.table.resource, request.sent.n):
        key = child[children.table.key]
        if history.known((children.table.table, key)) and history.target(child.get(link)) == record[1]:
            yield *record, f"event {request.sent.n} deletes it, though {children.table.table} {key} is linked to it"


@rule("Deleted are records whose row is deleted or filtered out, if so configured, and children of such (how it works)")
def nothing_in_scope_is_deleted(history: History) -> Found:
    for contract, record, writes in each_write(history):
        for n, request in enumerate(writes):
            if request.method != "DELETE" or _may_go(history, contract, record, writes[:n], request):
                continue
            lost = _lost_requests(history, contract, writes[:n], request.sent.n)
            if not (lost and _cannot_be_sent(history, contract, record, lost, request.sent.n)):
                yield *record, f"event {request.sent.n} deletes it, though its row is in scope"


def _may_go(history: History, contract: Contract, record: Id, earlier: list[Request], request: Request) -> bool:
    """Return True if the row, or a row above it, was to be deleted at some time since it was sent last."""
    sent = next((one for one in reversed(earlier) if one.method != "DELETE" and one.acknowledged), None)
    rows = rows_since(history, contract, record, sent, request.sent.n) if sent else []
    return _left_scope(history, contract, record, rows or _all_rows(history, record, request.sent.n), request.sent.n)


def _lost_requests(history: History, contract: Contract, earlier: list[Request], until: int) -> list[Request]:
    """Return the inserts and updates whose answer was lost, and after which no answer showed what Campaign holds."""
    lost: list[Request] = []
    for one in reversed(earlier):
        if is_opt_out(contract, one):
            continue
        answered = one.delivered and not history.crashed(one.first.process, one.sent.n, until)
        if answered and one.acknowledged:
            break
        if not answered and one.method != "DELETE":
            lost.append(one)
    return lost


def _cannot_be_sent(history: History, contract: Contract, record: Id, lost: list[Request], until: int) -> bool:
    """Return True for the two kinds of children that are deleted after a lost answer (how it works, link order)."""
    since = lost[-1].sent.at - SLACK
    rows = [row for row in history.rows(record, since, until) if row]
    if any(one.method == "POST" for one in lost) and any(
        _has_no_parent(history, contract, row, since, until) for row in rows
    ):
        return True
    return any(contract.ever_invalid(row) for row in rows) and any(
        _left_scope(history, history.contracts[link.parent], parent, history.rows(parent, since, until), until)
        for link, parent in history.parents_ever(record, until)
        if not link.loose
    )


def _has_no_parent(history: History, contract: Contract, row: Row, since: datetime, until: int) -> bool:
    """Return True if a required link of the row has no parent, or one that is unavailable at some time."""
    for link in contract.links:
        id_ = row[f"_{link.column}_value"]
        if link.required and (id_ is None or _unavailable(history, (link.parent, id_), since, until)):
            return True
    return False


def _unavailable(history: History, parent: Id, since: datetime, until: int) -> bool:
    """Return True if a parent is to be deleted, or Campaign does not have it and it is not in scope or rejected."""
    contract, rows = history.contracts[parent[0]], history.rows(parent, since, until)
    if any(contract.ever_leaves(row) for row in rows):
        return True
    if history.with_key(contract.table.resource, parent[1], until):
        return False
    return any((refusal.table, refusal.id) == parent for refusal in history.seen.refusals) or any(
        row is None
        or not all(one.passes(row) for one in contract.versions)
        or contract.ever_invalid(row)
        or _has_no_parent(history, contract, row, since, until)
        for row in rows
    )


def _all_rows(history: History, record: Id, until: int) -> list[Row | None]:
    return [change.after for change in history.changes[record] if change.moment.n < until]


def _left_scope(history: History, contract: Contract, record: Id, rows: list[Row | None], until: int) -> bool:
    if any(contract.ever_leaves(row) for row in rows):
        return True
    # A child that became an orphan goes with the parent to which Campaign has linked it, maybe one of long ago.
    above = {parent for link, parent in history.parents_ever(record, until) if link.required}
    return any(
        _left_scope(history, history.contracts[parent[0]], parent, _all_rows(history, parent, until), until)
        for parent in above
    )


@rule("A held contact is written on neither side (design, rule 5)")
def held_contacts_are_left_alone(history: History) -> Found:
    for hold in history.seen.holds:
        until = hold.until.n if hold.until else history.seen.end.n
        resource = history.contracts["contact"].table.resource
        for request in history.writes.get((resource, hold.contact), ()):
            if hold.since.n < request.sent.n < until:
                yield "contact", hold.contact, f"event {request.sent.n} writes it in Campaign"
        for change in history.changes["contact", hold.contact]:
            if change.by == "program" and hold.since.n < change.moment.n < until:
                yield "contact", hold.contact, f"event {change.moment.n} writes it in Dynamics 365"


@rule("The records of a person without a contact at the release are never inserted or updated again (privacy delete)")
def excluded_records_are_not_sent(history: History) -> Found:
    for hold in history.seen.holds:
        if hold.released is None or not history.missing_at_release(hold):
            continue
        later = [one.until.n for one in history.seen.holds if one.until and one.contact == hold.contact]
        until = min((n for n in later if n > hold.released.n), default=history.seen.end.n)
        for contract, record, writes in each_write(history):
            for one in writes:
                now = one.method != "DELETE" and hold.released.n < one.sent.n < until
                if now and _belongs(history, contract, record, hold, one.sent.n):
                    yield *record, f"event {one.sent.n} writes it, though its person is excluded"


def _belongs(history: History, contract: Contract, record: Id, hold: Hold, until: int) -> bool:
    """Return True for the contact, and for a row that has named it, or a row of the person's, since the hold began."""
    if record == ("contact", hold.contact):
        return True
    rows = history.rows(record, hold.since.at, until)
    return any(
        all(
            row is not None
            and (parent := row[f"_{link.column}_value"]) is not None
            and _belongs(history, history.contracts[link.parent], (link.parent, parent), hold, until)
            for row in rows
        )
        for link in contract.links
    )


RULES = (
    parents_come_before_their_children,
    children_go_before_their_parents,
    nothing_in_scope_is_deleted,
    held_contacts_are_left_alone,
    excluded_records_are_not_sent,
)
