"""`capture`, `memory` and `noop`: reading a feed for the first time, a larger one, and once more unchanged."""

from collections.abc import Callable

from sync_assets_tests.bench.ledgers import Ledgers
from sync_assets_tests.bench.measure import BenchError, Run, rounds, run
from sync_assets_tests.bench.peers.known import AIRBYTE, READING, ready
from sync_assets_tests.bench.stage import Report, Stage, Target

PEAK_MB = 400
TIMES, GROWTH = 5, 1.1
"""Peak memory with five times the rows is at most a tenth more."""


def ours(ledgers: Ledgers) -> str:
    return f"sync_assets capture, {ledgers.name}"


def capture(stage: Stage) -> Report:
    """Measure a first load: parsed, transformed, hashed and in the ledger; the peers read, and forget the rows."""
    report, settings = Report("capture", "rows"), stage.settings
    url = stage.feed.url(settings.rows)
    runs: dict[str, Callable[[], Run]] = {
        ours(one): lambda one=one: _first_load(stage, one, settings.rows) for one in stage.databases
    }
    for name, command in ready(READING, settings.peers, report.say).items():
        words = [*command, url, str(settings.page_rows), "labels" if settings.labels else ""]
        runs[name] = lambda words=words: run(words)
    report.results = list(rounds(runs, settings.repeat, report.say).values())
    airbyte = report.named(AIRBYTE)
    for ledgers in stage.databases:
        if mine := report.named(ours(ledgers)):
            if airbyte:
                name = f"{mine.name} against {AIRBYTE}"
                report.targets.append(Target(name, mine.rate / airbyte.rate, 2.0, "times"))
            name = f"{mine.name}: peak memory of {settings.rows:,} rows"
            report.targets.append(Target(name, mine.peak_mb, PEAK_MB, "MB", most=True))
    return report


def memory(stage: Stage) -> Report:
    """Measure that the memory of a capture does not follow the number of rows."""
    report, sizes = Report("memory", "rows"), (stage.settings.rows, TIMES * stage.settings.rows)
    runs: dict[str, Callable[[], Run]] = {}
    for ledgers in stage.databases:
        for rows in sizes:
            runs[f"{ours(ledgers)}, {rows:,} rows"] = lambda one=ledgers, rows=rows: _first_load(stage, one, rows)
    results = rounds(runs, 1, report.say)
    report.results = list(results.values())
    for ledgers in stage.databases:
        few, many = (results.get(f"{ours(ledgers)}, {rows:,} rows") for rows in sizes)
        if few and many:
            ratio = many.peak_mb / few.peak_mb
            report.targets.append(Target(f"peak memory: {many.name}", ratio, GROWTH, "times", most=True))
    return report


def noop(stage: Stage) -> Report:
    """Measure reading everything once more after it was acknowledged: nothing to write, nothing to send."""
    report, rows, done = Report("noop", "rows"), stage.settings.rows, dict[str, str]()
    runs: dict[str, Callable[[], Run]] = {}
    for ledgers in stage.databases:
        ledger = done[ledgers.name] = ledgers.fresh()
        stage.capture(ledgers, ledger, rows)
        stage.acknowledge(ledgers, ledger)
        ledgers.tidy(ledger)
        runs[ours(ledgers)] = lambda one=ledgers: _first_load(stage, one, rows)
        runs[f"sync_assets re-read, {ledgers.name}"] = lambda one=ledgers: stage.on_copy(
            one, done[one.name], lambda copied: _second_read(stage, one, copied)
        )
    results = rounds(runs, stage.settings.repeat, report.say)
    report.results = list(results.values())
    for ledgers in stage.databases:
        ledgers.drop(done[ledgers.name])
        first, second = results.get(ours(ledgers)), results.get(f"sync_assets re-read, {ledgers.name}")
        if first and second:
            second.details = {"calls": max(one.more["calls"] for one in second.runs)}
            report.targets += [
                Target(f"re-read against capture, {ledgers.name}", second.rate / first.rate, 1.0, "times"),
                Target(f"engine calls after a re-read, {ledgers.name}", second.details["calls"], 0, "calls", most=True),
            ]
    return report


def _first_load(stage: Stage, ledgers: Ledgers, rows: int) -> Run:
    ledger = ledgers.fresh()
    try:
        return stage.capture(ledgers, ledger, rows)
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
