"""How fast an opt-out file is taken, and in how much memory: `python -m sync_assets_tests.bench.opt_out_file`.

A file of `--rows` rows lies on the sandbox's SFTP: 1 % opted out, with the time of that change, the others as nearly
all rows of nearly all files are. 1,000 of the opted-out ones are contacts of Dynamics 365. Measured, each in a process
of its own: the file read and validated; its rows into the ledger; and a whole `sync`, decisions and writes
included, on another copy of the installation. Memory: resident at most, and what the process grew by when it worked.

With `--timed` every row tells a time of change, as if everybody had once opted in: each of them is news, and decided.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sync_assets_tests.support.opt_outs import HEADER, exports, switch_on
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTACTS = 1_000
OPTED_OUT = 0.01
NAME = "optout_20261120_060000.csv"
CHANGED = "2026-11-19T10:00:00.000Z"
STEPS = {"read": "file read", "ledger": "file read, into the ledger", "sync": "a whole sync"}


@dataclass(frozen=True)
class Measured:
    """`peak_bytes`: resident, at most; `grown_bytes`: beyond what was resident when the step began."""

    step: str
    rows: int
    seconds: float
    peak_bytes: int
    grown_bytes: int

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="opt_out_file", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the file")
    parser.add_argument("--timed", action="store_true", help="every row tells a time of change")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--step", choices=("read", "ledger"), help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    if told.step:
        print(json.dumps(asdict(_step(told.step))))
        return
    with tempfile.TemporaryDirectory(prefix="bench_") as folder, SandboxProcess(contacts=CONTACTS) as sandbox:
        found, size = _measure(sandbox, Path(folder), told.rows, told.timed)
    if told.json:
        steps = [{**asdict(one), "rows_per_second": round(one.rate, 1)} for one in found]
        print(json.dumps({"rows": told.rows, "timed": told.timed, "file_bytes": size, "steps": steps}, indent=1))
    else:
        _print(found, size)


def _measure(sandbox: SandboxProcess, folder: Path, rows: int, timed: bool) -> tuple[list[Measured], int]:
    homes = [folder / "steps", folder / "sync"]
    homes[0].mkdir()
    _say(f"{CONTACTS:,} contacts are synchronised")
    assert switch_on(Program(sandbox, homes[0]), "bidirectional").sync().status == 0
    shutil.copytree(homes[0], homes[1])
    by_steps, at_once = (switch_on(Program(sandbox, home), "bidirectional") for home in homes)
    _say(f"a file of {rows:,} rows is written")
    ids = [row["contactid"] for row in sandbox.admin.dump_d365()]
    path = exports(by_steps) / NAME
    with path.open("w", encoding="ascii") as file:
        file.write(HEADER)
        file.writelines(_rows(rows, ids, CHANGED if timed else ""))
    found: list[Measured] = []
    for step in ("read", "ledger"):
        _say(STEPS[step])
        command = [sys.executable, "-m", "sync_assets_tests.bench.opt_out_file", "--step", step]
        done = subprocess.run(command, env=by_steps.env, check=True, stdout=subprocess.PIPE, text=True)
        found.append(Measured(**json.loads(done.stdout.splitlines()[-1])))
    _say(STEPS["sync"])
    found.append(_sync(at_once, rows))
    return found, path.stat().st_size


def _rows(count: int, contacts: Sequence[str], changed: str) -> Iterator[str]:
    """The contacts stand among the others, all opted out. `changed`: the time of change of who is not."""
    chance = random.Random(1)
    strangers = max(0, int(count * OPTED_OUT) - len(contacts))
    places = set(chance.sample(range(count), min(count, len(contacts) + strangers)))
    ours = iter(contacts)
    for place in range(count):
        id_ = uuid.UUID(int=chance.getrandbits(128), version=4)
        if place in places:
            yield f"{next(ours, id_)},1,{CHANGED},0,\n"
        else:
            yield f"{id_},0,{changed},0,\n"


def _step(step: str) -> Measured:
    """In a process of its own, with the environment of an installation."""
    from sync_assets.opt_out.export import folder as files
    from sync_assets.opt_out.export import staging
    from sync_assets.runtime.context import Runtime

    with closing(Runtime()) as runtime, tempfile.TemporaryDirectory() as folder:
        files.poll_folder(runtime)
        [file] = files.poll_folder(runtime).ready
        begun, started = _resident("VmRSS"), time.perf_counter()
        spool = staging.StagedRows(Path(folder))
        taken = staging.spool_file(runtime, file, spool)
        if step == "ledger":
            staging.state_file(runtime, file, taken, spool)
        seconds, peak = time.perf_counter() - started, _resident("VmHWM")
    return Measured(step, taken.rows, seconds, peak, peak - begun)


def _sync(program: Program, rows: int) -> Measured:
    """`sync` as a person types it. It grows from nothing: its imports are in the figure."""
    started, peak = time.perf_counter(), 0
    process = program.start("sync", "--json")
    while process.poll() is None:
        peak = max(peak, _resident("VmHWM", process.pid))
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    told: dict[str, Any] = json.loads(output)["opt_out"]
    assert told["files_processed"] == 1, told
    return Measured("sync", rows, seconds, peak, peak)


def _resident(what: str, pid: int | str = "self") -> int:
    """VmRSS: bytes in memory now; VmHWM: at most so far. 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:")), 0)


def _print(found: Sequence[Measured], size: int) -> None:
    print(f"file: {found[0].rows:,} rows, {size / 1e6:,.0f} MB; {os.cpu_count()} cores")
    print(f"{'':<26}{'seconds':>10}{'rows/s':>12}{'peak MB':>10}{'grown MB':>10}")
    for one in found:
        print(
            f"{STEPS[one.step]:<26}{one.seconds:>10,.1f}{one.rate:>12,.0f}"
            f"{one.peak_bytes / 1e6:>10,.0f}{one.grown_bytes / 1e6:>10,.0f}"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
