"""What is said of an error that is not ours: where it arose, and nothing of what it says."""

import errno
import importlib
import pkgutil
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

import sync_assets
from sync_assets.defs.partitions import add_partition
from sync_assets.errors import SyncAssetsError, code_places, foreign, public_message, reason


def test_the_place_itself_and_then_our_own_lines_without_those_of_libraries_between(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.get_dynamic_partitions("of anybody")  # opens the file
        (storage,) = tmp_path.rglob("index.db")
        storage.write_bytes(b"Ada Lovelace" * 500)
        with pytest.raises(exc.DatabaseError) as caught:
            add_partition(instance, "Ada Lovelace")
    result = code_places(caught.value)
    assert re.fullmatch(r"DatabaseError at default\.py:\d+ < partitions\.py:\d+", result), result


def test_why_there_is_no_connection_in_the_words_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(httpx.ConnectError) as refused:
        httpx.get(f"http://127.0.0.1:{port}/hush?{port}")
    assert reason(refused.value) == "Connection refused"
    assert reason(ValueError("Ada Lovelace")) == "ValueError"


def test_an_error_without_a_trace_has_its_type() -> None:
    assert code_places(ValueError("Ada Lovelace")) == "ValueError"


def a_full_database() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 2")
        connection.exec_driver_sql("CREATE TABLE one (text)")
        connection.exec_driver_sql("INSERT INTO one VALUES (?)", ("ada@example.com" * 1000,))


def a_full_file_system() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "ada.txt")


def a_full_disk_below_another_error() -> None:
    try:
        a_full_file_system()
    except OSError as error:
        raise dg.DagsterInvariantViolationError from error


@pytest.mark.parametrize("work", [a_full_database, a_full_file_system, a_full_disk_below_another_error])
def test_a_full_disk_is_named_and_is_not_to_be_reported(work: Callable[[], None]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        work()
    message = public_message(caught.value, "poll of contact")
    assert message.startswith("The poll of contact stopped at a full disk. Make room in DAGSTER_HOME")
    assert "ada" not in message


def test_another_error_of_a_database_is_to_be_reported() -> None:
    engine = sa.create_engine("sqlite://")
    with pytest.raises(exc.OperationalError) as caught, engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM none")
    result = foreign(caught.value, "The command stopped at")
    assert isinstance(result, SyncAssetsError)
    assert result.cause.startswith("The command stopped at an error of the program: OperationalError at ")


def tree(error: type[SyncAssetsError], depth: int = 0) -> Iterator[str]:
    """Yield a line of Markdown for an error and each public one below it."""
    yield f"{'  ' * depth}- `{error.__name__}` ({error.__module__.removeprefix('sync_assets.')})"
    for below in sorted(error.__subclasses__(), key=lambda one: one.__name__):
        if below.__module__.startswith("sync_assets.") and not below.__name__.startswith("_"):
            yield from tree(below, depth + 1)


def test_the_page_of_errors_shows_them_all() -> None:
    for module in pkgutil.walk_packages(sync_assets.__path__, "sync_assets."):
        if not re.search(r"\.(sandbox|migrations|__main__)", module.name):
            importlib.import_module(module.name)
    page = Path(sync_assets.__file__).parent / "docs" / "dev" / "errors.md"
    shown = [line for line in page.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("-")]
    assert shown == [*tree(SyncAssetsError)], "replace the list by:\n" + "\n".join(tree(SyncAssetsError))
