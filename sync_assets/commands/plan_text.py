"""Render the document of `plan` for people."""

from datetime import timedelta

from sync_assets.commands.plan_changes import show_changes
from sync_assets.commands.plan_document import PlanDocument
from sync_assets.commands.status import orphaned_sentence
from sync_assets.commands.terminal import Parts, number_table
from sync_assets.commands.values import fields
from sync_assets.words import counted, duration

PLANNED = ("insert", "update", "delete", "unchanged", "pending", "waiting", "rejected", "held")
OPT_OUTS_DUE = ("decide", "to_d365", "to_campaign", "rejected", "held")


def show(document: PlanDocument) -> Parts:
    """Show what would happen to the records, what it costs, and notes; last the calls and their duration."""
    tables = document.tables
    yield from show_changes(tables)
    yield number_table("table", PLANNED, {name: fields(table, *PLANNED) for name, table in tables.items()})
    yield ""
    costs = {name: (*table.engine_calls.values(), sum(table.engine_calls.values())) for name, table in tables.items()}
    yield number_table("engine calls", (*document.engine_calls, "in all"), costs)
    if document.opt_out:
        yield ""
        yield number_table("", OPT_OUTS_DUE, {"opt-outs": document.opt_out})
    for name, table in tables.items():
        for reason, number in table.waiting_for.items():
            yield f"{name}: {counted(number, 'record', 'wait')} for {reason}."
        if table.orphaned:
            yield orphaned_sentence(name, table.orphaned)
    calls, budget = sum(document.engine_calls.values()), document.budget
    if budget and calls:
        later_calls, per_day = calls - budget.fits_today, budget.engine_calls_per_day
        days = counted(-(-later_calls // max(1, per_day)), "more day")
        later = f"the other {later_calls:,} take {days}" if later_calls else "that is all of them"
        yield (
            f"engine_calls_per_day is {per_day:,}, {budget.used_today:,} were made today: {budget.fits_today:,} "
            f"of {calls:,} fit today, {later}."
        )
    yield from document.notes
    if not calls:
        yield "Nothing is to be sent: 0 engine calls."
        return
    seconds, pace = document.seconds, document.calls_per_hour
    lasting = f"{max(1, round(seconds))} s" if seconds < 60 else duration(timedelta(seconds=seconds))
    yield f"{counted(calls, 'engine call')}, about {lasting} at {pace:,} an hour (assumed)."
