"""Play simulated runs: `python -m sync_assets_tests.simulate --seconds 600 [--seed N] [--start N] [--postgresql]`.

Each seed is some days of changes, faults and syncs on a simulated clock (docs/dev/simulation.md). A failure prints its
seed, the commit and a shortened history. Exit status: 0 if no seed fails, else 1.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

from sync_assets_tests.simulation import planted
from sync_assets_tests.simulation.checker import check
from sync_assets_tests.simulation.ledgers import Ledgers, postgresql_ledgers, sqlite_ledgers
from sync_assets_tests.simulation.run import Run, Stuck, play
from sync_assets_tests.simulation.scenario import Scenario, scenario
from sync_assets_tests.simulation.shorten import shortened

PAST_SEEDS = Path(__file__).parent / "simulation" / "past_seeds.txt"
SHORTEN_SECONDS = 120.0
SHOWN = 5


def failures(played: Scenario, ledgers: Ledgers) -> tuple[list[str], Run | None]:
    """Play a scenario. Return what is wrong with it, and the run unless it got stuck."""
    try:
        run = play(played, ledgers)
    except Stuck as error:
        return [f"{type(error).__name__.lower()}: {error}"], None
    problems = [str(violation) for violation in check(run.observed)]
    return problems, run


def rule_of(problem: str) -> str:
    """Return the part of a failure that a shortened history must still break."""
    return problem.split(":", maxsplit=1)[0]


def report(played: Scenario, problems: Sequence[str], ledgers: Ledgers) -> None:
    """Print a failure, with a shortened history."""
    rules = {rule_of(problem) for problem in problems}

    def fails(moves: tuple[object, ...]) -> bool:
        result, _ = failures(played.only(moves), ledgers)  # type: ignore[arg-type]
        return not rules.isdisjoint(map(rule_of, result))

    moves = shortened(played.moves, fails, SHORTEN_SECONDS)
    print(f"seed {played.seed} fails at {_commit()} ({', '.join(played.position_names)}); to replay it: ")
    print(f"  python -m sync_assets_tests.simulate --seed {played.seed}")
    for problem in problems[:SHOWN]:
        print(f"  {problem}")
    print(f"  {len(moves)} of its {len(played.moves)} moves are enough:")
    for move in moves:
        print(f"    {move}")
    print(f"  configuration: {played.document()}", flush=True)


def past_seeds() -> list[int]:
    """Return the seeds of past failures."""
    lines = (line.partition("#")[0].strip() for line in PAST_SEEDS.read_text(encoding="utf-8").splitlines())
    return [int(line) for line in lines if line]


def simulate(seeds: Iterator[int], ledgers: Ledgers, seconds: float = float("inf")) -> int:
    """Play seeds for some seconds, print failures and figures, and return how many failed."""
    began, processor = time.monotonic(), time.process_time()
    totals, failed = Counter[str](), list[int]()
    for seed in seeds:
        if time.monotonic() - began > seconds:
            break
        played = scenario(seed)
        problems, run = failures(played, ledgers)
        totals["seeds"] += 1
        if run:
            totals.update(
                seconds=int(run.seconds),
                calls=len(run.observed.calls),
                crashes=len(run.observed.crashes),
                syncs=run.syncs,
                faults=run.faults,
            )
        if problems:
            failed.append(seed)
            report(played, problems, ledgers)
    minutes, days = (time.monotonic() - began) / 60, totals["seconds"] / 86_400
    print(
        f"{totals['seeds']} seeds, {len(failed)} failed {failed or ''}; {days:.0f} simulated days, "
        f"{days / max(minutes, 1e-9):.0f} a minute; {totals['syncs']:,} syncs, {totals['calls']:,} engine calls, "
        f"{totals['crashes']:,} crashes, {totals['faults']:,} requests with a fault; "
        f"{time.process_time() - processor:.0f} s of processor time"
    )
    return len(failed)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "an unknown commit"


@contextmanager
def _ledgers(*, postgresql: bool) -> Generator[Ledgers]:
    with postgresql_ledgers() if postgresql else sqlite_ledgers() as ledgers:
        yield ledgers


def main(arguments: Sequence[str] | None = None) -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets must follow from the seed, too
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "sync_assets_tests.simulate", *sys.argv[1:]])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to play further seeds")
    parser.add_argument("--seeds", type=int, help="play so many further seeds at most")
    parser.add_argument("--seed", type=int, help="play this seed only")
    parser.add_argument("--start", type=int, help="the first of the seeds, which follow each other; default: random")
    parser.add_argument("--past", type=int, nargs="?", const=0, help="play so many of the latest past failures first")
    parser.add_argument("--postgresql", action="store_true", help="keep the ledger in PostgreSQL instead of SQLite")
    parser.add_argument("--planted", action="store_true", help="find each planted bug, within --seconds")
    given = parser.parse_args(arguments)
    start = random.randrange(10**9) if given.start is None else given.start
    with _ledgers(postgresql=given.postgresql) as ledgers:
        failed = 0
        if given.planted:
            return planted.find_bugs(start, given.seconds, lambda seed: not failures(scenario(seed), ledgers)[0])
        if given.past is not None:
            failed += simulate(iter(past_seeds()[-given.past :]), ledgers)
        if given.seed is None:
            print(f"{'fresh ' if given.start is None else ''}seeds from {start}", flush=True)
        seeds = islice(count(start), given.seeds) if given.seed is None else iter([given.seed])
        failed += simulate(seeds, ledgers, given.seconds)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
