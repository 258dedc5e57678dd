"""When profiles are to be read through the API besides the file (`poll_profiles_minutes`)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sync_assets.ledger.opt_out_files import POLL
from sync_assets.runtime import Runtime


def poll_is_due(runtime: Runtime, now: datetime) -> bool:
    """Whether the last poll is `poll_profiles_minutes` old, or there was none yet; never without that setting."""
    minutes = runtime.config.opt_out.poll_profiles_minutes
    if minutes is None:
        return False
    last = runtime.ledger.last_noted(POLL)
    return last is None or now - last >= timedelta(minutes=minutes)
