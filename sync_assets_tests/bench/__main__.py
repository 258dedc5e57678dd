"""`python -m sync_assets_tests.bench BENCH`: measures, prints a table or one JSON document. See README.md."""

import argparse
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from sync_assets_tests.bench.commands import commands
from sync_assets_tests.bench.latency import latency
from sync_assets_tests.bench.measure import BenchError
from sync_assets_tests.bench.reading import capture, memory, noop
from sync_assets_tests.bench.show import show
from sync_assets_tests.bench.stage import Report, Settings, Stage, machine, stage
from sync_assets_tests.bench.writing import push

ON_STAGE: dict[str, Callable[[Stage], Report]] = {"capture": capture, "memory": memory, "noop": noop, "push": push}
ALONE: dict[str, Callable[[Settings], Report]] = {"latency": latency, "commands": commands}


def benches(wanted: str, settings: Settings) -> list[Report]:
    """Return the reports of one benchmark; `compare`: of all that can be compared with another checkout."""
    reports: list[Report] = []
    on_stage = [bench for name, bench in ON_STAGE.items() if wanted in (name, "compare")]
    if on_stage:
        with stage(settings) as running:
            reports += [bench(running) for bench in on_stage]
    reports += [bench(settings) for name, bench in ALONE.items() if wanted in (name, "compare")]
    for report in reports:
        report.compare_versions()
    return reports


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sync_assets_tests.bench", description=__doc__)
    parser.add_argument("bench", choices=(*ON_STAGE, *ALONE, "compare"))
    parser.add_argument("--before", type=Path, help="another checkout of the program, measured in the same rounds")
    parser.add_argument("--rows", type=int, help="of `capture`, `memory` and `noop`")
    parser.add_argument("--records", type=int, help="of a push without latency")
    parser.add_argument("--repeat", type=int, help="rounds")
    parser.add_argument("--seconds", type=float, help="duration of a push with latency")
    parser.add_argument("--changes", type=int, help="of `latency`")
    parser.add_argument("--silence", action="store_true", help="`latency` of the first change after a silence")
    parser.add_argument("--kill", action="store_true", help="`latency`: each second change follows a kill of the run")
    parser.add_argument("--rate", type=float, help="`latency` of so many changes a second, without waiting for each")
    parser.add_argument("--labels", action="store_true", help="peers ask for labels, which ours has from the metadata")
    parser.add_argument("--peers", choices=("all", "light", "none"), help="light: none that has to be installed")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures mean nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    settings = Settings.quick() if arguments.quick else Settings()
    given = {one.name: getattr(arguments, one.name, None) for one in fields(Settings)}
    settings = replace(settings, **{name: value for name, value in given.items() if value})
    if settings.before:
        settings = replace(settings, before=settings.before.resolve())
    here = machine()
    try:
        reports = benches(arguments.bench, settings)
    except BenchError as error:
        raise SystemExit(str(error)) from None
    if arguments.json:
        print(json.dumps({"machine": here, "reports": [report.document() for report in reports]}, indent=2))
    else:
        show(reports, here)


if __name__ == "__main__":
    main()
