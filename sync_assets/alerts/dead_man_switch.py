"""Ping a monitoring service while the synchronisation works, so that it raises the alarm once the pings stop.

A host or a daemon that is down sends no alerts. Only another system can notice that. The request is a GET of
SYNC_ASSETS_HEARTBEAT_URL without any data.

Invariant: a failed ping never stops the caller.
"""

import logging
import time
from collections.abc import Callable

from sync_assets.alerts.channels import request
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime

INTERVAL_SECONDS = 60.0
ANSWER_SECONDS = 5.0
"""How long the service may take to answer: a tick of a sensor waits for it."""

_log = logging.getLogger(__name__)


class DeadManSwitch:
    """Pings at most once in INTERVAL_SECONDS, failed tries included; without an address it does nothing."""

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime, self._clock = runtime, clock
        self._tried_at: float | None = None

    def ping(self) -> bool:
        """Return True if the service accepted a ping now. Raises nothing."""
        if self._tried_at is not None and self._clock() - self._tried_at < INTERVAL_SECONDS:
            return False
        self._tried_at = self._clock()
        try:
            return self._ping()
        except SyncAssetsError:  # the text of HttpError holds the address
            _log.warning("the monitoring service was not reached, which SYNC_ASSETS_HEARTBEAT_URL names")
        except Exception:  # noqa: BLE001  the invariant
            _log.warning("a ping of the monitoring service failed by an error of the program")
        return False

    def _ping(self) -> bool:
        from sync_assets.http.transport import ssl_context  # noqa: PLC0415

        address = self._runtime.settings.alerts().heartbeat
        if address is None:
            return False
        context = ssl_context(self._runtime.settings.ca_bundle)
        answer = request(context, "GET", address.get_secret_value(), b"", ANSWER_SECONDS)
        if not 200 <= answer.status < 300:
            _log.warning("the monitoring service refused a ping", extra={"status": answer.status})
            return False
        return True
