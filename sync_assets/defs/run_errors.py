"""What goes wrong in a run's flow or in a sensor, told in our own words: Dagster's events hold nobody's data."""

# No `from __future__ import annotations`: kept like the modules that Dagster looks into.

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import dagster as dg

from sync_assets.errors import SyncAssetsError, in_our_words, places
from sync_assets.ledger.errors import InMaintenance
from sync_assets.runtime.context import Runtime


@contextmanager
def told(runtime: Runtime, context: dg.AssetExecutionContext, what: str) -> Iterator[list[SyncAssetsError]]:
    """Catches what goes wrong in a flow, so that a run's events hold our own words and nobody's data.

    An error that is not ours may quote a row: only its type and the places in the code are kept.
    """
    failed: list[SyncAssetsError] = []
    try:
        yield failed
    except InMaintenance as why:  # no trouble: somebody wants it so
        failed.append(why)
        runtime.warnings.append(str(why))
        context.log.warning(str(why))
        return
    except SyncAssetsError as error:
        failed.append(error)
    except (KeyboardInterrupt, asyncio.CancelledError, dg.DagsterExecutionInterruptedError):
        runtime.interrupted = True
        raise
    except Exception as error:  # noqa: BLE001
        failed.append(
            SyncAssetsError(
                f"The {what} stopped at an error of the program: {places(error)}.",
                "Nothing is lost; please report it with this line.",
            )
        )
    for error in failed:
        runtime.problems.append(error)
        context.log.error(str(error))


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Around the work of an op: an error fails it in one sentence of ours, since another's words may quote a record.

    Raises:
        dg.Failure: For any error.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001
        raise dg.Failure(in_our_words(error, what), allow_retries=False) from None


CANNOT = "Cannot go on: "
"""How the reason begins with which a sensor skips that cannot do its work. Alerts look for it."""
FIRST_WAIT, LONGEST_WAIT = 5.0, 300.0
"""Seconds between two tries of a sensor that cannot go on; doubled each time."""
TERMINAL_SECONDS = 60.0
"""How often a sensor that cannot go on says so in the terminal of the code server."""

_log = logging.getLogger(__name__)
Tick = Callable[[dg.SensorEvaluationContext], dg.SensorResult]


def patient(sensor: str, clock: Callable[[], float] = time.monotonic) -> Callable[[Tick], Tick]:
    """Around a sensor's tick: what goes wrong is the reason with which it skips, in one sentence of ours, and the next
    tries come more and more rarely. The cursor stays.

    A tick that raises would write the traceback of a whole client into the terminal, every few seconds.
    """
    said, wait, again_at, told_at = "", 0.0, 0.0, -TERMINAL_SECONDS

    def of(tick: Tick) -> Tick:
        @wraps(tick)
        def tried(context: dg.SensorEvaluationContext) -> dg.SensorResult:
            nonlocal said, wait, again_at, told_at
            if wait and clock() < again_at:
                return dg.SensorResult(skip_reason=f"{CANNOT}{said}", cursor=context.cursor)
            try:
                done = tick(context)
            except Exception as error:  # noqa: BLE001  a message that is not ours may quote a record
                said = in_our_words(error, f"sensor {sensor}")
                wait = min(LONGEST_WAIT, wait * 2) if wait else FIRST_WAIT
                again_at = clock() + wait
                if clock() - told_at >= TERMINAL_SECONDS:
                    told_at = clock()
                    _log.error("The sensor %s cannot go on: %s", sensor, said)
                return dg.SensorResult(skip_reason=f"{CANNOT}{said}", cursor=context.cursor)
            wait, told_at = 0.0, -TERMINAL_SECONDS
            return done

        return tried

    return of
