"""Rules about the order of requests to Campaign: parents and children, deletions, privacy holds."""

from sync_assets_tests.simulation.call_rules import each_write, is_opt_out, rows_since
from sync_assets_tests.simulation.contract import Contract
from sync_assets_tests.simulation.expected_records import ExpectedRecords
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
                    former_key = any(parent in one.values() for one in history.records_at(resource, request.sent.n))
                    if former_key or (link.parent, parent) in history.removed_by_others:
                        continue  # the ledger cannot know
                    yield *record, f"event {request.sent.n} links it to {parent}, which is not in Campaign"
                elif not history.shown_before(resource, parent, request.sent.n):
                    yield *record, f"event {request.sent.n} links it to {parent}, which no answer had shown"


@rule("Children go first for deletes: a parent goes once its last child is deleted or unlinked (how it works)")
def children_go_before_their_parents(history: History) -> Found:
    excluded = ExpectedRecords(history).excluded
    for contract, record, writes in each_write(history):
        for request in writes:
            if request.method != "DELETE" or request.first.before is None:
                continue  # others had removed it
            for children in history.contracts.values():
                for link in children.links:
                    if link.parent == contract.table.table and not link.loose:
                        yield from _linked_children(history, excluded, children, link.to, record, request)


def _linked_children(
    history: History, excluded: set[Id], children: Contract, link: str, record: Id, request: Request
) -> Found:
    """Yield the children that are linked to a record as it is deleted, except orphans that Campaign is to keep."""
    for child in history.records_at(children.table.resource, request.sent.n):
        id_ = (children.table.table, child[children.table.key])
        if not history.known(id_) or history.target(child.get(link)) != record[1] or history.unknown_to_a_copy(id_):
            continue
        if id_ in excluded or record in excluded:
            continue  # of a person who was deleted: not updated again, unless its row was assigned to another contact
        if history.inserted_unseen(children.table.resource, child, id_[1], request.sent.n):
            continue  # the ledger cannot know
        if not (children.ever_keeps(link, keeps=True) and _orphaned(history, id_, request.sent.n)):
            yield *record, f"event {request.sent.n} deletes it, though {id_[0]} {id_[1]} is linked to it"


@rule("Deleted are records whose row is deleted or filtered out, if so configured, and orphans, if so (how it works)")
def nothing_in_scope_is_deleted(history: History) -> Found:
    for contract, record, writes in each_write(history):
        for n, request in enumerate(writes):
            if request.method != "DELETE":
                continue
            of_row = [one for one in writes[:n] if one.method != "DELETE" and not is_opt_out(contract, one)]
            sent = next((one for one in reversed(of_row) if one.acknowledged), None)
            rows = rows_since(history, contract, record, sent, request.sent.n) if sent else []
            rows = rows or _all_rows(history, record, request.sent.n)
            if any(contract.ever_leaves(row) for row in rows):
                continue
            if not _orphaned(history, record, request.sent.n, keeps=False):
                yield *record, f"event {request.sent.n} deletes it, though its row is in scope"


def _orphaned(history: History, record: Id, until: int, *, keeps: bool | None = None) -> bool:
    """Return True if the record had no parent that it requires at some time.

    keeps: only by links whose orphans Campaign keeps, or by those whose orphans are deleted; None: by any.
    """
    contract = history.contracts[record[0]]
    required = [link for link in contract.links if link.required]
    if keeps is not None:
        required = [link for link in required if contract.ever_keeps(link.to, keeps=keeps)]
    columns = {f"_{link.column}_value" for link in required}
    rows = [row for row in _all_rows(history, record, until) if row is not None]
    if any(row[column] is None for row in rows for column in columns):
        return True
    parents = [parent for link, parent in history.parents_ever(record, until) if link in required]
    return any(_gone(history, parent, until) for parent in parents)


def _gone(history: History, parent: Id, until: int) -> bool:
    """Return True if a parent was to be deleted, was not in scope and not in Campaign, or was an orphan itself."""
    contract, rows = history.contracts[parent[0]], _all_rows(history, parent, until)
    if not rows or any(contract.ever_leaves(row) for row in rows) or _orphaned(history, parent, until):
        return True
    out = any(not one.wanted(row) for one in contract.versions for row in rows)
    return out and not history.with_key(contract.table.resource, parent[1], until)


def _all_rows(history: History, record: Id, until: int) -> list[Row | None]:
    return [change.after for change in history.changes[record] if change.moment.n < until]


