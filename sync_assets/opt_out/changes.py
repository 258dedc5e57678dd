"""Everything that is due without a file, in one go: profiles are polled, opt-outs decided and written. No Dagster here.

Due without a file are changes in Dynamics 365, profiles that a poll found, contacts released from a hold, retries, and
what an earlier run left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sync_assets.errors import SyncAssetsError
from sync_assets.opt_out.apply import Applied, sides, write_due
from sync_assets.opt_out.decide import Side
from sync_assets.opt_out.decision_log import DecisionLog
from sync_assets.opt_out.pending_decisions import DecisionRun, decide_due
from sync_assets.opt_out.profile_polling import Polled, poll_is_due, poll_profiles
from sync_assets.opt_out.session import OptOutsBusy, open_session
from sync_assets.runtime.context import Runtime


@dataclass(slots=True)
class Changes:
    """One run of what is due without a file, and what it has done so far.

    `failed` receives the errors of parts that keep no other part back: a poll, or the writes to one side. `polled` and
    `deciding` are None if there was no poll, or no decision; `written` has the sides that were written to the end.
    """

    runtime: Runtime
    audit: DecisionLog
    failed: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])
    polled: Polled | None = None
    deciding: DecisionRun | None = None
    written: dict[Side, Applied] = field(default_factory=dict[Side, Applied])

    async def settle(self, *, poll: bool = False) -> None:
        """Poll profiles if that is due, decide what is due, write it to the sides of the direction.

        Args:
            poll: poll profiles now, due or not.

        Raises:
            SyncAssetsError: nothing could be decided.
        """
        now = datetime.now(UTC)
        with self._going_on():
            if poll or poll_is_due(self.runtime, now):
                self.polled = await poll_profiles(self.runtime, now)
        if self.failed and not self.runtime.ledger.opt_outs_left(self.runtime.config.opt_out.attributes).due:
            return
        async with open_session(self.runtime) as both:
            self.deciding = await decide_due(both, self.audit)
            for side in sides(both.direction):
                with self._going_on():
                    self.written[side] = await write_due(both, side)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except OptOutsBusy:  # the run that holds the lease does the rest
            raise
        except SyncAssetsError as error:
            self.failed.append(error)
