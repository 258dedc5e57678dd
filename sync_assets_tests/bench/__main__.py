"""`python -m sync_assets_tests.bench WHAT`: measures, prints a table or one JSON document. See README.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sync_assets_tests.bench.history import history
from sync_assets_tests.bench.latency import latency
from sync_assets_tests.bench.load import load
from sync_assets_tests.bench.measure import BenchError, Run
from sync_assets_tests.bench.queries import queries
from sync_assets_tests.bench.reading import capture, noop, ours
from sync_assets_tests.bench.scaling import memory_growth, scale, scale_out
from sync_assets_tests.bench.show import show
from sync_assets_tests.bench.soak import soak
from sync_assets_tests.bench.stage import Report, Settings, Stage, machine, stage
from sync_assets_tests.bench.startup import startup
from sync_assets_tests.bench.thirty_million import thirty_million
from sync_assets_tests.bench.writing import push

__all__ = ["Run", "benches", "main"]

ON_STAGE: dict[str, list[Callable[[Stage], Report]]] = {
    "capture": [capture],
    "push": [push],
    "noop": [noop],
    "scale": [scale, scale_out],
    "queries": [queries],
}
ALONE = ("queries",)
"""Not part of `compare`: it fills two databases for minutes, and there is nothing to compare with."""
GIVEN = ("rows", "records", "repeat", "seconds", "changes", "every", "rates", "minutes", "peers", "plot")
MANY = 30_000_000
WHAT = (*ON_STAGE, "latency", "history", "soak", "startup", "thirty-million", "compare")


def benches(what: str, settings: Settings) -> list[Report]:
    """The reports of one benchmark; `compare`: of all."""
    reports: list[Report] = []
    wanted = [
        bench
        for name, some in ON_STAGE.items()
        if what == name or (what == "compare" and name not in ALONE)
        for bench in some
    ]
    if wanted:
        with stage(settings) as running:
            reports += [bench(running) for bench in wanted]
            if what == "compare":
                _memory(reports, running)
    if what in ("latency", "compare"):
        reports.append(load(settings) if settings.rates else latency(settings))
    if what == "history":
        reports.append(history(settings))
    if what == "thirty-million":
        reports.append(thirty_million(settings))
    if what == "soak":
        reports.append(soak(settings))
    if what in ("startup", "compare"):
        reports.append(startup() if settings.repeat > 1 else startup(settings.repeat))
    return reports


def _memory(reports: list[Report], running: Stage) -> None:
    """From the rows of `capture` to those of `scale`: memory must not follow."""
    by_name = {report.bench: report for report in reports}
    for ledgers in running.databases:
        small = by_name["capture"].named(ours(ledgers))
        large = by_name["scale"].named(f"capture, {ledgers.name}, {running.settings.large:,} rows")
        if small and large:
            by_name["scale"].targets.append(memory_growth(small, large))


def rates(text: str) -> tuple[float, ...]:
    """Of `1,10,100`."""
    return tuple(float(word) for word in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sync_assets_tests.bench", description=__doc__)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument(
        "--rows", type=int, help="of a capture, `queries`, `thirty-million`, the larger side of `scale`"
    )
    parser.add_argument("--records", type=int, help="of a push without latency")
    parser.add_argument("--repeat", type=int)
    parser.add_argument("--seconds", type=float, help="how long a push with latency takes")
    parser.add_argument("--changes", type=int, help="of `latency` at odd moments, or after silences")
    parser.add_argument("--every", type=float, help="seconds from one change to the next, of `latency` and `history`")
    parser.add_argument("--rate", dest="rates", type=rates, help="changes a second, of `latency`: 1,10,100,500")
    parser.add_argument("--minutes", type=float, help="how long, with --every, at each --rate, of `history` and `soak`")
    parser.add_argument("--idle", action="store_true", help="`soak` without changes and disturbances")
    parser.add_argument("--plot", type=Path, help="the SVG file that `soak` draws")
    parser.add_argument("--silence", action="store_true", help="`latency` of the first change after a silence")
    parser.add_argument("--milliseconds", type=int, default=0, help="latency of Campaign, of `thirty-million`")
    parser.add_argument("--sqlite", action="store_true", help="the ledger of `thirty-million`, else in PostgreSQL")
    parser.add_argument("--gzip", action="store_true", help="the feed is gzipped, as Dataverse's own is")
    parser.add_argument("--labels", action="store_true", help="peers ask for labels, which ours has from the metadata")
    parser.add_argument("--encrypted", action="store_true", help="each database once more, with encrypted payloads")
    parser.add_argument("--peers", choices=("all", "light", "none"), help="light: none that has to be installed")
    parser.add_argument("--quick", action="store_true", help="a smoke test; says nothing about speed")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    settings = Settings.quick() if arguments.quick else Settings()
    given = {name: getattr(arguments, name) for name in GIVEN}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    if arguments.what in ("scale", "queries") and arguments.rows:
        settings = replace(settings, large=arguments.rows)
    if arguments.what == "thirty-million":
        large = arguments.rows or (settings.large if arguments.quick else MANY)
        settings = replace(settings, large=large, milliseconds=arguments.milliseconds, sqlite=arguments.sqlite)
    switches = {name: getattr(arguments, name) for name in ("gzip", "labels", "encrypted", "silence", "idle")}
    settings = replace(settings, **switches)
    here = machine()
    try:
        reports = benches(arguments.what, settings)
    except BenchError as error:
        raise SystemExit(str(error)) from None
    if arguments.json:
        print(json.dumps({"machine": here, "reports": [report.document() for report in reports]}, indent=2))
    else:
        show(reports, here)


if __name__ == "__main__":
    main()
