"""`results`, by whole runs: the files of a day, what Dagster shows of them, and the asset of a user on top."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

import sync_assets
from sync_assets.commands import hold
from sync_assets.defs.build import build_definitions
from sync_assets.defs.partitions import today
from sync_assets.results.tables import COLUMNS
from sync_assets_tests.support.loads import by_file, stop_load
from sync_assets_tests.support.opt_outs import HEADER, LATER, says, switch_on, write_file
from sync_assets_tests.support.orchestra import Orchestra, Run, in_memory
from sync_assets_tests.support.program import CONTACT, Program

PAGE = Path(sync_assets.__file__).parent / "docs" / "results.md"
KEYS = {name: dg.AssetKey(["results", name]) for name in COLUMNS}


@pytest.fixture
def program(program: Program) -> Program:
    """With results, and contacts that Campaign rejects, whose row is not valid, and that is deleted at the end."""
    admin, program.results = program.sandbox.admin, {"to": "results", "keep_days": 30}
    program.table = {**CONTACT, "apply_deletes": True, "fields": {**CONTACT["fields"], "jobtitle": "cusJobTitle"}}
    admin.settings("campaign", bare_data_policy=False)
    return program


def ids(program: Program) -> list[str]:
    return [row["contactid"] for row in program.sandbox.admin.dump_d365()]


def day(program: Program, name: str) -> pl.DataFrame:
    return pl.read_parquet(program.home / "results" / name / f"day={today()}" / f"{name}.parquet")


def made(orchestra: Orchestra, name: str) -> Run:
    run = orchestra.materialize(KEYS[name])
    assert run.success, run.errors
    return run


def troubled(program: Program) -> tuple[str, str, str]:
    """Synchronise twice. Return three ids: of a rejected contact, of one that is not valid, of a deleted one."""
    rejected, invalid, deleted = ids(program)[:3]
    program.sandbox.admin.change("contact", [rejected], emailaddress1="no-address")
    program.sandbox.admin.change("contact", [invalid], jobtitle="x" * 100)
    assert program.sync().status == 2
    program.sandbox.admin.delete("contact", [deleted])
    program.sync()
    return rejected, invalid, deleted


def test_a_day_has_each_delivery_rejection_and_deletion_and_dagster_shows_neither_id_nor_value(
    program: Program,
) -> None:
    rejected, invalid, deleted = troubled(program)
    with in_memory(program) as orchestra:
        shown = made(orchestra, "deliveries").metadata(KEYS["deliveries"], today())
        totals = made(orchestra, "daily") and day(program, "daily")
    rows = day(program, "deliveries")
    told = {(one["id"], one["operation"], one["outcome"], one["status"], one["attempts"]) for one in rows.to_dicts()}
    assert (rejected, "insert", "rejected", 500, 1) in told
    assert (invalid, "validate", "rejected", None, 0) in told
    assert {one[1:] for one in told if one[0] is None} == {
        ("insert", "acknowledged", 201, 1),
        ("delete", "acknowledged", 200, 1),
    }
    assert deleted not in {one[0] for one in told}
    assert len(rows) == len(ids(program)) + 2  # each contact once, and the deleted one twice
    done = rows.filter(pl.col("outcome") == "acknowledged")
    assert done["run"].null_count() == 0
    assert done["seconds"].is_between(0, 300).all()
    assert totals.select("table", "inserted", "updated", "deleted", "rejected").rows() == [
        ("contact", len(ids(program)) - 1, 0, 1, 2)
    ]
    assert totals["engine_calls"].item() >= len(ids(program)) + 1
    assert shown["dagster/partition_row_count"] == len(rows)
    assert shown["path"] == str(program.home / "results" / "deliveries" / f"day={today()}" / "deliveries.parquet")
    preview = [record.data for record in shown["preview"].records]
    assert len(preview) == 5
    assert {type(record["attempts"]) for record in preview} == {int}, "0, too"
    assert not {"id", "run"} & preview[0].keys()
    assert not re.search(r"[0-9a-f]{8}-", str(shown))


def test_decisions_have_what_was_decided_and_the_preview_no_value(program: Program) -> None:
    switch_on(program, "campaign_to_d365")
    program.sync()
    mine, other = ids(program)[:2]
    write_file(program, HEADER + says(mine, at=LATER) + says(other, 0, LATER))
    assert program.sync().status == 0
    with in_memory(program) as orchestra:
        shown = made(orchestra, "decisions").metadata(KEYS["decisions"], today())
    [one] = day(program, "decisions").filter(pl.col("contact") == mine).to_dicts()
    assert (one["attribute"], one["d365"], one["campaign"], one["value"], one["written_to"]) == (
        *("blackListEmail", False, True, True),
        "d365",
    )
    columns = set(shown["preview"].records[0].data)
    assert columns == COLUMNS["decisions"].keys() - {"contact", "d365", "campaign", "value"}


def test_a_load_by_file_has_a_row_for_each_record_that_it_brought(program: Program, short_looks: None) -> None:
    assert by_file(program).sync().status == 0
    with in_memory(program) as orchestra:
        made(orchestra, "deliveries")
    rows = day(program, "deliveries")
    assert sorted(rows["id"]) == sorted(ids(program))
    assert set(rows.select("operation", "outcome", "status", "attempts").rows()) == {
        ("insert", "acknowledged", None, 1)
    }
    assert rows["seconds"].null_count() == 0


def test_a_load_that_was_given_up_has_a_row_for_each_record_that_it_brought(
    program: Program, short_looks: None
) -> None:
    stop_load(program, "after its import")
    assert program.run("loads", "abandon", "contact")[0] == 0
    with in_memory(program) as orchestra:
        made(orchestra, "deliveries")
    assert sorted(day(program, "deliveries")["id"]) == sorted(program.profiles())


def test_the_id_of_a_person_who_was_deleted_goes_with_hold_release_from_a_file_that_was_written_before(
    program: Program,
) -> None:
    program.sync()
    mine = ids(program)[0]
    with in_memory(program) as orchestra:
        made(orchestra, "deliveries")
        assert mine in set(day(program, "deliveries")["id"])
        hold.add(orchestra.runtime, mine)
        program.sandbox.admin.delete("contact", [mine])
        hold.release(orchestra.runtime, mine)
        assert orchestra.runtime.ledger.results.due("deliveries")
        made(orchestra, "deliveries")
        assert not orchestra.runtime.ledger.results.due("deliveries")
    assert (
        mine.encode()
        not in (program.home / "results").joinpath("deliveries", f"day={today()}", "deliveries.parquet").read_bytes()
    )
    assert set(day(program, "deliveries")["id"]) == {None, *ids(program)}


def test_results_go_to_s3_by_the_resource_of_dagster_aws(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    from boto3 import client
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        client("s3").create_bucket(Bucket="ours")
        program.results = {"to": "s3://ours/folder"}
        program.sync()
        with in_memory(program) as orchestra:
            path = made(orchestra, "deliveries").metadata(KEYS["deliveries"], today())["path"]
        assert path == f"s3://ours/folder/deliveries/day={today()}/deliveries.parquet"
        options = {"aws_endpoint_url": url, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
        rows = pl.scan_parquet(path, storage_options={**options, "aws_allow_http": "true"}, credential_provider=None)
        assert rows.select("id").collect().height == len(ids(program))
    finally:
        server.stop()


def test_the_asset_of_the_documents_counts_rejections_by_reason(program: Program) -> None:
    troubled(program)
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    mine: dict[str, Any] = {}
    exec(code, mine)
    mine["FOLDER"] = str(program.home / "results")
    with in_memory(program) as orchestra:
        on_top = dg.Definitions(assets=[mine["rejections"]])
        orchestra.__dict__["definitions"] = dg.Definitions.merge(orchestra.definitions, on_top)
        made(orchestra, "deliveries")
        key = dg.AssetKey("rejections")
        run = orchestra.materialize(key)
        assert run.success, run.errors
        rows = [record.data for record in run.metadata(key, today())["rejections"].records]
    assert [(row["table"], row["requests"], row["records"]) for row in rows] == [("contact", 1, 1)] * 2
    assert any("cusJobTitle" in str(row["reason"]) for row in rows)


def test_the_page_describes_each_column() -> None:
    text = PAGE.read_text("utf-8")
    for columns in COLUMNS.values():
        assert "".join(f"| `{name}` | {kind} | {about} |\n" for name, (kind, about) in columns.items()) in text


def test_the_schedule_writes_the_last_whole_day(program: Program) -> None:
    program.runs = {"start_date": "2026-12-01"}
    definitions = build_definitions(program.runtime())
    repository = definitions.get_repository_def()

    def requested(at: datetime) -> list[str | None]:
        context = dg.build_schedule_context(repository_def=repository, scheduled_execution_time=at)
        data = repository.get_schedule_def("results_schedule").evaluate_tick(context)
        return [request.partition_key for request in data.run_requests or ()]

    at = datetime(2026, 12, 2, 0, 30, tzinfo=UTC)
    assert (requested(at - timedelta(days=1)), requested(at)) == ([], ["2026-12-01"])
