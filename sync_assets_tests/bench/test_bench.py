"""That each benchmark runs, on numbers too small to say anything about speed. Speed is no matter of a test.

What is tested is that they measure what they claim to: that the servers answer as the real ones do, that all rows come
through, that no key is sent twice, and that whatever could not be measured is told.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_assets.dataverse.page_parser import Page, PageParser
from sync_assets.defs.instance.command_line import PACKAGED
from sync_assets.ledger.storage.payload_cipher import MARK
from sync_assets_tests.bench.columns import COLUMNS, LABEL, prefer
from sync_assets_tests.bench.latency import percentile
from sync_assets_tests.bench.measure import ROOT, BenchError, Run, module, rounds, run
from sync_assets_tests.bench.peers.known import READING, WRITING
from sync_assets_tests.bench.reading import capture, noop
from sync_assets_tests.bench.scaling import scale, scale_out
from sync_assets_tests.bench.servers import feed_server, push_server
from sync_assets_tests.bench.stage import Report, Settings, Stage, Target, stage
from sync_assets_tests.bench.storage_use import storage_use
from sync_assets_tests.bench.table import mapping
from sync_assets_tests.bench.thirty_million import thirty_million
from sync_assets_tests.bench.writing import push
from sync_assets_tests.support.past_history import ROWS, Past, moment


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with stage(Settings.quick()) as quick:
        yield quick


def names(report: Report) -> list[str]:
    return [result.name for result in report.results]


def sane(report: Report) -> None:
    """Every figure is there, none is absurd, and the document is JSON."""
    for result in report.results:
        assert result.runs
        assert result.rate > 0
    document = json.loads(json.dumps(report.document()))
    assert all(set(target) == {"name", "value", "wanted", "unit", "met"} for target in document["targets"])


def read(link: str, *, packed: bool = False) -> Page:
    headers = {"Prefer": prefer("20", False), **({"Accept-Encoding": "gzip"} if packed else {})}
    with urllib.request.urlopen(urllib.request.Request(link, headers=headers)) as answer:
        assert (answer.headers["Content-Encoding"] == "gzip") == packed
        body = gzip.decompress(answer.read()) if packed else answer.read()
    mapped = mapping()
    return PageParser({name: mapped.column_types[name] for name in mapped.select}).parse(body)


def pages(link: str | None, *, packed: bool) -> list[Page]:
    found: list[Page] = []
    while link:
        found.append(read(link, packed=packed))
        link = found[-1].next_link
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_the_feed_gives_as_many_different_rows_as_asked_for_the_same_ones_each_time(packed: bool) -> None:
    with feed_server(20, gzip=packed) as server:
        first, again = (pages(f"{server.url(50)}/api/data/v9.2/contacts", packed=packed) for _ in range(2))
        assert [page.rows.height for page in first] == [20, 20, 10]
        end = read(first[-1].delta_link or "")
        assert (end.rows.height, end.next_link, end.delta_link) == (0, None, first[-1].delta_link)
    ids = [id_ for page in first for id_ in page.rows["contactid"]]
    assert ids == [id_ for page in again for id_ in page.rows["contactid"]]
    assert len(set(ids)) == 50
    assert ids != sorted(ids)
    assert first[0].rows.width == len(COLUMNS) + 2


def test_after_a_change_each_hundredth_page_comes_once_more_with_other_rows() -> None:
    with feed_server(2) as server:
        link = f"{server.url(402)}/api/data/v9.2/contacts"
        before = pages(link, packed=False)
        server.change(402)
        changes, after = pages(before[-1].delta_link, packed=False), pages(link, packed=False)
        assert read(changes[-1].delta_link or "").rows.height == 0
    assert [page.rows["contactid"].to_list() for page in changes] == [
        before[number].rows["contactid"].to_list() for number in (0, 100, 200)
    ]
    assert [number for number in range(201) if not before[number].rows.equals(after[number].rows)] == [0, 100, 200]


def test_who_asks_for_labels_gets_them() -> None:
    with feed_server(20, labels=True) as server:
        link = f"{server.url(20)}/api/data/v9.2/contacts"
        for labels in (False, True):
            asked = urllib.request.Request(link, headers={"Prefer": prefer("20", labels)})
            with urllib.request.urlopen(asked) as answer:
                row = json.load(answer)["value"][0]
            assert (row.get(f"statuscode{LABEL}") in ("Active", "Inactive")) == labels


def test_campaign_answers_with_the_record_after_its_time_and_notices_a_key_that_comes_twice() -> None:
    with push_server() as server:
        address = f"{server.url(30)}/campaign/profileAndServicesExt/profile"
        for key, method in (("a" * 36, "POST"), ("b" * 36, "POST"), ("a" * 36, "POST"), ("b" * 36, "PATCH")):
            link = f"{address}/{key}" if method == "PATCH" else address
            body = json.dumps({"externalId": key}, separators=(",", ":")).encode()
            with urllib.request.urlopen(urllib.request.Request(link, data=body, method=method)) as answer:
                text = answer.read()
                assert json.loads(text)["PKey"]
                assert (answer.status, len(text) > 1000) == ((201, True) if method == "POST" else (200, False))
        counts = server.counts()
        assert (counts["post"], counts["patch"], counts["keys"], counts["twice"]) == (3, 1, 2, 2)
        assert counts["duplicates"] == 1
        for method in ("PATCH", "GET"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(urllib.request.Request(f"{address}/{'c' * 36}", method=method))
        assert (server.counts()["absent"], server.counts()["keys"]) == (2, 2)
        server.forget()
        assert server.counts()["keys"] == 0


def test_the_limit_of_writing_is_what_the_latency_allows(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_text(json.dumps({"externalId": "a" * 36}, separators=(",", ":")))
    with push_server() as server:
        options = ["--in-flight", 4, "--seconds", 1, "--bodies", bodies]
        done = run(module("raw_client", "write", server.url(100), *options))
        assert 0 < done.items <= 44  # 4 at a time, ten times a second, and those that were on their way at the end
        assert server.counts()["keys"] == done.items


@pytest.mark.slow  # a whole benchmark; its parts are tried without a mark
def test_capture_beside_its_limit_and_its_peers(running: Stage) -> None:
    report = capture(running)
    sane(report)
    assert len(report.results) == 5
    for peer in READING:
        assert (peer.name in names(report)) == peer.light
        assert any(peer.name in note for note in report.notes) != peer.light
    assert report.results[1].document()["share_of_limit"] > 0
    assert {run.items for result in report.results for run in result.runs} == {running.settings.rows}


@pytest.mark.slow  # a whole benchmark; its parts are tried without a mark
def test_encrypted_payloads_are_measured_beside_those_that_are_not() -> None:
    with stage(replace(Settings.quick(), encrypted=True)) as running:
        *encrypted, sqlite, postgres = running.databases
        assert [one.name for one in encrypted] == [f"{one.name}, encrypted" for one in (sqlite, postgres)]
        for ledgers in encrypted:
            with running.filled(ledgers, 100) as ledger:
                with sa.create_engine(ledger).connect() as connection:
                    payloads = connection.execute(sa.text("SELECT payload FROM sync_record")).scalars().all()
                assert [bytes(payload).startswith(MARK) for payload in payloads] == [True] * 100
                assert running.push(ledgers, ledger, 0, 8).items == 100


@pytest.mark.slow  # the rule is that of flows/test_rereads.py; the bench is `capture`, twice
def test_a_re_read_writes_nothing_and_calls_nobody(running: Stage) -> None:
    report = noop(running)
    sane(report)
    again = [result for result in report.results if "re-read" in result.name]
    assert [result.told["calls"] for result in again] == [0, 0]
    assert all(run.more["unchanged"] == running.settings.rows for result in again for run in result.runs)


@pytest.mark.slow  # a whole benchmark; its parts are tried without a mark
def test_push_beside_its_limit_and_its_peers(running: Stage) -> None:
    """On SQLite; the bench of captures runs on both databases."""
    report = push(replace(running, databases=running.databases[:1]))
    sane(report)
    mine = [result for result in report.results if result.name.startswith("sync_assets")]
    assert len(mine) == 3
    assert all(result.limit and not result.runs[0].more["rejected"] for result in mine)
    for peer in WRITING:
        assert any(peer.name in name for name in names(report)) == peer.light
        assert any(peer.name in note for note in report.notes) != peer.light


@pytest.mark.slow  # a whole benchmark; its parts are tried without a mark
def test_a_large_table_lives_through_a_kill_with_nothing_missing_and_nothing_twice() -> None:
    report = thirty_million(replace(Settings.quick(), sqlite=True))
    sane(report)
    first, changed, again = (result.told for result in report.results)
    assert (first["kills"], first["missing"], first["records"]) == (1, 0, 1000)
    assert changed["updates"] == changed["records"] == 50
    assert again["calls"] == 0
    assert [target.name for target in report.targets if not target.met and "tenth" not in target.name] == []


def test_a_large_table_does_not_begin_without_the_disk_that_it_needs(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="not enough disk"):
        thirty_million(replace(Settings.quick(), large=10**12))
    assert "1,000,000,000,000 rows need about" in capfd.readouterr().err


@pytest.mark.slow  # each size is measured as in the slow tests above
def test_sizes_are_compared(running: Stage) -> None:
    report = scale(running)
    sane(report)
    assert len(report.results) == 12
    assert len(report.targets) == 6


@pytest.mark.slow  # the rule is that of integration/runtime/test_call_limits_of_processes.py
def test_workers_share_a_ledger_and_send_nothing_twice(running: Stage) -> None:
    tiny = replace(running, settings=replace(running.settings, seconds=0.2))
    report = scale_out(tiny)
    sane(report)
    assert [result.told["sent_twice"] for result in report.results] == [0, 0, 0]
    assert [result.runs[0].items for result in report.results] == [128, 256, 512]


def test_use_of_storage_is_counted_over_all_databases(tmp_path: Path) -> None:
    shutil.copy(PACKAGED, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        before = storage_use(tmp_path)
        assert (before.event_rows, before.table("runs")) == (0, 0)
        Past(instance).run(moment(0))
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(ROWS, "ready", passed=True))
        grown = storage_use(tmp_path) - before
    assert grown.table("runs") == 1
    # In the run's database, in the index and among the answers; without a run in a database of its own instead.
    assert grown.rows["event_logs, asset_check_evaluation"][1] == 4
    assert grown.table("asset_check_executions") == 3  # Dagster leaves what was planned for a partition
    assert grown.event_rows == sum(rows for name, (_, rows) in grown.rows.items() if name != "runs")
    assert grown.bytes == sum(file.stat().st_size for file in tmp_path.rglob("*") if "db" in file.name) - before.bytes
    assert {"index", "databases of runs", "events without a run", "list of runs"} <= grown.files.keys()


def test_the_95th_of_a_hundred_is_what_95_do_not_exceed() -> None:
    assert percentile(list(range(1, 101)), 0.95) == 95
    assert percentile([3, 1, 2, 4], 0.5) == 2
    assert percentile([2.0], 0.95) == 2.0


def test_a_contender_that_fails_is_left_out_and_told() -> None:
    said: list[str] = []

    def broken() -> Run:
        return run([sys.executable, "-c", "raise SystemExit('it broke')"])

    found = rounds({"good": lambda: Run(10, 2.0), "bad": broken}, 3, said.append)
    assert found.keys() == {"good"}
    assert found["good"].document()["per_second"] == 5
    assert len(said) == 1
    assert "it broke" in said[0]


def test_a_process_that_writes_no_result_is_an_error() -> None:
    with pytest.raises(BenchError, match="exit status 0"):
        run([sys.executable, "-c", ""])


def test_a_target_is_met_from_the_right_side() -> None:
    assert Target("rate", 3.0, 3.0).met
    assert not Target("rate", 2.9, 3.0).met
    assert Target("memory", 400, 400, most=True).met
    assert not Target("memory", 401, 400, most=True).met


def test_the_command_prints_one_document_and_starts_are_timed() -> None:
    command = [sys.executable, "-m", "sync_assets_tests.bench", "startup", "--quick", "--json"]
    document = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    assert document["machine"]["cores"] > 0
    [report] = document["reports"]
    assert (report["bench"], len(report["targets"])) == ("start-up", 3)
    assert all(result["seconds"] > 0 for result in report["results"])
