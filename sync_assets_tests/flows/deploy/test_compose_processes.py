"""One host without Docker: code server, web server, daemon and PostgreSQL as `docker-compose.yaml` starts them.

The code server is killed with its runs, once while a first load is sent, once while a run follows changes, and started
again as Docker does it; then the daemon. Everything arrives without a hand, nothing twice, and no run counts as started
for ever.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import dagster as dg
import httpx
import pytest

from sync_assets.commands.status import status
from sync_assets.defs.partitions import FOLLOWS_TAG, today
from sync_assets.runtime.context import Runtime
from sync_assets_tests.flows.deploy.conftest import PASSWORDS, made_databases
from sync_assets_tests.flows.deploy.services import Services, namespaces_can_be_made, running
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until

pytestmark = (
    pytest.mark.slow
)  # a whole installation; its parts: test_compose.py, test_code_server.py, test_killed_runs.py

CONTACTS, CHANGED = 300, 60
START_SECONDS = 90.0
ARRIVES_WITHIN = 120.0
"""Seconds after the code server was started again: half a minute, and the start on a busy machine."""

NAMED_WITHIN = 90.0
"""Seconds after the run was killed, of which no process of another container knows but by the silence."""

if namespaces_can_be_made():
    how = [pytest.param(True, id="containers"), pytest.param(False, id="processes")]
else:
    how = [pytest.param(False, id="processes")]


@pytest.fixture(params=how)
def services(
    request: pytest.FixtureRequest, program: Program, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """All of them, with the sensors on. Without namespaces the processes share this machine's."""
    given = program.env | {"SYNC_ASSETS_AUTOSTART": "1"}
    with made_databases(postgres) as result:
        made = Services(program.home / "dagster_home", PASSWORDS, result["PGHOST"], given, namespaces=request.param)
        for name in ("DAGSTER_PG_HOST", "DAGSTER_PG_PORT", "DAGSTER_PG_DB", "DAGSTER_PG_USER", "DAGSTER_PG_PASSWORD"):
            monkeypatch.setenv(name, made.environment("daemon")[name])
        monkeypatch.setenv("PGHOST", result["PGHOST"])
        with running(made):
            yield made


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with SandboxProcess(contacts=CONTACTS) as sandbox:
        sandbox.admin.latency("campaign", 300)
        yield Program(sandbox, tmp_path, guardrails={"concurrency": 8}, runs={"start_date": today()})
        assert sandbox.errors == ""


class Installation:
    """What a test asks of the running services."""

    def __init__(self, services: Services, program: Program, instance: dg.DagsterInstance, runtime: Runtime) -> None:
        self.services, self.program, self.instance, self.runtime = services, program, instance, runtime
        self.admin = program.sandbox.admin

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter(statuses=list(statuses)) if statuses else None))

    def serves(self) -> bool:
        """Does the web server answer, which has asked the code server then?"""
        try:
            return httpx.get(f"{self.services.url}/server_info", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def killed(self, *, follows: bool) -> dg.DagsterRun:
        """The run that was under way when the code server was killed: of a first load, or the one that follows."""
        [run] = self.runs(dg.DagsterRunStatus.STARTED)
        assert (FOLLOWS_TAG in run.tags) == follows
        self.services.kill("code")
        return run

    def started_again(self) -> float:
        self.services.start("code")
        return time.monotonic()

    @property
    def named(self) -> list[str]:
        """The killed runs that `status` names."""
        return [one.run_id for one in status(self.runtime).killed_runs]

    def arrives(self, all_is_there: Callable[[], bool], since: float) -> float:
        """How long that took."""
        try:
            until(all_is_there, since + ARRIVES_WITHIN - time.monotonic())
        except AssertionError:
            raise AssertionError(self.services.said("code") + self.services.said("daemon")) from None
        return time.monotonic() - since

    def titles(self) -> list[str]:
        return [profile["cusJobTitle"] for profile in self.program.profiles().values()]


@pytest.fixture
def installation(services: Services, program: Program) -> Iterator[Installation]:
    with (
        dg.DagsterInstance.from_config(str(services.home)) as instance,
        closing(Runtime(services.environment("code"))) as runtime,
    ):
        yield Installation(services, program, instance, runtime)


def test_all_arrives_once_and_by_itself_after_the_code_server_was_killed_twice(
    installation: Installation, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    admin, ids = installation.admin, [row["contactid"] for row in program.sandbox.admin.dump_d365()]
    until(installation.serves, START_SECONDS)
    until(lambda: admin.engine_calls()["insert"] > 20, START_SECONDS)
    first, since = installation.killed(follows=False), installation.started_again()
    assert len(program.profiles()) < CONTACTS, "the push was over before it could be killed"
    admin.latency("campaign", 50)
    took = [installation.arrives(lambda: len(program.profiles()) == CONTACTS, since)]
    for name in ("code", "web", "daemon"):  # not before: each try is a process that imports Dagster
        until(partial(installation.services.healthy, name), START_SECONDS)

    until(lambda: installation.runtime.ledger.reports.counts()["contact"].pending == 0, START_SECONDS)
    admin.latency("campaign", 300)
    before = admin.engine_calls()["update"]
    admin.change("contact", ids[:CHANGED], jobtitle="Changed")
    until(lambda: admin.engine_calls()["update"] > before + 5, START_SECONDS)
    second = installation.killed(follows=True)
    until(lambda: installation.named == [second.run_id], NAMED_WITHIN, every=3.0)
    since = installation.started_again()
    admin.change("contact", ids[CHANGED : 2 * CHANGED], jobtitle="Changed later")
    changed = {id_: "Changed" if at < CHANGED else "Changed later" for at, id_ in enumerate(ids[: 2 * CHANGED])}

    def all_changed() -> bool:
        there = program.profiles()
        return all(there[id_]["cusJobTitle"] == title for id_, title in changed.items())

    took.append(installation.arrives(all_changed, since))
    program.assert_in_step()

    installation.services.kill("daemon")
    installation.services.kill("web")
    assert not installation.services.healthy("web")
    admin.latency("campaign", 0)
    admin.change("contact", ids[:CHANGED], jobtitle="Without a daemon")
    until(lambda: installation.titles().count("Without a daemon") == CHANGED)  # by the follower
    installation.services.start("daemon")
    program.assert_in_step()

    sent = [entry["key"] for entry in admin.journal("campaign") if entry["engine"] == "insert"]
    made = [key for key, number in Counter(sent).items() if number > 1]
    assert len(made) <= 8  # in flight when it was killed, and asked for by its key then
    ended = {run.run_id: run.status for run in installation.runs()}
    assert (ended[first.run_id], ended[second.run_id]) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.FAILURE)
    until(lambda: len(installation.runs(dg.DagsterRunStatus.STARTED)) == 1)  # a run of the first load has ended
    [follows] = installation.runs(dg.DagsterRunStatus.STARTED)
    assert FOLLOWS_TAG in follows.tags
    assert installation.named == []
    home = installation.services.home
    ours = {"dagster.yaml", "workspace.yaml", *(path.name for path in home.glob("*.log"))}
    # The containers' root is read-only. `logs` is in a volume; Dagster's web server does without `.logs_queue`,
    # ours without the lock.
    assert {path.name for path in home.iterdir()} - ours <= {"logs", ".logs_queue", ".sync_assets.lock"}
    with capsys.disabled():
        print(f"everything there {took[0]:.0f} s and {took[1]:.0f} s after the code server was started again")
