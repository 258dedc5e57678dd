"""Poll profiles, decide all opt-outs that are due, and write them: one run without an export file. No Dagster here.

Due without a file are changes in Dynamics 365, profiles that a poll found, contacts released from a hold, retries, and
what an earlier run left.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.repositories.opt_out_decisions import day_without_file
from sync_assets.opt_out.apply import WRITTEN, Applied, sides, write_due
from sync_assets.opt_out.decide import Side
from sync_assets.opt_out.pending_decisions import DecisionRun, decide_due
from sync_assets.opt_out.profile_polling import ProfilePoll, poll_is_due, poll_profiles
from sync_assets.opt_out.session import OptOutsBusy, open_session
from sync_assets.runtime.context import Runtime


@dataclass(slots=True)
class Changes:
    """One run of the opt-out flow without a file, and its results so far.

    failed: errors of parts that do not stop the others: a poll, or the writes to one system. deciding: None if there
    was no decision. written: the systems that were written completely. session_calls: engine calls
    beside those of the poll.
    """

    runtime: Runtime
    failed: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])
    polled: ProfilePoll = field(default_factory=ProfilePoll)
    deciding: DecisionRun | None = None
    written: dict[Side, Applied] = field(default_factory=dict[Side, Applied])
    session_calls: int = 0

    @property
    def counts(self) -> Counter[str]:
        """Return the number of opt-outs written, by kind."""
        return Counter({WRITTEN[side]: applied.written for side, applied in self.written.items()})

    async def settle(self, *, poll: bool = False) -> None:
        """Poll profiles if a poll is due, decide what is due, and write it to the systems of the direction.

        Raises:
            SyncAssetsError: nothing could be decided.
        """
        now = datetime.now(UTC)
        with self._going_on():
            if poll or poll_is_due(self.runtime.config.opt_out, self.runtime.ledger, now):
                await poll_profiles(self.runtime, now, self.polled)
        if self.failed and not self.runtime.ledger.opt_outs.left(self.runtime.config.opt_out.attributes).due:
            return
        async with open_session(self.runtime) as session:
            try:
                self.deciding = await decide_due(session, day_without_file(now))
                for side in reversed(sides(session.direction)):
                    with self._going_on():
                        self.written[side] = await write_due(session, side)
                        if side == "campaign" and self.written[side].written:  # what Dynamics 365 does not hold, either
                            await self.deciding.run()
            finally:
                self.session_calls += session.calls

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Collect an error of the block in `failed` instead of raising it."""
        try:
            yield
        except OptOutsBusy:  # the run that holds the lease does the work
            raise
        except SyncAssetsError as error:
            self.failed.append(error)
