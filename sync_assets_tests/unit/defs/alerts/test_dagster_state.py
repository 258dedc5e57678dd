"""What a real Dagster instance says: failed runs, checks that say no, freshness; and when that is over."""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.selector import InstigatorSelector
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, TickData, TickStatus
from dagster._utils.error import serializable_error_info_from_exc_info

from sync_assets.alerts.incidents import Incident, Kind, open_incidents
from sync_assets.defs.alerts import BEGINS, MOST_RUN_EVENTS, AlertScope, InstanceState, read_state
from sync_assets.defs.dagster_internals import SensorFailed
from sync_assets_tests.support.orchestra import job_origin

SOURCE, TARGET = dg.AssetKey(["d365", "contact"]), dg.AssetKey(["campaign", "profile"])
SPEC = dg.AssetCheckSpec("mapped_columns_exist", asset=SOURCE, blocking=True)
QUESTION = dg.AssetCheckKey(SOURCE, "feed")


NOTHING = InstanceState([], {})


def of_kind(seen: InstanceState, kind: Kind) -> list[Incident]:
    return [one for one in seen.incidents if one.kind == kind]


class World:
    """Two assets and a check beside them. `fails`: what goes wrong in the next run, and how."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.fails: dict[str, Exception | bool] = {}

        @dg.asset(
            key=SOURCE,
            check_specs=[SPEC],
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3)),
        )
        def source() -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
            self._fail("source")
            if "column" in self.fails:
                yield dg.AssetCheckResult(passed=False, check_name=SPEC.name, description="nickname is gone")
                raise dg.Failure("nickname is gone", allow_retries=False)
            yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name=SPEC.name)])

        @dg.asset(key=TARGET, deps=[SOURCE])
        def target() -> None:
            self._fail("target")

        @dg.asset_check(asset=SOURCE, name="feed")
        def feed() -> dg.AssetCheckResult:
            self._fail("feed")
            return dg.AssetCheckResult(passed="silent" not in self.fails, description="not polled")

        self.assets = [source, target]
        self.defs = dg.Definitions(
            assets=self.assets,
            asset_checks=[feed],
            jobs=[dg.define_asset_job("ask", dg.AssetSelection.checks(QUESTION))],
        )
        self.watched = AlertScope([source, target, feed], jobs=["ask", "follow"])

    def _fail(self, what: str) -> None:
        error = self.fails.get(what)
        if isinstance(error, Exception):
            raise error

    def run(self, *keys: dg.AssetKey, **fails: Exception | bool) -> None:
        self.fails = fails
        dg.materialize(
            self.assets,
            selection=dg.AssetSelection.assets(*(keys or (SOURCE, TARGET))),
            instance=self.instance,
            raise_on_error=False,
        )

    def ask(self, **fails: Exception | bool) -> None:
        self.fails = fails
        self.defs.resolve_job_def("ask").execute_in_process(instance=self.instance, raise_on_error=False)

    def look(self) -> InstanceState:
        return read_state(self.instance, self.watched, datetime.now(UTC))

    @property
    def wrong(self) -> list[str]:
        return [trouble.title.replace(trouble.path[5:13], "…") for trouble in open_incidents(self.look().incidents)]


@pytest.fixture
def world() -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(instance)


def test_nothing_is_wrong_before_anything_ran_and_after_all_went_well(world: World) -> None:
    assert world.look() == NOTHING
    world.run()
    world.ask()
    assert world.wrong == []


def test_a_failed_run_is_reported_by_its_step_until_the_next_success(world: World) -> None:
    world.run(source=dg.Failure("D365 cannot be reached. Check D365_URL.", allow_retries=False))
    [failed] = of_kind(world.look(), "run")
    assert (failed.id, failed.asset, failed.detail) == (
        "run d365__contact",
        "d365/contact",
        "D365 cannot be reached. Check D365_URL.",
    )
    world.run(TARGET)
    assert world.wrong == ["The run … of d365/contact failed"]  # what ran since was another step
    world.run(SOURCE)
    assert world.wrong == []


def test_the_text_of_a_foreign_error_is_not_shown(world: World) -> None:
    world.run(target=ValueError("jane.doe@example.com"))
    [failed] = of_kind(world.look(), "run")
    assert failed.detail == "It stopped at an error of the program: ValueError."
    assert "jane" not in repr(world.look())


def test_of_many_failures_the_last_one_is_reported(world: World) -> None:
    world.run(target=dg.Failure("first", allow_retries=False))
    world.run(TARGET, target=dg.Failure("second", allow_retries=False))
    world.run(source=dg.Failure("third", allow_retries=False))
    assert {failed.detail for failed in of_kind(world.look(), "run")} == {"second", "third"}


def test_a_failed_check_is_reported_in_place_of_the_run_that_it_stopped(world: World) -> None:
    world.run(column=True)
    [result] = open_incidents(world.look().incidents)
    assert result.title == "Check mapped_columns_exist of d365/contact does not hold"
    assert result.detail == "nickname is gone"
    world.run()
    assert world.wrong == []


def test_a_check_that_could_not_be_asked_keeps_its_last_answer(world: World) -> None:
    world.ask(silent=True)
    assert world.wrong == ["Check feed of d365/contact does not hold"]
    world.ask(feed=RuntimeError("no ledger"))
    assert world.wrong == ["Check feed of d365/contact does not hold", "The run … of the checks of d365/contact failed"]
    world.ask()
    assert world.wrong == []


def test_stale_data_is_reported_as_the_freshness_daemon_does(world: World) -> None:
    moment = datetime.now(UTC)

    def becomes(state: FreshnessState, before: FreshnessState) -> None:
        change = FreshnessStateChange(
            key=SOURCE, new_state=state, previous_state=before, state_change_timestamp=moment.timestamp()
        )
        world.instance._report_runless_asset_event(change)

    becomes(FreshnessState.FAIL, FreshnessState.PASS)
    [stale] = of_kind(world.look(), "freshness")
    assert (stale.asset, stale.warns) == ("d365/contact", False)
    assert abs(stale.since - moment) < timedelta(seconds=5)
    becomes(FreshnessState.PASS, FreshnessState.FAIL)
    assert of_kind(world.look(), "freshness") == []


def test_a_run_whose_process_died_is_reported_for_the_steps_that_it_left(world: World) -> None:
    run = dg.DagsterRun("job", step_keys_to_execute=None, asset_selection=frozenset({TARGET}))
    world.instance.add_run(run)
    world.instance.report_run_failed(run, "killed")
    [failed] = of_kind(world.look(), "run")
    assert (failed.asset, failed.detail) == ("campaign/profile", "Its process ended before it was done.")


def test_a_job_without_assets_has_failed_until_a_run_of_it_ends_well_or_lasts(world: World) -> None:
    def follow(error: Exception | None = None) -> str:
        @dg.op
        def follow_changes() -> None:
            if error:
                raise error

        graph = dg.GraphDefinition("follow", node_defs=[follow_changes])
        return graph.to_job().execute_in_process(instance=world.instance, raise_on_error=False).run_id

    follow()
    assert world.look().incidents == []
    follow(dg.Failure("max_contacts is exceeded", allow_retries=False))
    [failed] = of_kind(world.look(), "run")
    assert (failed.id, failed.detail) == ("run follow", "max_contacts is exceeded")
    assert world.wrong == ["The run … of the job follow failed"]
    follow()
    assert (world.wrong, world.look().successes.keys()) == ([], {"follow"})

    killed, lasts = (dg.DagsterRun("follow", run_id=str(uuid.uuid4())) for _ in range(2))
    world.instance.add_run(killed)
    world.instance.report_run_failed(killed, "killed")
    world.instance.add_run(lasts)
    world.instance.report_dagster_event(
        dg.DagsterEvent("PIPELINE_START", job_name="follow"), lasts.run_id, timestamp=time.time()
    )
    assert [failed.run_id for failed in of_kind(world.look(), "run")] == [killed.run_id]
    later = datetime.now(UTC) + BEGINS
    assert read_state(world.instance, world.watched, later).incidents == []


def test_runs_of_others_on_the_same_instance_are_not_ours(world: World) -> None:
    @dg.asset
    def theirs() -> None:
        raise ValueError

    dg.materialize([theirs], instance=world.instance, raise_on_error=False)
    assert world.look() == NOTHING


@pytest.mark.parametrize(
    "their",
    [
        dg.DagsterRun("their_job", asset_selection=frozenset({dg.AssetKey("theirs")})),
        dg.DagsterRun("their_job"),
        dg.DagsterRun("ask", asset_selection=frozenset({SOURCE}), remote_job_origin=job_origin("their")),
    ],
    ids=["of an asset in our code location", "of a job in our code location", "in another code location"],
)
def test_many_failed_runs_of_others_hide_none_of_ours(
    world: World, monkeypatch: pytest.MonkeyPatch, their: dg.DagsterRun
) -> None:
    world.run(source=dg.Failure("D365 cannot be reached. Check D365_URL.", allow_retries=False))
    for number in range(MOST_RUN_EVENTS + 1):
        world.instance.add_run(run := their._replace(run_id=str(uuid.UUID(int=number))))
        world.instance.report_run_failed(run, "failed")
    read: list[str] = []
    get = world.instance.get_records_for_run

    def noted(run_id: str, **more: Any) -> Any:
        read.append(run_id)
        return get(run_id, **more)

    monkeypatch.setattr(world.instance, "get_records_for_run", noted)
    state = read_state(world.instance, world.watched, datetime.now(UTC), location="ours")
    assert [one.id for one in of_kind(state, "run")] == ["run d365__contact"]
    assert len(read) == 1


class Sensors:
    """Sensors as the daemon keeps them on an instance: their state, and their ticks, a second apart."""

    def __init__(self, instance: dg.DagsterInstance, location: str = "ours", name: str = "d365_changes") -> None:
        self.instance = instance
        self.location: str | None = location
        self.name = name
        place = RegisteredCodeLocationOrigin(location_name=location)
        origin = RemoteRepositoryOrigin(code_location_origin=place, repository_name="__repository__")
        self.origin = origin.get_instigator_origin(name)
        selector = InstigatorSelector(location_name=location, repository_name="__repository__", name=name)
        self.selector = selector.get_id()
        self.state = InstigatorState(self.origin, InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE)
        instance.add_instigator_state(self.state)
        self.at = datetime.now(UTC) - timedelta(minutes=1)

    def tick(self, status: TickStatus, error: BaseException | None = None, *, skips: str | None = None) -> None:
        self.at += timedelta(seconds=1)
        result = None
        if error:
            try:
                raise error
            except dg.DagsterError:
                result = serializable_error_info_from_exc_info(sys.exc_info())
        tick = TickData(
            self.origin.get_id(), self.name, InstigatorType.SENSOR, status, self.at.timestamp(),
            run_ids=[], error=result, selector_id=self.selector, skip_reason=skips,
        )  # fmt: skip
        self.instance.create_tick(tick)

    def look(self) -> InstanceState:
        scope = AlertScope({}, sensors=frozenset({"d365_changes"}))
        return read_state(self.instance, scope, datetime.now(UTC), location=self.location)

    @property
    def wrong(self) -> list[str]:
        return [trouble.title for trouble in open_incidents(self.look().incidents)]

    def stop(self) -> None:
        self.instance.update_instigator_state(self.state.with_status(InstigatorStatus.STOPPED))


@pytest.fixture
def sensors(tmp_path: Path) -> Iterator[Sensors]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Sensors(instance)


def failed_tick(stated_error: Exception) -> Exception:
    """As Dagster wraps what a sensor raises."""
    error = dg.DagsterError("Error occurred during the execution of evaluation_fn for sensor d365_changes")
    error.__cause__ = stated_error
    return error


def test_a_sensor_that_fails_is_an_incident_since_its_last_good_tick_and_is_over_with_the_next_one(
    sensors: Sensors,
) -> None:
    sensors.tick(TickStatus.FAILURE, failed_tick(ValueError("before that")))
    sensors.tick(TickStatus.SKIPPED, skips="contact: no change")
    good = sensors.at
    assert sensors.wrong == []
    for _ in range(60):
        sensors.tick(TickStatus.FAILURE, SensorFailed("D365 refused us: 403."))
    sensors.tick(TickStatus.STARTED)
    [failed] = sensors.look().incidents
    assert (failed.id, failed.detail) == ("sensor d365_changes", "D365 refused us: 403.")
    assert abs(failed.since - good) < timedelta(milliseconds=1)
    assert sensors.wrong == ["The sensor d365_changes fails"]
    sensors.tick(TickStatus.SUCCESS)
    assert sensors.wrong == []


def test_a_tick_that_dagster_itself_ends_is_reported_by_its_type(sensors: Sensors) -> None:
    sensors.tick(TickStatus.FAILURE, failed_tick(ValueError("jane.doe@example.com")))
    [failed] = sensors.look().incidents
    assert failed.detail == "It stopped at an error of the program: ValueError."


def test_a_sensor_that_was_stopped_is_no_trouble(sensors: Sensors) -> None:
    sensors.tick(TickStatus.FAILURE, failed_tick(ValueError("no")))
    sensors.stop()
    assert sensors.wrong == []


@pytest.mark.parametrize("other", [("other", "d365_changes"), ("ours", "stage_d365_changes")])
def test_a_sensor_of_another_code_location_or_installation_is_no_incident(
    sensors: Sensors, other: tuple[str, str]
) -> None:
    sensors.tick(TickStatus.SKIPPED)
    their = Sensors(sensors.instance, *other)
    their.at = sensors.at
    their.tick(TickStatus.FAILURE, failed_tick(ValueError("no")))
    assert sensors.wrong == []


def test_without_a_code_location_the_sensor_that_ticked_last_counts(sensors: Sensors) -> None:
    """As on the command line, if the code location was renamed."""
    old = Sensors(sensors.instance, "old")
    old.tick(TickStatus.FAILURE, failed_tick(ValueError("no")))
    sensors.at, sensors.location = old.at, None
    sensors.tick(TickStatus.SKIPPED)
    assert sensors.wrong == []
