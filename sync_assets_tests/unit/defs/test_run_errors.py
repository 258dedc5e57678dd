"""Sensors that cannot go on: what their ticks say, how often they try again, what the terminal shows."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import dagster as dg
import pytest

from sync_assets.defs.run_errors import CANNOT, with_backoff
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

    def said(self) -> str:
        reason = self.tick().skip_reason
        return (reason.skip_message if isinstance(reason, dg.SkipReason) else reason) or ""


@pytest.fixture
def sensor() -> Iterator[Sensor]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Sensor(instance)


def test_the_tick_skips_with_the_sentence_and_keeps_its_cursor(sensor: Sensor) -> None:
    sensor.error = SyncAssetsError("Dynamics 365 cannot be reached.", "Check D365_URL.")
    assert sensor.said() == f"{CANNOT}Dynamics 365 cannot be reached. Check D365_URL."
    assert sensor.tick().cursor == "kept"


def test_an_error_that_is_not_ours_is_told_by_its_type_and_place(sensor: Sensor) -> None:
    sensor.error = ValueError("jane.doe@example.com")
    assert "ValueError at test_run_errors.py" in sensor.said()
    assert "jane" not in sensor.said()


def test_it_tries_again_after_five_seconds_and_then_ever_more_rarely_up_to_five_minutes(sensor: Sensor) -> None:
    sensor.error = SyncAssetsError("no")
    for _ in range(1000):
        sensor.tick(1.0)
    waits = [later - earlier for earlier, later in zip(sensor.tries, sensor.tries[1:], strict=False)]
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_it_goes_on_at_once_when_the_trouble_is_over_and_forgets_it(sensor: Sensor) -> None:
    sensor.error = SyncAssetsError("no")
    sensor.tick()
    sensor.error = None
    assert sensor.tick(5.0).cursor == "moved"
    sensor.error = SyncAssetsError("no")
    sensor.tick(1.0)
    sensor.tick(5.0)
    assert sensor.tries == [0.0, 5.0, 6.0, 11.0]


def test_the_terminal_gets_a_line_a_minute_at_most(sensor: Sensor, caplog: pytest.LogCaptureFixture) -> None:
    sensor.error = SyncAssetsError("Dynamics 365 cannot be reached.")
    with caplog.at_level(logging.ERROR):
        for _ in range(600):
            sensor.tick(1.0)
    assert 1 <= len(caplog.messages) <= 10
    assert set(caplog.messages) == {"The sensor a_sensor cannot go on: Dynamics 365 cannot be reached."}
    assert all(record.exc_info is None for record in caplog.records)
