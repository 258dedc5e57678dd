"""Sensors that cannot go on: what their ticks say, and how often they try again."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from sync_assets.defs.run_errors import SKIP_PREFIX, SensorFailed, with_backoff
from sync_assets.errors import SyncAssetsError


class Clock:
    """Seconds, as a test sets them."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sensor:
    """A sensor whose tick fails while `error` is set. `tries`: the seconds at which it did its work."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.clock = Clock()
        self._instance = instance
        self.error: Exception | None = None
        self.tries: list[float] = []

        @with_backoff("a_sensor", self.clock)
        def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
            self.tries.append(self.clock.now - 1000)
            if self.error:
                raise self.error
            return dg.SensorResult(skip_reason="nothing new", cursor="moved")

        self._tick = tick

    def tick(self, seconds: float = 0.0) -> dg.SensorResult:
        self.clock.now += seconds
        return self._tick(dg.build_sensor_context(instance=self._instance, cursor="kept"))

    def failed(self, seconds: float = 0.0) -> str:
        """Return the text with which a tick fails; empty if it does not fail."""
        try:
            self.tick(seconds)
        except SensorFailed as error:
            return str(error) if error.__suppress_context__ else "with the traceback of a client"
        return ""


@pytest.fixture
def sensor() -> Iterator[Sensor]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Sensor(instance)


def test_the_tick_fails_with_the_sentence_and_the_next_ones_wait_with_it_and_keep_the_cursor(sensor: Sensor) -> None:
    sensor.error = SyncAssetsError("Dynamics 365 cannot be reached.", "Check D365_URL.")
    assert sensor.failed() == "Dynamics 365 cannot be reached. Check D365_URL."
    waits = sensor.tick(4.0)
    reason = waits.skip_reason
    assert isinstance(reason, dg.SkipReason)
    assert reason.skip_message == f"{SKIP_PREFIX}Dynamics 365 cannot be reached. Check D365_URL."
    assert waits.cursor == "kept"


def test_an_error_that_is_not_ours_is_told_by_its_type_and_place(sensor: Sensor) -> None:
    sensor.error = ValueError("jane.doe@example.com")
    told = sensor.failed()
    assert "ValueError at test_run_errors.py" in told
    assert "jane" not in told


def test_it_tries_again_after_five_seconds_and_then_ever_more_rarely_up_to_five_minutes(sensor: Sensor) -> None:
    sensor.error = SyncAssetsError("no")
    failed = sum(bool(sensor.failed(1.0)) for _ in range(1000))
    assert failed == len(sensor.tries)
    waits = [later - earlier for earlier, later in zip(sensor.tries, sensor.tries[1:], strict=False)]
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_it_goes_on_at_once_when_the_trouble_is_over_and_forgets_it(sensor: Sensor) -> None:
    sensor.error = SyncAssetsError("no")
    assert sensor.failed()
    sensor.error = None
    assert sensor.tick(5.0).cursor == "moved"
    sensor.error = SyncAssetsError("no")
    assert sensor.failed(1.0)
    assert sensor.failed(5.0)
    assert sensor.tries == [0.0, 5.0, 6.0, 11.0]
