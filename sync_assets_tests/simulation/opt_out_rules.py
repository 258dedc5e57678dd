"""Rules about opt-outs: who may write them, which value wins, and that nothing echoes.

Where both sides cannot be compared exactly (a flag without times, a clock of Dynamics 365 that is wrong), only the
rules that need no times hold.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from sync_assets_tests.simulation.call_rules import is_opt_out
from sync_assets_tests.simulation.contract import Contract, OptOut
from sync_assets_tests.simulation.expected_records import ExpectedRecords
from sync_assets_tests.simulation.history import History, Id, Request
from sync_assets_tests.simulation.observed import Moment, Row
from sync_assets_tests.simulation.opt_out_facts import (
    OptOutChange,
    changes_by_people,
    contacts_with_opt_outs,
    deletions,
    files_with,
    has_times,
    of_present_profile,
)
from sync_assets_tests.simulation.violation import Found, rule

JUST_NOW = timedelta(minutes=15)
"""A write may have been decided so long before it took effect."""
CAPTURED_BY_THEN = timedelta(hours=2)
HOUSEKEEPING = frozenset(
    {"modifiedon", "versionnumber", "_modifiedby_value", "@odata.etag", "_modifiedonbehalfby_value"}
)
WRITES_D365 = ("campaign_to_d365", "bidirectional")


@rule("Nothing is written to D365 except opt-out attributes (design, rule 1)")
def dynamics_gets_opt_outs_only(history: History) -> Found:
    for (table, id_), changes in history.changes.items():
        contract = history.contracts[table]
        allowed = {one.column for one in contract.opt_outs} if contract.direction in WRITES_D365 else set[str]()
        for one in changes:
            if one.by == "program":
                if one.before is None or one.after is None:
                    yield table, id_, f"event {one.moment.n} inserts or deletes a row"
                    continue
                written = _written(one.before, one.after)
                if written - allowed or not allowed:
                    yield table, id_, f"event {one.moment.n} writes {', '.join(sorted(written - allowed)) or 'nothing'}"


def _written(before: Row, after: Row) -> set[str]:
    return {name for name in after if after[name] != before.get(name)} - HOUSEKEEPING


@rule("In Dynamics 365 a value of Campaign's is written; an opt-in only if it is newer there (opt-outs, decision)")
def each_opt_out_in_dynamics_comes_from_campaign(history: History) -> Found:
    for contract, record in contacts_with_opt_outs(history):
        for one in history.changes[record]:
            if one.by != "program" or one.before is None or one.after is None:
                continue
            for pair in contract.opt_outs:
                value = pair.opted_out(one.after)
                if pair.opted_out(one.before) != value and not _given(
                    history, contract, record, pair, one.moment, value
                ):
                    yield *record, f"event {one.moment.n} sets {pair.column} to {value}, which Campaign did not give"


def _given(history: History, contract: Contract, record: Id, pair: OptOut, moment: Moment, value: bool) -> bool:
    """Return True if Campaign gave this value: it held the opt-out, or a person took it back after the last change."""
    if value:
        return any(
            pair.attribute in one and one[pair.attribute] for one in _states(history, contract, record, moment.n)
        )
    users = [one for one in _user_changes(history, record) if one.n < moment.n]
    newest = max((one.at for one in users if one.at <= moment.at - JUST_NOW), default=None)
    for change in changes_by_people(history, contract, record, pair):
        if change.side == "campaign" and not change.opted_out and change.moment.n < moment.n:
            if contract.direction == "campaign_to_d365" or not has_times(history, pair):
                return True
            if newest is None or max(change.moment.at, change.stated or change.moment.at) > newest:
                return True
    return False


def _states(history: History, contract: Contract, record: Id, until: int) -> Iterator[dict[str, bool]]:
    for change in history.seen.others:
        if change.resource == contract.table.resource and change.moment.n < until:
            for state in (change.before, change.after):
                if state and state.get(contract.table.key) == record[1]:
                    yield dict(state)
    for request in history.writes.get((contract.table.resource, record[1]), ()):
        if request.sent.n < until and request.first.after:
            yield dict(request.first.after)


@rule("Campaign gets opt-outs by the configured direction, and only what it does not hold (opt-outs, writes)")
def each_opt_out_in_campaign_is_due(history: History) -> Found:
    for contract, record in contacts_with_opt_outs(history):
        for request in history.writes.get((contract.table.resource, record[1]), ()):
            pairs = [pair for pair in contract.opt_outs if pair.attribute in request.body]
            if contract.direction == "d365_to_campaign":
                if is_opt_out(contract, request):
                    yield from _never_said(history, record, pairs, request)
                continue
            if not pairs:
                continue
            if contract.direction == "campaign_to_d365":
                yield *record, f"event {request.sent.n} writes an opt-out to Campaign"
                continue
            for pair in pairs:
                rows = history.rows(record, request.sent.at - JUST_NOW, request.sent.n)
                if not request.body[pair.attribute]:
                    yield *record, f"event {request.sent.n} takes {pair.attribute} back in Campaign"
                elif not (
                    any(pair.opted_out(row) for row in rows)
                    or _ever_opted_out(history, record, pair, request.sent.n)
                    # Of a profile that was made anew: an earlier one was opted out.
                    or _given(history, contract, record, pair, request.sent, True)
                ):
                    yield *record, f"event {request.sent.n} sets {pair.attribute}, which no side ever held"


def _never_said(history: History, record: Id, pairs: list[OptOut], request: Request) -> Found:
    rows = [one.after for one in history.changes[record] if one.moment.n < request.sent.n]
    for pair in pairs:
        if not any(pair.opted_out(row) == request.body[pair.attribute] for row in rows):
            yield *record, f"event {request.sent.n} sets {pair.attribute} as Dynamics 365 never did"


def _ever_opted_out(history: History, record: Id, pair: OptOut, until: int) -> bool:
    """Return True if Dynamics 365 ever held the opt-out: the last capture may be long ago."""
    return any(pair.opted_out(one.after) for one in history.changes[record] if one.moment.n < until)


@rule("New profiles carry their opt-outs in the request that creates them (opt-outs, writes)")
def new_profiles_carry_their_opt_outs(history: History) -> Found:
    for contract, record in contacts_with_opt_outs(history):
        if contract.direction == "campaign_to_d365":
            continue
        for request in history.writes.get((contract.table.resource, record[1]), ()):
            if request.method != "POST":
                continue
            rows = [row for row in history.rows(record, request.sent.at - JUST_NOW, request.sent.n) if row]
            for pair in contract.opt_outs:
                if all(pair.opted_out(row) for row in rows) and not request.body.get(pair.attribute):
                    yield *record, f"event {request.sent.n} inserts it without {pair.attribute}"


@rule("Writing what is already there: never, so nothing echoes (design, opt-outs)")
def nothing_echoes(history: History) -> Found:
    for contract, record in contacts_with_opt_outs(history):
        resource, changes = contract.table.resource, history.changes[record]
        for before, one in pairwise(changes):
            same = one.before and one.after and not _written(one.before, one.after)
            if one.by == "program" and same and one.moment.at - before.moment.at > JUST_NOW:
                yield *record, f"event {one.moment.n} writes to Dynamics 365 what it holds"
        flags = {pair.attribute for pair in contract.opt_outs} - contract.attributes
        for request in history.writes.get((resource, record[1]), ()):
            call = request.first
            alone = (
                request.method == "PATCH" and bool(request.body) and set(request.body) <= flags - contract.attributes
            )
            seen = _last_seen(history, record, request)
            moved = any(
                change.moment.n > seen or change.moment.at > request.sent.at - JUST_NOW
                for change in history.seen.others
                if call.before and change.pkey == call.before["PKey"] and change.moment.n < call.handled.n
            )
            held = call.before and all(call.before.get(name) == value for name, value in request.body.items())
            # A request without an answer is repeated, and may overtake the repetition or be overtaken by it.
            repeated = any(
                one is not request and one.body == request.body and None in (one.delivered, request.delivered)
                for one in history.writes[resource, record[1]]
                if one.sent.n < call.handled.n
            )
            if alone and held and not (moved or repeated):
                yield *record, f"event {request.sent.n} writes to Campaign what it holds"
        yield from _too_many(history, contract, record)


def _last_seen(history: History, record: Id, request: Request) -> int:
    """Return the last event whose value of the opt-outs the program knew before it sent this request.

    The answer to an update tells what that wrote. Files that wait are read one after the other: what is due is written
    after the first.
    """
    about = history.about(history.contracts[record[0]].table.resource, record[1])
    telling = (one for one in about if one.method != "PATCH" or (one is not request and one.body.keys() & request.body))
    calls = (call for one in telling for call in one.calls)
    answers = (call.handled.n for call in calls if call.delivered and call.delivered.n < request.sent.n)
    files = (one.extracted.n for one in files_with(history, record) if one.read and one.read.n < request.sent.n)
    return max((*answers, *files), default=0)


def _too_many(history: History, contract: Contract, record: Id) -> Found:
    """Each change of a person moves the other side once, or its own side back. A row that comes back has new values.

    After a rebuild of an older ledger the files are news once more, one after the other. A late request, which a later
    one of the program has overtaken, has its effect once more, and is then set back.
    """
    writes = history.writes.get((contract.table.resource, record[1]), ())
    for pair in contract.opt_outs:
        if contract.direction not in WRITES_D365:
            continue
        here = [
            (one.sent or one.moment, one.moment)
            for one in history.changes[record]
            if one.by == "program" and pair.opted_out(one.before) != pair.opted_out(one.after)
        ]
        there = [
            (call.sent, call.handled)
            for request in writes
            for call in request.calls
            if call.took_effect and call.before and call.after
            if call.before.get(pair.attribute) != call.after.get(pair.attribute)
        ]
        late = sum(
            any(sent.n < other.n < effect.n for _, other in side) for side in (here, there) for sent, effect in side
        )
        came_back = sum(
            before.after is None and one.after is not None for before, one in pairwise(history.changes[record])
        )
        imports = [one for one in history.seen.others if one.by == "import" and one.after]
        inserts = sum(one.method == "POST" for one in writes)
        inserts += sum((one.after or {}).get(contract.table.key) == record[1] for one in imports)
        changes = changes_by_people(history, contract, record, pair, of_all_rows=True)
        read_again = sum(
            one.side == "campaign" and one.moment.n < back.n for one in changes for _, back in history.seen.restored
        )
        by_people = len(changes) + read_again + inserts + came_back
        if len(here) + len(there) > by_people + 2 * late:
            numbers = f"{len(here)} and {len(there)} times for {by_people} changes by people"
            yield *record, f"{pair.attribute} was written {numbers}"


@rule("Campaign's value wins if it is newer, else an opt-out on either side; Campaign to D365: each change (opt-outs)")
def opt_outs_agree_in_the_end(history: History) -> Found:
    if not history.seen.idle:
        return
    expected = ExpectedRecords(history)
    for contract, record in contacts_with_opt_outs(history):
        row, held = history.final_row(record), history.final_records(contract.table, record[1])
        if (
            contract.direction not in WRITES_D365
            or expected.of(record).kind != "present"
            or row is None
            or len(held) != 1
        ):
            continue
        for pair in contract.opt_outs:
            by_people = of_present_profile(history, contract, record, pair)
            last = next((change for change in reversed(by_people) if change.side == "campaign"), None)
            if last and not _reported(history, contract, record, last):
                continue
            here, there = pair.opted_out(row), bool(held[0][pair.attribute])
            if contract.direction == "campaign_to_d365":
                if not (last and _of_deleted_profile(history, contract, record, by_people)):
                    yield from _overwritten(history, record, pair, last, here)
            elif here != there:
                yield *record, f"{pair.column} means {here}, {pair.attribute} is {there}"
            elif not here and by_people and by_people[-1].opted_out and has_times(history, pair):
                if by_people[-1].side == "d365" and any(one.wrong_clock for one in by_people):
                    continue  # a time of Campaign that was ahead, and is past by now, is not known to be wrong
                yield *record, f"the opt-out {pair.attribute} of event {by_people[-1].moment.n} is lost"
            elif here and _taken_back(history, record, pair, by_people):
                yield *record, f"{pair.attribute} was taken back by event {by_people[-1].moment.n} and still stands"


def _reported(history: History, contract: Contract, record: Id, last: OptOutChange) -> bool:
    """Return True if a file contains what Campaign held after the last change there, or profiles are polled.

    A profile that was made anew reports nothing of the one before it.
    """
    opt_out = history.seen.configuration.get("opt_out", {})
    deleted = deletions(history, contract, record)
    until = min((n for n in deleted if n > last.moment.n), default=history.seen.end.n)
    polled = bool(opt_out.get("poll_profiles_minutes")) and until == history.seen.end.n
    return polled or any(last.moment.n < file.extracted.n <= until for file in files_with(history, record))


def _of_deleted_profile(history: History, contract: Contract, record: Id, by_people: list[OptOutChange]) -> bool:
    """Return True if Campaign's last change is an opt-in that contradicts an opt-out, of a profile that is deleted.

    By its time it is older than the opt-out, which a wrong clock dated: Campaign cannot be asked which one was last.
    """
    changes = [one for one in by_people if one.side == "campaign"]
    *earlier, last = changes
    deleted = any(n > last.moment.n for n in deletions(history, contract, record))
    contradicts = any(one.opted_out and one.stated and last.stated and one.stated > last.stated for one in earlier)
    return not last.opted_out and contradicts and deleted


def _overwritten(history: History, record: Id, pair: OptOut, last: OptOutChange | None, here: bool) -> Found:
    """Campaign's last change stands in Dynamics 365, unless a user changed the column afterwards.

    Also then an opt-out stands, once a later file has it: when it was processed, that change was captured.
    """
    if last is None or here == last.opted_out:
        return
    changes = [one for one in history.changes[record] if pair.opted_out(one.before) != pair.opted_out(one.after)]
    if not changes or changes[-1].by == "program" or changes[-1].moment.n < last.moment.n:
        yield *record, f"{pair.column} means {here}, event {last.moment.n} in Campaign gave {last.opted_out}"
    elif last.opted_out:
        file = max(history.seen.files, key=lambda one: one.extracted.n, default=None)
        is_old = file is not None and file.extracted.at - changes[-1].moment.at > CAPTURED_BY_THEN
        if file and is_old and file in files_with(history, record):
            yield *record, f"{pair.column} lost the opt-out, which the file {file.name} has"


def _taken_back(history: History, record: Id, pair: OptOut, by_people: list[OptOutChange]) -> bool:
    """Return True if a person opted in in Campaign after the contact was last modified.

    By the letter of the contract a write of the program modifies the contact, too: an opt-out that came from an older
    file may so outlive the opt-in that followed it in Campaign. An opt-out that a late request of the program sets
    again looks like a later one of the person, and stands.
    """
    if not by_people or by_people[-1].opted_out or by_people[-1].side != "campaign" or not has_times(history, pair):
        return False
    if by_people[-1].wrong_clock:
        return False  # it may be taken for an older change than the contact's
    n, resource = by_people[-1].moment.n, history.contracts[record[0]].table.resource
    writes = (call for request in history.writes.get((resource, record[1]), ()) for call in request.calls)
    if any(call.sent.n < n < call.handled.n and (call.body or {}).get(pair.attribute) for call in writes):
        return False
    second = _second(by_people[-1].moment.at)
    return not any(_second(one.moment.at) >= second for one in history.changes[record])


def _user_changes(history: History, record: Id) -> list[Moment]:
    return [one.moment for one in history.changes[record] if one.by == "user"]


def _second(at: datetime) -> datetime:
    return at.replace(microsecond=0)


RULES = (
    dynamics_gets_opt_outs_only,
    each_opt_out_in_dynamics_comes_from_campaign,
    each_opt_out_in_campaign_is_due,
    new_profiles_carry_their_opt_outs,
    nothing_echoes,
    opt_outs_agree_in_the_end,
)
