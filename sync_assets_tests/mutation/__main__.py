"""Run the mutation check: `python -m sync_assets_tests.mutation [GROUP]... [-j N]`, or `poe mutation`.

Each mutant runs the tests of its group, to the first failure, in a fork of a process that has collected them: the fork
gives the function its changed code. For a change outside of functions it imports the package again. A mutant that no
test fails for survives. Exit status: 0 if at least WANTED of the mutants of each group are killed, else 1.

Invariant: the process that is forked has run no test, so it has no thread.
"""

import argparse
import ast
import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import resource
import signal
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.main import pytest_runtestloop as default_loop
from _pytest.tmpdir import TempPathFactory

from sync_assets_tests.mutation.equivalents import EQUIVALENT
from sync_assets_tests.mutation.mutants import Mutant, Mutants, enums

WANTED = 0.95
LIMIT_SECONDS = 15
"""Processor time. A mutant that takes more, or twenty times as long, counts as killed: it repeats or waits for ever."""
_NOT_RUN = 70
"""Exit status of a fork that fails before its first test."""
ROOT = Path(__file__).parents[2]
_RULES, _UNIT, _LEDGER = "sync_assets/ledger/rules", "sync_assets_tests/unit", "sync_assets_tests/unit/ledger"
_OPTIONS = ["-x", "-q", "--tb=no", "-n", "0", "-p", "no:cacheprovider", "-p", "no:warnings", "-o", "addopts="]
_QUICK = "not postgresql"


@dataclass(frozen=True)
class Group:
    """Modules, and the quick tests that hold their rules: those that fail most often first."""

    modules: Sequence[str]
    tests: Sequence[str]
    sql_only: bool = False


_RECORDS = ("captures", "claims", "deletions", "privacy_holds", "hold_records", "dependency_status")
_ON_LEDGERS = [
    *(f"{_LEDGER}/test_{name}.py" for name in ("links", "incarnations", "link_configuration", "orphans")),
    *(f"{_LEDGER}/records/test_{name}.py" for name in _RECORDS),
]
_OF_RECORDS = ("record_state", "transitions", "dependencies", "rejection_reasons")
_TESTS_OF_RECORDS = ("dependencies", "rejection_reasons", "desired_updates", "transitions")
_TESTS_OF_DELIVERY = (
    *("delivery", "delivery_requests", "refused_attributes", "stale_findings", "link_verification", "key_proof"),
)
GROUPS = {
    "rules": Group([f"{_RULES}/{name}.py" for name in _OF_RECORDS],
                   [f"{_LEDGER}/rules/test_{name}.py" for name in _TESTS_OF_RECORDS]),
    "opt-outs": Group([f"{_RULES}/opt_outs.py"], [f"{_LEDGER}/rules/test_opt_outs.py"]),
    "decide": Group(["sync_assets/opt_out/decide.py"], [f"{_UNIT}/opt_out/test_decide.py"]),
    "body": Group(["sync_assets/push/request_body.py"], [f"{_UNIT}/push/test_request_body.py"]),
    "delivery": Group(["sync_assets/push/delivery.py", "sync_assets/push/delivery_result.py"],
                      [f"{_UNIT}/push/test_{name}.py" for name in _TESTS_OF_DELIVERY]),
    "sql": Group([f"sync_assets/ledger/records/{name}.py" for name in ("dependency_status", "claims", "claim_rows")],
                 _ON_LEDGERS, sql_only=True),
}  # fmt: skip


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


class _MutantFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a compiled syntax tree, all others as usual."""

    def __init__(self, path: Path, code: types.CodeType) -> None:
        self._name, self._path, self._code = _module_name(path), path, code

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)  # pyright: ignore[reportArgumentType]

    def exec_module(self, module: types.ModuleType) -> None:
        exec(self._code, module.__dict__)


def start(mutants: Mutants | None, mutant: Mutant | None, session: pytest.Session, folder: Path, group: Group) -> int:
    """Fork a process that runs the collected tests with the mutant; None: as they are. Return its pid."""
    pid = os.fork()
    if pid:
        return pid
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS, LIMIT_SECONDS))
    signal.alarm(20 * LIMIT_SECONDS)
    status = _NOT_RUN
    with contextlib.suppress(BaseException):
        _silence()
        home = folder / str(os.getpid())
        if mutants and mutant:
            mutant.apply()
            code = compile(ast.fix_missing_locations(mutants.tree), str(mutant.path), "exec")
            if not _replace_code(mutant, code):
                status = int(_with_fresh_modules(mutant, code, group, home))
                os._exit(status)
        session.config.option.basetemp = home
        session.config._tmp_path_factory = TempPathFactory.from_config(session.config, _ispytest=True)  # pyright: ignore[reportAttributeAccessIssue]
        status = 1
        with contextlib.suppress(pytest.Session.Failed):
            default_loop(session)
        status = int(session.testsfailed > 0)
    os._exit(status)


def _replace_code(mutant: Mutant, code: types.CodeType) -> bool:
    """Give a function of the imported module its changed code. Return False if the change is not within a function."""
    if not mutant.function or isinstance(mutant.owner, ast.arguments | ast.ClassDef | ast.AnnAssign):
        return False
    result: object = sys.modules[_module_name(mutant.path)]
    for name in mutant.function.split("."):
        result = vars(result).get(name)
        code = next(one for one in code.co_consts if isinstance(one, types.CodeType) and one.co_name == name)
        function = inspect.unwrap(result.fget if isinstance(result, property) else result)  # pyright: ignore[reportArgumentType]
        if isinstance(function, types.FunctionType):
            with contextlib.suppress(ValueError):  # another number of free variables
                function.__code__ = code
                return True
            return False
    return False


def _with_fresh_modules(mutant: Mutant, code: types.CodeType, group: Group, home: Path) -> int:
    """Import the package again, with the mutant in place of its module, and run the tests from the beginning."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sync_assets", "sync_assets_tests")]:
        del sys.modules[name]
    sys.meta_path.insert(0, _MutantFinder(mutant.path, code))
    return int(pytest.main([*_OPTIONS, f"--basetemp={home}", "-k", _QUICK, *group.tests]))


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


