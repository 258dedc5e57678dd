"""What goes wrong while `soak` runs, in turn, each by the sandbox's admin interface."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from sync_assets_tests.bench.live import Live
from sync_assets_tests.bench.processes import pid_of

ROWS = 5
INVALID, VALID = "no address", "bench{}@example.com"


def _rows(running: Live, number: int) -> list[str]:
    """The contacts of the disturbance of this number."""
    start = number * ROWS % len(running.contacts)
    return running.contacts[start : start + ROWS]


def rejections(running: Live, number: int) -> None:
    """Campaign rejects some contacts; those of the last time are corrected."""
    correct(running, number - 1)
    running.sandbox.admin.change("contact", _rows(running, number), emailaddress1=INVALID)


def correct(running: Live, number: int) -> None:
    running.sandbox.admin.change("contact", _rows(running, number), emailaddress1=VALID.format(number))


def throttles(running: Live, number: int) -> None:
    """Both systems refuse requests for some seconds."""
    running.sandbox.admin.fault("campaign", "throttle", method="PATCH", times=20, retry_after=1)
    running.sandbox.admin.fault("d365", "throttle", times=3, retry_after=1)


def expired_tokens(running: Live, number: int) -> None:
    """Both sign-ins expire, and the delta tokens of a table: it is read again from the start."""
    admin = running.sandbox.admin
    admin.settings("login", expire_tokens=True)
    admin.settings("ims", expire_tokens=True)
    admin.expire(list(running.records)[number % len(running.records)])


def opt_out_file(running: Live, number: int) -> None:
    """A marketer changes opt-outs, and the export workflow writes its file."""
    change = {"resource": "profile", "keys": _rows(running, number), "set": {"blackListEmail": number % 2 == 0}}
    running.sandbox.admin.post("/campaign/change", change)
    running.sandbox.admin.export(only_changed=True)


def restart(running: Live) -> None:
    """The daemon is killed. `dagster dev` ends then, with code server and runs, and is started again."""
    os.kill(pid_of(running.dagster.process.pid, "daemon"), signal.SIGKILL)
    running.stop()
    running.start()


DISTURBANCES: dict[str, Callable[[Live, int], None]] = {
    "rejections": rejections,
    "throttles": throttles,
    "expired tokens": expired_tokens,
    "opt-out file": opt_out_file,
}
