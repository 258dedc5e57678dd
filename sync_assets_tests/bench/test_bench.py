"""That each benchmark runs and measures what it claims to, on numbers too small to mean anything about speed."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sync_assets.dataverse.page_parser import Page, PageParser, read_head
from sync_assets_tests.bench import latency
from sync_assets_tests.bench.__main__ import benches
from sync_assets_tests.bench.columns import COLUMNS, LABEL, prefer
from sync_assets_tests.bench.measure import ROOT, BenchError, Result, Run, rate_ratio, rounds, run
from sync_assets_tests.bench.peers.known import READING, WRITING
from sync_assets_tests.bench.servers import feed_server, push_server
from sync_assets_tests.bench.stage import Report, Settings, Target
from sync_assets_tests.bench.table import mapping

QUICK = Settings.quick()


def all_finite(report: Report) -> bool:
    """Every figure is there, and the document is JSON."""
    json.loads(json.dumps(report.document()))
    return bool(report.results) and all(result.runs and result.rate > 0 for result in report.results)


def read(link: str) -> Page:
    with urllib.request.urlopen(urllib.request.Request(link, headers={"Prefer": prefer("20", False)})) as answer:
        body = answer.read()
    mapped = mapping()
    return PageParser({name: mapped.column_types[name] for name in mapped.select}).parse(read_head(body))


def pages(link: str | None) -> Iterator[Page]:
    while link:
        yield (page := read(link))
        link = page.next_link


def test_the_feed_gives_as_many_different_rows_as_asked_for_the_same_ones_each_time() -> None:
    with feed_server(20) as server:
        first, again = (list(pages(f"{server.url(50)}/api/data/v9.2/contacts")) for _ in range(2))
        assert [page.rows.height for page in first] == [20, 20, 10]
        end = read(first[-1].delta_link or "")
        assert (end.rows.height, end.next_link, end.delta_link) == (0, None, first[-1].delta_link)
    ids = [id_ for page in first for id_ in page.rows["contactid"]]
    assert ids == [id_ for page in again for id_ in page.rows["contactid"]]
    assert len(set(ids)) == 50
    assert ids != sorted(ids)
    assert first[0].rows.width == len(COLUMNS) + 3  # with id, time of change and version


def test_a_peer_that_asks_for_labels_gets_them() -> None:
    with feed_server(20, labels=True) as server:
        link = f"{server.url(20)}/api/data/v9.2/contacts"
        for labels in (False, True):
            asked = urllib.request.Request(link, headers={"Prefer": prefer("20", labels)})
            with urllib.request.urlopen(asked) as answer:
                row = json.load(answer)["value"][0]
            assert (row.get(f"statuscode{LABEL}") in ("Active", "Inactive")) == labels


def test_campaign_answers_with_the_record_after_its_time_and_counts_a_key_that_comes_twice() -> None:
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
        for method in ("PATCH", "GET"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(urllib.request.Request(f"{address}/{'c' * 36}", method=method))
        assert (server.counts()["absent"], server.counts()["keys"]) == (2, 2)
        server.forget()
        assert server.counts()["keys"] == 0


@pytest.mark.slow  # whole benchmarks; the tests above are of their parts
@pytest.mark.timeout(900)
def test_a_comparison_measures_each_contender_in_both_checkouts_beside_the_peers() -> None:
    reports = {report.bench: report for report in benches("compare", replace(QUICK, before=ROOT))}
    assert list(reports) == ["capture", "memory", "noop", "push", "latency", "commands"]
    assert all(map(all_finite, reports.values()))
    for report, contenders in (
        ("capture", 2),
        ("memory", 4),
        ("noop", 4),
        ("push", 6),
        ("latency", 1),
        ("commands", 4),
    ):
        names = [result.name for result in reports[report].results]
        assert len([name for name in names if ", before" in name]) == contenders
        compared = [target for target in reports[report].targets if "rate against before" in target.name]
        assert len(compared) == contenders
    for bench, peers in (("capture", READING), ("push", WRITING)):
        names = [result.name for result in reports[bench].results]
        for peer in peers:
            assert any(peer.name in name for name in names) == peer.light
            assert any(peer.name in note for note in reports[bench].notes) != peer.light
    assert [run.items for result in reports["capture"].results for run in result.runs] == [QUICK.rows] * 5
    again = [result for result in reports["noop"].results if "re-read" in result.name]
    assert [result.details["calls"] for result in again] == [0] * 4
    [after, before] = reports["latency"].results
    assert after.details["rows_sent"] == before.details["rows_sent"] == QUICK.changes


@pytest.mark.slow
@pytest.mark.parametrize(("way", "changes"), [("silence", [QUICK.changes]), ("kill", [1, 1])])
def test_changes_are_made_after_silences_and_after_kills(way: str, changes: list[int]) -> None:
    report = latency.latency(replace(QUICK, **{way: True}))
    assert all_finite(report)
    assert [len(result.runs) for result in report.results] == changes


def test_the_95th_of_a_hundred_is_the_value_that_95_do_not_exceed() -> None:
    assert latency.percentile(list(range(1, 101)), 0.95) == 95
    assert latency.percentile([3, 1, 2, 4], 0.5) == 2
    assert latency.percentile([2.0], 0.95) == 2.0


def test_a_contender_that_fails_is_left_out_and_reported() -> None:
    notes: list[str] = []

    def broken() -> Run:
        return run([sys.executable, "-c", "raise SystemExit('it broke')"])

    results = rounds({"good": lambda: Run(10, 2.0), "bad": broken}, 3, notes.append)
    assert results.keys() == {"good"}
    assert results["good"].document()["per_second"] == 5
    assert len(notes) == 1
    assert "it broke" in notes[0]


def test_a_process_that_writes_no_result_is_an_error() -> None:
    with pytest.raises(BenchError, match="exit status 0"):
        run([sys.executable, "-c", ""])


def test_two_checkouts_are_compared_round_by_round() -> None:
    """The machine was half as fast in the second round, for both."""
    after, before = (Result(name, [Run(rows, 1), Run(rows // 2, 1)]) for name, rows in (("x", 90), ("x, before", 100)))
    assert rate_ratio(after, before) == 0.9
    report = Report("bench", "rows", [after, before])
    report.compare_versions()
    assert [(target.value, target.met) for target in report.targets] == [(0.9, False)]


def test_a_target_is_met_from_the_right_side() -> None:
    assert Target("rate", 3.0, 3.0).met
    assert not Target("rate", 2.9, 3.0).met
    assert Target("memory", 400, 400, most=True).met
    assert not Target("memory", 401, 400, most=True).met


@pytest.mark.slow
def test_the_command_prints_one_document() -> None:
    command = [sys.executable, "-m", "sync_assets_tests.bench", "commands", "--quick", "--json"]
    # Its standard error is not caught: the process that forks sandboxes keeps it open until the end of all tests.
    document = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    assert document["machine"]["cores"] > 0
    [report] = document["reports"]
    assert (report["bench"], len(report["targets"])) == ("commands", 4)
    assert all(result["seconds"] > 0 for result in report["results"])