class Checker:
    """A pytest plugin that runs the collected tests once for each mutant instead of once."""

    def __init__(self, name: str, workers: int) -> None:
        self.name, self.group, self.workers = name, GROUPS[name], workers
        self.equivalent: set[str] = set()
        self.enough = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        with tempfile.TemporaryDirectory(prefix="mutation_") as folder:
            self._check(session, Path(folder))
        return True

    def _check(self, session: pytest.Session, folder: Path) -> None:
        gc.freeze()
        _, status = os.waitpid(start(None, None, session, folder, self.group), 0)
        if status:
            sys.exit(f"The tests of {self.name} fail without any mutant: correct them first.")
        killed = survived = 0
        started = time.monotonic()
        for mutant, dead in self._verdicts(session, folder):
            killed, survived = killed + dead, survived + (not dead)
            place = f"{mutant.path.relative_to(ROOT)}:{mutant.line} in {mutant.function or 'the module'}"
            print(f"{'killed  ' if dead else 'SURVIVED'} {place}: {mutant.change}", flush=True)
        share = killed / max(1, killed + survived)
        self.enough = share >= WANTED
        print(
            f"{self.name}: {killed} of {killed + survived} mutants killed ({share:.1%}), besides "
            f"{len(self.equivalent)} equivalent ones, in {time.monotonic() - started:.0f} s\n"
        )

    def _verdicts(self, session: pytest.Session, folder: Path) -> Iterator[tuple[Mutant, bool]]:
        """Yield each mutant with True if it was killed, in the order in which they end."""
        members = enums(ROOT / "sync_assets/ledger/model.py", ROOT / _RULES / "opt_outs.py")
        running: dict[int, Mutant] = {}
        for module in self.group.modules:
            mutants = Mutants(ROOT / module, members, sql_only=self.group.sql_only)
            for mutant in mutants:
                if mutant.name in EQUIVALENT:
                    self.equivalent.add(mutant.name)
                    continue
                running[start(mutants, mutant, session, folder, self.group)] = mutant
                if len(running) == self.workers:
                    yield _ended(running)
        while running:
            yield _ended(running)


def _ended(running: dict[int, Mutant]) -> tuple[Mutant, bool]:
    pid, status = os.wait()
    mutant, code = running.pop(pid), os.waitstatus_to_exitcode(status)
    if code == _NOT_RUN:
        raise RuntimeError(f"no test was run with {mutant.path}:{mutant.line} {mutant.change}")
    return mutant, code != 0


def main() -> int:
    """Run the groups that the arguments name; all if there is none."""
    parser = argparse.ArgumentParser(prog="python -m sync_assets_tests.mutation")
    parser.add_argument("group", nargs="*", help=f"the rules to check, of {', '.join(GROUPS)}; all if omitted")
    parser.add_argument("-j", "--workers", type=int, default=2, help="mutants at a time")
    arguments = parser.parse_args()
    names = arguments.group or list(GROUPS)
    os.chdir(ROOT)
    checkers = [Checker(name, arguments.workers) for name in names]
    for checker in checkers:
        pytest.main([*_OPTIONS, "-s", "-k", _QUICK, *checker.group.tests], plugins=[checker])
    stale = EQUIVALENT.keys() - {name for checker in checkers for name in checker.equivalent}
    for name in sorted(stale) if names == list(GROUPS) else []:
        print(f"equivalents.py lists a mutant that does not exist: {name}")
    return 0 if all(checker.enough for checker in checkers) and not (stale and names == list(GROUPS)) else 1


if __name__ == "__main__":
    sys.exit(main())
