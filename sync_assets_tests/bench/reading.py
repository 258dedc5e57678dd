"""`capture` and `noop`: reading a feed for the first time, and reading it again unchanged."""

from __future__ import annotations

from collections.abc import Callable

from sync_assets_tests.bench.ledgers import Ledgers
from sync_assets_tests.bench.measure import BenchError, Result, Run, module, rounds, run
from sync_assets_tests.bench.peers.known import READING, reader, ready
from sync_assets_tests.bench.stage import Report, Stage, Target

LIMIT = "limit: a bare socket that reads the bytes"
PEAK_MB = 400


def ours(ledgers: Ledgers) -> str:
    return f"sync_assets capture, {ledgers.name}"


def again(ledgers: Ledgers) -> str:
    return f"sync_assets re-read, {ledgers.name}"


def capture(stage: Stage) -> Report:
    """A first load: parsed, transformed, hashed and in the ledger; the peers only read, dlt into files."""
    report = Report("capture", "rows")
    settings = stage.settings
    url = stage.feed.url(settings.rows)
    runs: dict[str, Callable[[], Run]] = {LIMIT: lambda: run(module("raw_client", "read", url))}
    runs |= {ours(ledgers): lambda one=ledgers: _first_load(stage, one) for ledgers in stage.databases}
    commands = ready(READING, settings.peers, report.say)
    runs |= {
        name: reader(command, url, settings.page_rows, labels=settings.labels) for name, command in commands.items()
    }
    if settings.labels:
        report.say("Peers also ask for the labels of choices (formatted values); ours have them from the metadata.")
    found = rounds(runs, settings.repeat, report.say)
    report.results = with_limit(found)
    _compare_with_peers(stage, report)
    return report


def noop(stage: Stage) -> Report:
    """Everything read once more after all of it was acknowledged: nothing to write, nothing to send."""
    report = Report("noop", "rows")
    rows, done = stage.settings.rows, dict[str, str]()
    runs: dict[str, Callable[[], Run]] = {}
    for ledgers in stage.databases:
        done[ledgers.name] = ledgers.fresh()
        stage.capture(ledgers, done[ledgers.name], rows)
        run(module("jobs", "acknowledge", done[ledgers.name], *ledgers.options))
        ledgers.tidy(done[ledgers.name])
        runs[ours(ledgers)] = lambda one=ledgers: _first_load(stage, one)
        runs[again(ledgers)] = lambda one=ledgers: stage.on_copy(
            one, done[one.name], lambda ledger: _second_read(stage, one, ledger)
        )
    found = rounds(runs, stage.settings.repeat, report.say)
    report.results = list(found.values())
    for ledgers in stage.databases:
        ledgers.drop(done[ledgers.name])
        first, second = found.get(ours(ledgers)), found.get(again(ledgers))
        if first and second:
            second.told = {"calls": max(one.more["calls"] for one in second.runs)}
            report.targets += [
                Target(f"re-read against capture, {ledgers.name}", second.rate / first.rate, 1.3, "times"),
                Target(f"engine calls after a re-read, {ledgers.name}", second.told["calls"], 0, "calls", most=True),
            ]
    return report


def with_limit(found: dict[str, Result], limit: str = LIMIT) -> list[Result]:
    """All results, each with the limit that was measured beside it."""
    most = found[limit].rate if limit in found else None
    for name, result in found.items():
        result.limit = None if name == limit else most
    return list(found.values())


def _first_load(stage: Stage, ledgers: Ledgers) -> Run:
    ledger = ledgers.fresh()
    try:
        return stage.capture(ledgers, ledger, stage.settings.rows)
    finally:
        ledgers.drop(ledger)


def _second_read(stage: Stage, ledgers: Ledgers, ledger: str) -> Run:
    done = stage.capture(ledgers, ledger, stage.settings.rows)
    if done.more["unchanged"] != stage.settings.rows:
        raise BenchError(f"of {stage.settings.rows} unchanged rows {done.more['unchanged']} were found to be so")
    stage.campaign.forget()
    sent = stage.push(ledgers, ledger, 0, 64)
    counts = stage.campaign.counts()
    done.more["calls"] = sent.more["calls"] + counts["post"] + counts["patch"] + counts["other"]
    return done


def _compare_with_peers(stage: Stage, report: Report) -> None:
    for ledgers in stage.databases:
        mine = report.named(ours(ledgers))
        if not mine:
            continue
        for peer, wanted in ((READING[3], 3.0), (READING[2], 3.0), (READING[1], 1.0)):
            if other := report.named(peer.name):
                name = f"capture against {peer.name}, {ledgers.name}"
                report.targets.append(Target(name, mine.rate / other.rate, wanted, "times"))
        name = f"peak memory of a capture of {stage.settings.rows:,} rows, {ledgers.name}"
        report.targets.append(Target(name, mine.peak_mb, PEAK_MB, "MB", most=True))
