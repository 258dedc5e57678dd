"""Partitions are the days from the first one to today, or files; what a run of past days is about."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Connection, Engine, event, exc

from sync_assets.config.files import SANDBOX_CONFIG
from sync_assets.config.installation import Installation
from sync_assets.defs.partitions import (
    INSTALLATION_TAG,
    TABLE_TAG,
    add_partition,
    add_tags,
    daily,
    opt_out_files,
    past_days,
    today,
)
from sync_assets.runtime.context import Runtime

NAME = str(opt_out_files().name)
YESTERDAY, BEFORE = (datetime.now(UTC).date() - timedelta(days=n) for n in (1, 2))


def test_the_first_partition_is_the_start_date_and_the_last_one_is_today() -> None:
    days = daily(BEFORE)
    assert days.get_partition_keys() == [BEFORE.isoformat(), YESTERDAY.isoformat(), today()]
    assert daily(BEFORE) is days


@pytest.mark.parametrize(
    ("keys", "days"),
    [
        ([today()], None),
        ([YESTERDAY.isoformat()], (YESTERDAY, YESTERDAY)),
        ([BEFORE.isoformat(), YESTERDAY.isoformat(), today()], (BEFORE, YESTERDAY)),
    ],
    ids=["today follows the feed", "a past day", "a range with today"],
)
def test_days_that_are_over_are_read_again(keys: list[str], days: tuple[date, date] | None) -> None:
    assert past_days(keys) == days


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, ("contact, account", "stage, production")), ({TABLE_TAG: "of the sensor"}, ("of the sensor", None))],
)
def test_each_step_of_a_run_without_tags_adds_its_tables_and_its_installation_once(
    before: dict[str, str], after: tuple[str, str | None], tmp_path: Path
) -> None:
    def step(name: str, *tables: str) -> dg.AssetsDefinition:
        runtime = Runtime(
            {"SYNC_ASSETS_CONFIG": str(SANDBOX_CONFIG), "DAGSTER_HOME": str(tmp_path)},
            installation=Installation("stage" if name == "one" else "production"),
        )

        @dg.asset(name=name, deps=["one"] if name != "one" else [])
        def add(context: dg.AssetExecutionContext) -> None:
            add_tags(context, runtime, *tables)

        return add

    steps = [step("one", "contact"), step("two", "contact", "account")]
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = dg.materialize(steps, instance=instance, tags=before).run_id
        run = instance.get_run_by_id(run_id)
        assert run
        assert (run.tags[TABLE_TAG], run.tags.get(INSTALLATION_TAG)) == after


def test_a_partition_that_another_process_adds_at_the_same_moment_exists_once(tmp_path: Path) -> None:
    """Dagster has looked whether it is there, and then another process is faster."""
    came_between: list[str] = []

    def other_process(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("INSERT INTO dynamic_partitions") or came_between:
            return
        came_between.append(statement)
        with closing(sqlite3.connect(str(connection.engine.url.database))) as other, other:
            other.execute(
                "INSERT INTO dynamic_partitions (partitions_def_name, partition) VALUES (?, ?)", (NAME, "a file")
            )

    event.listen(Engine, "before_cursor_execute", other_process)
    try:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            add_partition(instance, "a file")
            add_partition(instance, "a file")
            assert instance.get_dynamic_partitions(NAME) == ["a file"]
    finally:
        event.remove(Engine, "before_cursor_execute", other_process)
    assert came_between


def test_another_trouble_of_the_storage_is_reported(tmp_path: Path) -> None:
    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO dynamic_partitions"):
            raise exc.IntegrityError(statement, None, Exception("another constraint"))

    event.listen(Engine, "before_cursor_execute", refuse)
    try:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, pytest.raises(exc.IntegrityError):
            add_partition(instance, "a file")
    finally:
        event.remove(Engine, "before_cursor_execute", refuse)
