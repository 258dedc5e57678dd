"""`push`: sending pending records from the ledger, beside what others do with the same bodies from memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sync_assets_tests.bench.bodies import write_bodies
from sync_assets_tests.bench.ledgers import Ledgers
from sync_assets_tests.bench.measure import BenchError, Result, Run, module, rounds, run
from sync_assets_tests.bench.peers.known import WRITING, ready, writer
from sync_assets_tests.bench.stage import Report, Stage, Target

BODIES = 40_000
CPU_MICROS = 350


@dataclass(frozen=True)
class Case:
    """One way to write: latency in milliseconds, requests in flight, and what issue 5 asks of it."""

    milliseconds: int
    in_flight: int
    peers: bool
    share: float = 0.0
    per_second: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.milliseconds} ms, {self.in_flight} in flight"

    @property
    def ideal(self) -> float | None:
        """What the latency allows, per second."""
        return self.in_flight / self.milliseconds * 1000 if self.milliseconds else None


CASES = (
    Case(0, 64, peers=True, per_second=2500),
    Case(100, 64, peers=True, share=0.92),
    Case(100, 256, peers=False, share=0.85),
)


def ours(ledgers: Ledgers, case: Case) -> str:
    return f"sync_assets push, {ledgers.name}; {case.name}"


def limit(case: Case) -> str:
    return f"limit: a bare asyncio client; {case.name}"


def push(stage: Stage) -> Report:
    """Claimed, sent, acknowledged in the ledger. The peers send from memory and remember nothing."""
    report = Report("push", "records")
    settings = stage.settings
    runs: dict[str, Callable[[], Run]] = {}
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-bodies-")))
        bodies = folder / "bodies.jsonl"
        write_bodies(bodies, min(BODIES, 100 * settings.records))
        most = max(settings.records, *(int((case.ideal or 0) * settings.seconds) for case in CASES))
        filled = {one.name: held.enter_context(stage.filled(one, most)) for one in stage.databases}
        commands = ready(WRITING, settings.peers, report.say)
        for case in CASES:
            url = stage.campaign.url(case.milliseconds)
            command = module(
                "raw_client", "write", url, "--in-flight", case.in_flight, "--seconds", settings.seconds / 3
            )
            runs[limit(case)] = lambda words=(*command, "--bodies", str(bodies)): run(words)
            for ledgers in stage.databases:
                runs[ours(ledgers, case)] = _sending(stage, ledgers, filled[ledgers.name], case)
            if case.peers:
                for name, words in commands.items():
                    runs[f"{name}; {case.milliseconds} ms"] = writer(name, words, url, bodies, settings.seconds / 3)
        found = rounds(runs, settings.repeat, report.say)
    report.results = list(found.values())
    for case in CASES:
        _judge(stage, report, found, case)
    return report


def _sending(stage: Stage, ledgers: Ledgers, ledger: str, case: Case) -> Callable[[], Run]:
    records = int(case.ideal * stage.settings.seconds) if case.ideal else stage.settings.records

    def send(copied: str) -> Run:
        stage.campaign.forget()
        done = stage.push(ledgers, copied, case.milliseconds, case.in_flight, records)
        counts = stage.campaign.counts()
        if counts["twice"] or counts["keys"] != done.items:
            raise BenchError(f"{done.items} records are done, but Campaign was told otherwise: {counts}")
        return done

    return lambda: stage.on_copy(ledgers, ledger, send)


def _judge(stage: Stage, report: Report, found: dict[str, Result], case: Case) -> None:
    most = found[limit(case)].rate if limit(case) in found else None
    for ledgers in stage.databases:
        mine = found.get(ours(ledgers, case))
        if not mine:
            continue
        mine.limit = most
        mine.told = _figures(mine)
        if case.ideal:
            mine.told["share_of_ideal"] = round(mine.rate / case.ideal, 4)
            name = f"push, {case.name}, {ledgers.name}: share of {case.ideal:,.0f}/s"
            report.targets.append(Target(name, mine.rate / case.ideal, case.share))
        else:
            report.targets.append(Target(f"push, {case.name}, {ledgers.name}", mine.rate, case.per_second, "records/s"))
        name = f"processor time of a record, {case.name}, {ledgers.name}"
        report.targets.append(Target(name, mine.cpu_micros, CPU_MICROS, "µs", most=True))
    for peer in WRITING if case.peers else ():
        if other := found.get(f"{peer.name}; {case.milliseconds} ms"):
            other.limit = most


def _figures(mine: Result) -> dict[str, float]:
    """Latencies as push saw them, in milliseconds, of the last run."""
    last = mine.runs[-1]
    told = {name: round(last.more[name] * 1000, 1) for name in ("latency_p50", "latency_p95") if last.more.get(name)}
    told["peak_in_flight"] = last.more["peak_in_flight"]
    return told
