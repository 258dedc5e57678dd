"""Rules about the order of requests to Campaign: parents and children, deletions, privacy holds."""

from __future__ import annotations

from sync_assets_tests.simulation.call_rules import each_write, rows_since
from sync_assets_tests.simulation.contract import Contract
from sync_assets_tests.simulation.history import History, Id, Request
from sync_assets_tests.simulation.observed import Row
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
    for child in history.standing(children.table.resource, request.sent.n):
        key = child[children.table.key]
        if history.known((children.table.table, key)) and history.target(child.get(link)) == record[1]:
            yield *record, f"event {request.sent.n} deletes it, though {children.table.table} {key} is linked to it"


@rule("Deleted are records whose row is deleted or filtered out, if so configured, and children of such (how it works)")
def nothing_in_scope_is_deleted(history: History) -> Found:
    for contract, record, writes in each_write(history):
        for n, request in enumerate(writes):
            if request.method == "DELETE" and not _may_go(history, contract, record, writes[:n], request):
                yield *record, f"event {request.sent.n} deletes it, though its row is in scope"


def _may_go(history: History, contract: Contract, record: Id, earlier: list[Request], request: Request) -> bool:
    """Return True if the row, or a row above it, was to be deleted at some time since it was sent last."""
    sent = next((one for one in reversed(earlier) if one.method != "DELETE" and one.acknowledged), None)
    rows = rows_since(history, contract, record, sent, request.sent.n) if sent else []
    return _left_scope(history, contract, record, rows or _all_rows(history, record, request.sent.n), request.sent.n)


def _all_rows(history: History, record: Id, until: int) -> list[Row | None]:
    return [change.after for change in history.changes[record] if change.moment.n < until]


def _left_scope(history: History, contract: Contract, record: Id, rows: list[Row | None], until: int) -> bool:
    if any(contract.leaves(row) for row in rows):
        return True
    # A child that became an orphan goes with the parent to which Campaign has linked it, maybe one of long ago.
    above = {
        (link.parent, str(row[f"_{link.column}_value"]))
        for link in contract.links
        if link.required
        for row in _all_rows(history, record, until)
        if row
    }
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


RULES = (
    parents_come_before_their_children,
    children_go_before_their_parents,
    nothing_in_scope_is_deleted,
    held_contacts_are_left_alone,
)
