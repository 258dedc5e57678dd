"""The follower under Dagster's daemon: when it is killed, and beside the first load of another table."""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from sync_assets.cli.instance import PACKAGED
from sync_assets.defs.partitions import FOLLOWS_TAG, TABLE_TAG
from sync_assets.defs.tables.checks import table_checks
from sync_assets.ledger import Ledger
from sync_assets.runtime.workers import followers
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.dagster_dev import dagster_daemon
from sync_assets_tests.support.loads import assert_each_inserted_once, by_file, inserted, let_load_go_on
from sync_assets_tests.support.orchestra import shown
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

PATIENCE, RECOVERY = 120.0, 10.0


@contextmanager
def daemon(program: Program) -> Iterator[dg.DagsterInstance]:
    program.runs = {"linger_seconds": "always"}
    program.more = {"SYNC_ASSETS_AUTOSTART": "1"}
    home = program.home / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(PACKAGED.read_text())
    with dagster_daemon(program.home, program.env), dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def follows(program: Program) -> dict[str, int]:
    """The live followers: run id -> process."""
    with Ledger.open(f"sqlite:///{program.home / 'dagster' / 'ledger.db'}") as ledger:
        beats = ledger.runs.heartbeats()
        return {run_id: int(str(beats[run_id].worker).split("|")[2]) for run_id in followers(ledger)}


def test_a_follower_that_is_killed_is_replaced_in_seconds_and_its_checks_are_shown(program: Program) -> None:
    admin = program.sandbox.admin

    def arrived(title: str) -> bool:
        return title in {profile["cusJobTitle"] for profile in program.profiles().values()}

    with daemon(program) as instance:
        until(lambda: bool(follows(program)), PATIENCE)
        runtime = program.runtime()
        checks = [spec.key for spec in table_checks(runtime.config.tables[0], runtime)]
        until(lambda: {shown(instance, key) for key in checks} == {"SUCCEEDED"}, PATIENCE)
        [(run_id, process)] = follows(program).items()
        os.kill(process, signal.SIGKILL)
        killed = time.monotonic()
        admin.change("contact", 1, jobtitle="After the kill")
        until(lambda: arrived("After the kill"), PATIENCE)
        until(lambda: {shown(instance, key) for key in checks} == {"SUCCEEDED"}, PATIENCE)
        assert time.monotonic() - killed < RECOVERY * 3  # 10 s where nothing else runs, see the bench of kills
        run = instance.get_run_by_id(run_id)
        assert run
        assert run.status == dg.DagsterRunStatus.FAILURE


@pytest.mark.slow  # with the waits of a real load
def test_a_follower_that_is_killed_while_a_load_waits_is_replaced_by_one_that_ends_the_load(program: Program) -> None:
    admin = program.sandbox.admin
    admin.configure_import("WKF20", trouble="pauses", at=1)
    with daemon(by_file(program)):
        until(lambda: inserted(program) == [50] and bool(follows(program)), PATIENCE)
        [process] = follows(program).values()
        [changed] = admin.change("contact", 1, jobtitle="Loading")
        os.kill(process, signal.SIGKILL)
        let_load_go_on(program)
        until(lambda: program.profiles()[changed]["cusJobTitle"] == "Loading", PATIENCE)
    assert inserted(program) == [50]
    assert_each_inserted_once(program)


@pytest.mark.slow  # a first load of a minute
def test_tables_are_followed_while_another_one_has_its_first_load(chain: Chain) -> None:
    """Three tables without links, of which the contacts take a minute to load."""
    admin, program = chain.admin, chain.program
    for resource, link in (("cusOrder", "cusContactLink"), ("cusOrderLine", "cusOrderLink")):
        admin.publish_link(resource, link, "zero_or_one")
    contact, *children = ({**one, "links": []} for one in (program.table, *program.further))
    program.table, program.further, program.guardrails = contact, children, {"concurrency": 4}
    admin.create("contact", *({"firstname": f"N{number}"} for number in range(100)))
    admin.latency("campaign", 2000)

    def change(config: dict[str, Any], column: str, attribute: str) -> Callable[[], bool]:
        value = f"v{uuid.uuid4().hex[:8]}"
        admin.create(config["table"], {column: value})
        # Campaign changes the case of names.
        return lambda: value in {record[attribute].casefold() for record in admin.dump_campaign(config["resource"])}

    with daemon(program) as instance:
        loading = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], tags={TABLE_TAG: "contact"})
        until(lambda: bool(follows(program)) and instance.get_runs_count(loading) == 1, PATIENCE)
        for config in children:
            until(change(config, "new_name", "cusName"), PATIENCE)
        assert instance.get_runs_count(loading) == 1
        assert len(admin.dump_campaign("profile")) < 100
        admin.latency("campaign", 0)
        until(lambda: instance.get_runs_count(loading) == 0, PATIENCE)
        until(change(contact, "firstname", "firstName"), PATIENCE)
        assert instance.get_runs_count(dg.RunsFilter(tags={FOLLOWS_TAG: "yes"})) == 1