@rule("A held contact is written on neither side, nor are the person's other records (design, rule 5)")
def held_contacts_are_left_alone(history: History) -> Found:
    for hold in history.seen.holds:
        until = hold.until.n if hold.until else history.seen.end.n
        for contract, record, writes in each_write(history):
            for request in writes:
                if hold.since.n < request.sent.n < until and _belongs(history, contract, record, hold, request.sent.n):
                    yield *record, f"event {request.sent.n} writes it in Campaign"
        for change in history.changes["contact", hold.contact]:
            if change.by == "program" and hold.since.n < change.moment.n < until:
                yield "contact", hold.contact, f"event {change.moment.n} writes it in Dynamics 365"


@rule("`hold verify` says gone once no request can make a record of the person again (how it works, lost answers)")
def who_is_gone_stays_gone(history: History) -> Found:
    resource = history.contracts["contact"].table.resource
    for one in history.seen.verified:
        if not one.gone:
            continue
        # A row that a user inserts meanwhile may be missed.
        rows = [history.row(("contact", one.contact), at.n) for at in (one.began, one.moment)]
        if history.with_key(resource, one.contact, one.moment.n) or all(rows):
            yield "contact", one.contact, f"event {one.moment.n} says that it is gone, and a system has it"
        holds = [hold for hold in history.seen.holds if hold.contact == one.contact and hold.since.n < one.moment.n]
        until = holds[-1].until.n if holds and holds[-1].until else history.seen.end.n
        for (of, id_), requests in history.writes.items():
            record = (history.by_resource[of].table.table, id_)
            for call in (call for request in requests for call in request.calls):
                later = call.took_effect and call.after and one.moment.n < call.handled.n < until
                made_anew = history.row(record, call.handled.n) and not history.row(record, one.began.n)
                if later and not made_anew and _only_ever(history, record, ("contact", one.contact), call.handled.n):
                    yield *record, f"event {call.handled.n} writes it after event {one.moment.n} said that it is gone"
        name = history.by_resource[resource].table.key
        for change in history.seen.others:
            of_person = change.by == "import" and change.resource == resource
            if of_person and (change.after or {})[name] == one.contact and one.moment.n < change.moment.n < until:
                yield "contact", one.contact, f"event {change.moment.n} imports it after event {one.moment.n} said so"


def _only_ever(history: History, record: Id, person: Id, until: int) -> bool:
    """Return True for the person, and for a record all of whose parents, as far as they were read, are the person's.

    A row that was deleted and inserted again is another one.
    """
    since = history.made_anew(record, until)
    parents = [parent for _, parent in history.parents_ever(record, until, since=since, read=True)]
    return record == person or (bool(parents) and all(_only_ever(history, one, person, until) for one in parents))


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
                # An opt-out is written as long as Campaign has the profile: no mail reaches the person.
                opts_out = is_opt_out(contract, one) and all(one.body.values())
                if now and not opts_out and _belongs(history, contract, record, hold, one.sent.n):
                    yield *record, f"event {one.sent.n} writes it, though its person is excluded"


def _belongs(history: History, contract: Contract, record: Id, hold: Hold, until: int) -> bool:
    """Return True for the contact, and for a row that has named it, or a row of the person's, since the hold began.

    Only versions count that the program may have read.
    """
    if record == ("contact", hold.contact):
        return True
    rows = history.rows_read(record, hold.since.at, until)
    return bool(rows) and any(
        all(
            row is not None
            and (parent := row[f"_{link.column}_value"]) is not None
            and _belongs(history, history.contracts[link.parent], (link.parent, parent), hold, until)
            for row in rows
        )
        for link in contract.links
    )


@rule("A mandatory link that is not among the `links` stops its table before the first write (links and deletions)")
def nothing_is_sent_that_campaign_would_hide(history: History) -> Found:
    for table, since, until in history.seen.unmapped:
        for contract, record, writes in each_write(history):
            for one in writes:
                if contract.table.table == table and since.n < one.sent.n < until.n:
                    yield *record, f"event {one.sent.n} writes it while its link is not mapped"


RULES = (
    parents_come_before_their_children,
    children_go_before_their_parents,
    nothing_in_scope_is_deleted,
    held_contacts_are_left_alone,
    who_is_gone_stays_gone,
    excluded_records_are_not_sent,
    nothing_is_sent_that_campaign_would_hide,
)
