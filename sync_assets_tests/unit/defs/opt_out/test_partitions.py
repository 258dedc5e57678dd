"""Dagster's partitions of the opt-out assets."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Connection, Engine, event, exc

from sync_assets.defs.partitions import add_partition, opt_out_files

NAME = str(opt_out_files.name)


def test_a_partition_that_somebody_else_adds_at_the_same_moment_is_there_once(tmp_path: Path) -> None:
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


def test_another_trouble_of_the_storage_is_told(tmp_path: Path) -> None:
    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO dynamic_partitions"):
            raise exc.IntegrityError(statement, None, Exception("another constraint"))

    event.listen(Engine, "before_cursor_execute", refuse)
    try:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, pytest.raises(exc.IntegrityError):
            add_partition(instance, "a file")
    finally:
        event.remove(Engine, "before_cursor_execute", refuse)
