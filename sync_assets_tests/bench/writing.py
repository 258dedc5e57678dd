"""`push`: sending pending records from the ledger, beside clients that send the same bodies from memory."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from sync_assets_tests.bench.ledgers import Ledgers
from sync_assets_tests.bench.measure import BenchError, Result, Run, rounds, run
from sync_assets_tests.bench.peers.known import ADOBE, IN_FLIGHT, WRITING, ready
from sync_assets_tests.bench.stage import Report, Stage, Target
from sync_assets_tests.bench.table import write_bodies

BODIES = 40_000


class Case(NamedTuple):
    """One way to write: latency in milliseconds, requests in flight, and the share of the ideal rate that is wanted."""

    milliseconds: int
    in_flight: int
    share: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.milliseconds} ms, {self.in_flight} in flight"

    @property
    def ideal(self) -> float:
        """Records a second that the latency allows; 0 without latency."""
        return self.in_flight / self.milliseconds * 1000 if self.milliseconds else 0.0


CASES = (Case(0, 64), Case(100, 64, 0.92), Case(100, 256, 0.85))
PEERS_UP_TO = 64
"""Requests in flight of the cases that peers run."""


def ours(ledgers: Ledgers, case: Case) -> str:
    return f"sync_assets push, {ledgers.name}; {case.name}"


def push(stage: Stage) -> Report:
    """Measure claims, requests and acknowledgements. The peers have no ledger."""
    report, settings = Report("push", "records"), stage.settings
    runs: dict[str, Callable[[], Run]] = {}
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-bodies-")))
        bodies = folder / "bodies.jsonl"
        write_bodies(bodies, min(BODIES, 100 * settings.records))
        most = max(settings.records, *(int(case.ideal * settings.seconds) for case in CASES))
        filled = {one.name: held.enter_context(stage.filled(one, most)) for one in stage.databases}
        commands = ready(WRITING, settings.peers, report.say)
        for case in CASES:
            for ledgers in stage.databases:
                runs[ours(ledgers, case)] = _sending(stage, ledgers, filled[ledgers.name], case)
            for name, command in commands.items() if case.in_flight <= PEERS_UP_TO else ():
                url, seconds = stage.campaign.url(case.milliseconds), settings.seconds / 3
                words = [*command, url, str(bodies), str(seconds), str(IN_FLIGHT[name])]
                runs[f"{name}; {case.milliseconds} ms"] = lambda words=words: run(words)
        results = rounds(runs, settings.repeat, report.say)
    report.results = list(results.values())
    for case in CASES:
        for ledgers in stage.databases:
            if mine := results.get(ours(ledgers, case)):
                mine.details = _details(mine)
                _compare(report, mine, case, results.get(f"{ADOBE}; {case.milliseconds} ms"))
    return report


def _sending(stage: Stage, ledgers: Ledgers, ledger: str, case: Case) -> Callable[[], Run]:
    records = int(case.ideal * stage.settings.seconds) or stage.settings.records

    def send(copied: str) -> Run:
        stage.campaign.forget()
        done = stage.push(ledgers, copied, case.milliseconds, case.in_flight, records)
        counts = stage.campaign.counts()
        if counts["twice"] or counts["keys"] != done.items:
            raise BenchError(f"{done.items} records are done, but Campaign counted {counts}")
        return done

    return lambda: stage.on_copy(ledgers, ledger, send)


def _compare(report: Report, mine: Result, case: Case, adobe: Result | None) -> None:
    if case.ideal:
        mine.details["share_of_ideal"] = round(mine.rate / case.ideal, 4)
        name = f"{mine.name}: share of {case.ideal:,.0f}/s"
        report.targets.append(Target(name, mine.rate / case.ideal, case.share))
    elif adobe:
        report.targets.append(Target(f"{mine.name} against {ADOBE}", mine.rate / adobe.rate, 1.0, "times"))


def _details(mine: Result) -> dict[str, float]:
    """Return latencies as push measured them, in milliseconds, of the last run."""
    last = mine.runs[-1].more
    details = {name: round(last[name] * 1000, 1) for name in ("latency_p50", "latency_p95") if last.get(name)}
    return details | {"peak_in_flight": last["peak_in_flight"]}
