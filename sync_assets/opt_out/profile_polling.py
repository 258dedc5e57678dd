"""Poll Campaign's API for opt-outs of changed profiles every `poll_profiles_minutes`, besides the export file."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sync_assets.campaign.profile_opt_outs import MARGIN, changed_profiles
from sync_assets.config.models import OptOutConfig
from sync_assets.config.values import CONTACT
from sync_assets.ledger import Ledger
from sync_assets.ledger.rules.opt_outs import Stated
from sync_assets.runtime.call_limits import count_calls
from sync_assets.runtime.context import Runtime

POLL = "poll of profiles"
"""Name of the event in the ledger."""


@dataclass(slots=True)
class ProfilePoll:
    """The result of a poll: numbers of profiles read, of their statements by kind, and of engine calls."""

    profiles: int = 0
    calls: int = 0
    stated: Counter[Stated] = field(default_factory=Counter[Stated])


def poll_is_due(opt_out: OptOutConfig, ledger: Ledger, now: datetime) -> bool:
    """Return True if the last poll is `poll_profiles_minutes` old, or there was none; never without that setting."""
    minutes = opt_out.poll_profiles_minutes
    if minutes is None or not opt_out.active:
        return False
    last = _last_poll(ledger, now)
    return last is None or now - last >= timedelta(minutes=minutes)


def due_without_file(opt_out: OptOutConfig, ledger: Ledger) -> int:
    """Return the number of opt-outs that are due in their own flow, and 1 for a poll of profiles that is due."""
    if not opt_out.active:
        return 0
    return ledger.opt_outs.left(opt_out.attributes).due + poll_is_due(opt_out, ledger, datetime.now(UTC))


def _last_poll(ledger: Ledger, now: datetime) -> datetime | None:
    """Return when the last poll began; None if there was none, or if it is unknown since the clock was set back.

    Clocks of several machines may differ by MARGIN.
    """
    noted = ledger.events.facts(CONTACT).get(POLL)
    last = noted and datetime.fromisoformat(noted)
    return None if last and last - now > MARGIN else last


async def poll_profiles(runtime: Runtime, now: datetime, polled: ProfilePoll) -> None:
    """Store the opt-outs of the profiles that changed since the last poll began.

    Of all profiles the first time, and after a clock that was ahead was set back.

    Each page is stored as it is read. The poll is recorded once all pages are stored: the next one reads from `now` on.

    Args:
        now: when this poll begins.
        polled: receives the result, page by page.

    Raises:
        SyncAssetsError: of the client, including BudgetSpent. Stored pages stay stored, and the next poll reads them
            again with the rest.
    """
    from sync_assets.opt_out.export.staging import state  # noqa: PLC0415 - sensors need no paramiko to know what is due

    ledger, source = runtime.ledger, f"poll of profiles {now:%Y-%m-%dT%H:%M:%SZ}"
    names, key = runtime.config.opt_out.attributes, runtime.config.table(CONTACT).key
    async with runtime.campaign() as campaign:
        try:
            async for frame in changed_profiles(campaign, key, names, _last_poll(ledger, now)):
                polled.stated.update(await asyncio.to_thread(state, ledger, [frame], names, source, now))
                polled.profiles += frame.height
                runtime.progress("reading profiles", polled.profiles)
        finally:
            polled.calls = campaign.calls.total
            await count_calls(ledger, CONTACT, campaign.calls.take())
    ledger.events.note(CONTACT, {POLL: now.isoformat()})
