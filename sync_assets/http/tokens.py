"""The bearer tokens of one system: cached, renewed before they end and after a refusal, by one task of an event loop.

Not here: how a token is fetched (the `sign_in.py` of each system), and where it goes in a request (transport_stack.py).
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from sync_assets.own_secrets import forget, remember


def bearer_token(value: object) -> str:
    """Return a sign-in's token if it may stand in a header; empty for anything else."""
    return value if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]+", value) else ""


DAY = 24 * 60 * 60
"""Seconds. No token is used for longer, whatever `expires_in` says; Adobe's are valid for a day."""


def token_seconds(value: object) -> float:
    """Return the seconds that a token is used, by its `expires_in` (text from Entra's older endpoint); else an hour."""
    try:
        seconds = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return 3600.0
    return min(seconds, DAY) if seconds >= 0 else 3600.0


class CachedTokens:
    """Caches a token until shortly before it expires, with at most one fetch at a time per event loop.

    fetch: an async function that returns (token, lifetime in seconds).
    """

    def __init__(self, fetch: Callable[[], Any]) -> None:
        self._fetch = fetch
        self._token = self._before = ""
        self._good_until = 0.0
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def token(self) -> str:
        if time.monotonic() < self._good_until:
            return self._token
        return await self.renew(self._token)

    async def renew(self, refused: str) -> str:
        """Return another token than the refused one. Many tasks that were refused the same renew it only once."""
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._token != refused and time.monotonic() < self._good_until:
                return self._token  # another task renewed it while this one waited for the lock
            forget(self._before)  # not the current one: answers to requests under way may repeat it
            self._before = self._token
            self._token, lifetime = await self._fetch()
            remember(self._token)
            self._good_until = time.monotonic() + max(1.0, lifetime - min(120.0, lifetime / 10))
            return self._token
