"""Rehearse the opt-outs of a sync on a scratch ledger: decide what is due, and count the engine calls. Writes nothing.

Not foreseen: the files on the SFTP, a poll of profiles, and what the other system changes meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from sync_assets.ledger.repositories.opt_out_decisions import day_without_file
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState
from sync_assets.opt_out.apply import sides
from sync_assets.opt_out.pending_decisions import decide_due
from sync_assets.opt_out.session import Session, open_session
from sync_assets.runtime.context import Runtime


async def rehearse_opt_outs(runtime: Runtime, most: int) -> Counter[str]:
    """Return the engine calls of the opt-outs that are due. Beyond `most` reads none is made: a read and an update
    for each contact are the upper bound.

    runtime: its ledger is a scratch ledger. Raises what `open_session` raises, and what the clients raise.
    """
    async with open_session(runtime) as session:
        asked = sum(any(row.ask for row in rows) for rows in _due(session, OptOutState.DECIDE))
        if asked > most:
            return Counter(read=asked, update=asked)
        await decide_due(session, day_without_file(datetime.now(UTC)))
        calls = Counter(read=session.calls)
        if "campaign" in sides(session.direction):
            look_up = session.records.addressing.update_calls - 1
            for rows in await asyncio.to_thread(list, _due(session, OptOutState.TO_CAMPAIGN)):
                calls["update"] += 1
                calls["read"] += look_up + any(row.unknown_until for row in rows)
    return calls


def _due(session: Session, state: OptOutState) -> Iterator[list[OptOutRow]]:
    """Yield the rows that are due, by contact."""
    after = ""
    while due := session.ledger.opt_outs.due(state, session.attributes, after=after):
        after = max(due)
        yield from due.values()
