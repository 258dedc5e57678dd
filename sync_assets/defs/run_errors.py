"""Convert errors in runs, ops and sensors into messages without personal data, before Dagster stores them.

Here: context managers for assets and ops, and a decorator for sensors. How a foreign error becomes a message is in
`sync_assets.errors`.

Invariant: the text of an error that is not ours never reaches an event, a tick or the terminal, since it may quote a
record.
"""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Protocol

import dagster as dg

from sync_assets.defs.dagster_internals import SensorFailed
from sync_assets.errors import SyncAssetsError, foreign, public_message
from sync_assets.flows import RunOutcome
from sync_assets.ledger.errors import InMaintenance


class Log(Protocol):
    """What `reported` needs of a run's context, of assets or of ops."""

    @property
    def log(self) -> dg.DagsterLogManager: ...


@contextmanager
def reported(outcome: RunOutcome, context: Log, activity: str) -> Iterator[list[SyncAssetsError]]:
    """Catch the errors of a flow, add them to the outcome and the run's log, and yield the list that collects them.

    Of an error that is not ours only the type and the lines of code are kept, since its text may quote a row.
    `InMaintenance` is a warning and a note, not an error. activity: as in `capture of contact`.
    """
    failed: list[SyncAssetsError] = []
    try:
        yield failed
    except InMaintenance as why:  # intended by an operator, so no error
        failed.append(why)
        outcome.note([str(why)])
        context.log.warning(str(why))
        return
    except SyncAssetsError as error:
        failed.append(error)
    except Exception as error:  # noqa: BLE001
        failed.append(foreign(error, f"The {activity} stopped at"))
    for error in failed:
        outcome.problems.append(error)
        context.log.error(str(error))


@contextmanager
def failing(activity: str) -> Iterator[None]:
    """Turn any error of the block into a `dg.Failure` whose text quotes no record, unless it is one.

    Raises:
        dg.Failure: For any error. Dagster does not retry it.
    """
    try:
        yield
    except dg.Failure:
        raise
    except Exception as error:  # noqa: BLE001
        raise dg.Failure(public_message(error, activity), allow_retries=False) from None


def fail_if_stopped(outcome: RunOutcome, *reasons: str | None) -> None:
    """Fail the run if some work was not done. Call it after the results were yielded.

    Raises:
        dg.Failure: One of the reasons is not None.
    """
    problems = [reason for reason in reasons if reason]
    if problems:
        outcome.stopped += problems
        raise dg.Failure(" ".join(dict.fromkeys(problems)), allow_retries=False)


Tick = Callable[[dg.SensorEvaluationContext], dg.SensorResult]


def one_sentence(sensor: str) -> Callable[[Tick], Tick]:
    """Decorate a sensor's tick: an error makes it fail with one line. Dagster keeps the cursor and tries again in 5 s.

    Raises:
        SensorFailed: For any error.
    """

    def decorate(tick: Tick) -> Tick:
        @wraps(tick)
        def tried(context: dg.SensorEvaluationContext) -> dg.SensorResult:
            try:
                return tick(context)
            except Exception as error:  # noqa: BLE001  the text of a foreign error may quote a record
                text = public_message(error, f"sensor {sensor}")
                # A sensor needs no person for what a command asks for.
                text = re.sub(
                    r"\b([Rr]un it again( later)?|[Tt]ry again later)\b", "the sensor tries again by itself", text
                )
                raise SensorFailed(re.sub(r"(^|\. )the sensor", r"\1The sensor", text)) from None

        return tried

    return decorate
