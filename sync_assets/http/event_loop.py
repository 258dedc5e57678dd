"""The event loop that carries requests: uvloop, which makes a push an eighth cheaper, or asyncio's own.

There is no uvloop for Windows.
"""

from __future__ import annotations

import asyncio
import sys

if sys.platform != "win32":
    import uvloop


def new_event_loop() -> asyncio.AbstractEventLoop:
    """For `asyncio.Runner(loop_factory=...)`, or to run in a thread."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
