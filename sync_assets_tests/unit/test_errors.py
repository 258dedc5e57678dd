"""What is said of an error that is not ours: where it arose, and nothing of what it says."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import dagster as dg
import httpx
import pytest
from sqlalchemy import exc

from sync_assets.defs.opt_out.partitions import add_partition
from sync_assets.errors import code_places, reason


def test_the_place_itself_and_then_our_own_lines_without_those_of_libraries_between(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.get_dynamic_partitions("of anybody")  # opens the file
        (storage,) = tmp_path.rglob("index.db")
        storage.write_bytes(b"Ada Lovelace" * 500)
        with pytest.raises(exc.DatabaseError) as caught:
            add_partition(instance, "Ada Lovelace")
    said = code_places(caught.value)
    assert re.fullmatch(r"DatabaseError at default\.py:\d+ < partitions\.py:\d+", said), said


def test_why_there_is_no_connection_in_the_words_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(httpx.ConnectError) as refused:
        httpx.get(f"http://127.0.0.1:{port}/hush?{port}")
    assert reason(refused.value) == "Connection refused"
    assert reason(ValueError("Ada Lovelace")) == "ValueError"


def test_an_error_without_a_trace_has_its_type() -> None:
    assert code_places(ValueError("Ada Lovelace")) == "ValueError"
