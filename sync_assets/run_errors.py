"""What goes wrong in a run's flow or in a sensor, told in our own words: Dagster's events hold nobody's data."""

# No `from __future__ import annotations`: kept like the modules that Dagster looks into.

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from sync_assets.errors import SyncAssetsError, in_our_words, places
from sync_assets.ledger.errors import InMaintenance
from sync_assets.runtime import Runtime


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


class SensorFailed(SyncAssetsError):
    """Why a sensor's tick failed, in one line of our own."""


@contextmanager
def one_sentence(sensor: str) -> Iterator[None]:
    """Around a sensor's tick: what goes wrong fails it with one sentence instead of the traceback of a whole client."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  a message that is not ours may quote a record
        raise SensorFailed(in_our_words(error, f"sensor {sensor}")) from None
