"""Facts about opt-outs in a history: who changed them, and where."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sync_assets_tests.simulation.contract import Contract, OptOut
from sync_assets_tests.simulation.history import History, Id
from sync_assets_tests.simulation.observed import ExportFile, Moment

WRONG = timedelta(minutes=4)
"""The difference of a clock that is wrong: at most 5 minutes count as none (opt_out/decide.py)."""
TIMELESS = "blackListPushnotification"
"""Campaign keeps no time of change of this opt-out."""


class OptOutChange(NamedTuple):
    """A change of an opt-out by a person. stated: its time by Campaign, whose clock may be wrong."""

    moment: Moment
    side: str
    opted_out: bool
    stated: datetime | None = None

    @property
    def wrong_clock(self) -> bool:
        return self.stated is not None and abs(self.stated - self.moment.at) > WRONG


def contacts_with_opt_outs(history: History) -> Iterator[tuple[Contract, Id]]:
    """Yield the contract of contacts with each of their ids; nothing if no opt-out is mapped."""
    contract = history.contracts.get("contact")
    if contract is not None and contract.opt_outs:
        for record in list(history.changes):
            if record[0] == "contact":
                yield contract, record


def changes_by_people(
    history: History, contract: Contract, record: Id, pair: OptOut, *, of_all_rows: bool = False
) -> list[OptOutChange]:
    """Return the changes of an opt-out by people on both sides, in order. The default of a new record is none.

    A row that was deleted and inserted again is another one: earlier opt-outs were deleted with the first, and are left
    out unless `of_all_rows`.
    """
    inserts = (one.moment.n for one in history.changes[record] if one.before is None)
    inserted = 0 if of_all_rows else max(inserts, default=0)
    by_people = [
        OptOutChange(one.moment, "d365", pair.opted_out(one.after))
        for one in history.changes[record]
        if one.moment.n >= inserted
        and one.by == "user"
        and one.after
        and pair.opted_out(one.before) != pair.opted_out(one.after)
    ]
    key = contract.table.key
    for change in history.seen.others:
        if change.by == "import" or change.resource != contract.table.resource:
            continue
        if change.after and change.after.get(key) == record[1]:
            before, after = (change.before or {}).get(pair.attribute, False), change.after[pair.attribute]
            if before != after:
                time = change.after.get(f"{pair.attribute}LastModified")
                stated = datetime.fromisoformat(str(time)) if time else None
                by_people.append(OptOutChange(change.moment, "campaign", after, stated))
    return sorted(by_people)


def of_present_profile(history: History, contract: Contract, record: Id, pair: OptOut) -> list[OptOutChange]:
    """Return the changes by people, without those in Campaign of a profile that was deleted with its contact.

    A contact that comes back with the same id gets another profile: opt-outs are kept until the profile is deleted. One
    that others deleted before the contact came back is not the present one, even if they import it again later.
    """
    inserted = max((one.moment.n for one in history.changes[record] if one.before is None), default=0)
    posts = _calls_with_effect(history, contract, record, "POST")
    made_anew = min(inserted, max((*posts, *history.inserted_otherwise(record)), default=0))
    since = max(made_anew, *(n for n in deletions(history, contract, record) if n < inserted), 0)
    changes = changes_by_people(history, contract, record, pair)
    return [one for one in changes if one.side == "d365" or one.moment.n >= since]


def deletions(history: History, contract: Contract, record: Id) -> list[int]:
    """Return the events that deleted the profile."""
    table = contract.table
    return _calls_with_effect(history, contract, record, "DELETE") + [
        one.moment.n
        for one in history.seen.others
        if (one.resource, one.after) == (table.resource, None) and (one.before or {}).get(table.key) == record[1]
    ]


def _calls_with_effect(history: History, contract: Contract, record: Id, method: str) -> list[int]:
    requests = history.writes.get((contract.table.resource, record[1]), ())
    return [call.handled.n for one in requests if one.method == method for call in one.calls if call.took_effect]


def has_times(history: History, pair: OptOut) -> bool:
    """Return True if the times of changes on both sides can be compared."""
    return pair.attribute != TIMELESS and not history.seen.premises.get("clock_offset_seconds")


def files_with(history: History, record: Id) -> list[ExportFile]:
    """Return the opt-out files with a row of the profile."""
    column = history.seen.configuration.get("opt_out", {}).get("export", {}).get("key_column", "externalId")
    return [file for file in history.seen.files if any(row.get(column) == record[1] for row in file.rows)]
