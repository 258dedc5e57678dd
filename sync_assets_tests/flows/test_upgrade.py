"""An upgrade: this version goes on with the ledger, DAGSTER_HOME, configuration and sensors of an earlier commit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData, TickStatus

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.dagster_dev import dagster_daemon
from sync_assets_tests.support.earlier_version import earlier_version
from sync_assets_tests.support.opt_outs import HEADER, in_d365, says, switch_on, write_file, writes
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.waiting import until

BEFORE_LASTING_RUNS = "4b9213d21c9b"
"""Its ledger lacks the last two migrations, and it lets each change start a run."""
BEFORE_THE_PACKAGES = "3faed61"
"""Before the modules moved into today's packages."""
PATIENCE = 120.0


def tables(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the states and feed positions of all tables; the texts beside them may differ from version to version."""
    names = ("resource", "pending", "waiting", "failed", "held", "synced", "feed")
    return {table: {name: one[name] for name in names} for table, one in document["tables"].items()}


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a new ledger; empty for the default, SQLite in DAGSTER_HOME."""
    if request.param == "sqlite":
        yield ""
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


@pytest.mark.parametrize(
    ("commit", "ledger_url", "reads"),
    [(BEFORE_LASTING_RUNS, "sqlite", 6), (BEFORE_THE_PACKAGES, "postgresql", 2)],
    indirect=["ledger_url"],
)
def test_pending_work_of_an_earlier_version_is_done_once(
    commit: str, ledger_url: str, reads: int, sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """A contact that Campaign rejected, its order that waits, and a file of opt-outs that are decided but unwritten."""
    chain = Chain(sandbox_factory, tmp_path)
    admin, program = chain.admin, switch_on(chain.program, "bidirectional")
    program.runs, program.on_disk = {}, True  # the earliest version has no such key
    earlier = earlier_version(program, commit)
    program.more["SYNC_ASSETS_LEDGER_URL"] = ledger_url
    admin.settings("campaign", bare_data_policy=False)
    ada, *_ = chain.make("Ada")
    eve, *_ = chain.make("Eve")
    admin.change("contact", [eve], emailaddress1="not-an-address")
    write_file(program, HEADER + says(ada))
    admin.fault("d365", "status", status=401, path=r"\$batch")
    _, left = earlier.json("sync")
    assert {table: (one["failed"], one["waiting"]) for table, one in left["tables"].items()} == {
        "contact": (1, 0), "new_order": (0, 1), "new_orderline": (0, 1),
    }  # fmt: skip
    assert (left["opt_out"]["files_processed"], left["opt_out"]["to_d365"], left["opt_out"]["due"]) == (1, 0, 1)
    admin.clear_faults()
    admin.clear_journal()

    assert tables(program.json("status")[1]) == tables(left)
    assert admin.journal() == []
    admin.change("contact", [eve], emailaddress1="eve@example.org")
    status, done = program.json("sync")
    # Of each link the first new record is read back. The earliest version took each 2xx for a link, so one of its
    # records is read back as well, with its parent.
    assert (status, done["engine_calls"]) == (0, calls(insert=3, read=reads))
    assert done["opt_out"]["to_d365"] == 1
    assert {resource: len(records) for resource, records in chain.held().items()} == dict.fromkeys(chain.held(), 2)
    assert in_d365(program, ada)["donotemail"]

    before = admin.last()
    assert program.json("sync")[0] == 0
    assert writes(program, before) == {"d365": 0, "campaign": 0}


SENSORS = ("d365_changes", "backlog", "opt_out_file")


def test_sensors_go_on_from_the_cursors_and_states_of_an_earlier_version(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """A sensor that a person stopped stays stopped, all others go on, and nothing is captured or sent again."""
    program = switch_on(Program(sandbox_factory(contacts=5), tmp_path, runs={}), "bidirectional")
    program.more["SYNC_ASSETS_AUTOSTART"] = "1"
    admin, earlier = program.sandbox.admin, earlier_version(program, BEFORE_LASTING_RUNS)
    environment = program.env
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:

        def states() -> dict[str, InstigatorState]:
            return {state.instigator_name: state for state in instance.all_instigator_state()}

        def cursor(name: str) -> str | None:
            data = states()[name].instigator_data if name in states() else None
            return data.cursor if isinstance(data, SensorInstigatorData) else None

        def at_rest() -> bool:
            return len(program.profiles()) == 5 and not instance.get_runs(
                dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.QUEUED])
            )

        with dagster_daemon(earlier.folder, earlier.env):
            until(lambda: at_rest() and all(cursor(name) for name in SENSORS), PATIENCE)
        instance.update_instigator_state(states()["opt_out_file"].with_status(InstigatorStatus.STOPPED))
        before, upgraded = states(), time.time()
        cursors = {name: cursor(name) for name in SENSORS}
        admin.clear_journal()

        changed, *_ = program.profiles()
        admin.change("contact", [changed], jobtitle="After the upgrade")
        with dagster_daemon(program.home, environment):
            until(lambda: program.profiles()[changed]["cusJobTitle"] == "After the upgrade", PATIENCE)
        after = states()
        assert {name: after[name].selector_id for name in SENSORS} == {
            name: before[name].selector_id for name in SENSORS
        }
        assert after["opt_out_file"].status == InstigatorStatus.STOPPED
        assert cursor("opt_out_file") == cursors["opt_out_file"]
        ticks = {
            name: instance.get_ticks(after[name].instigator_origin_id, after[name].selector_id, after=upgraded)
            for name in SENSORS
        }
        assert ticks["d365_changes"]
        assert ticks["opt_out_file"] == []
        assert not any(tick.status is TickStatus.FAILURE for found in ticks.values() for tick in found)
        made = admin.engine_calls()
        assert (made["insert"], made["update"], made["delete"]) == (0, 1, 0)
