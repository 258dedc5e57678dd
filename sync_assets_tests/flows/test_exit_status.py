"""The exit status of `sync` when one table cannot be synchronised: 2 where its set-up must be corrected while other
tables could run, 1 where a service failed, and 1 where no table could run."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.flows.test_isolation import ORDER
from sync_assets_tests.support.program import CONTACT, Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

Spoil = Callable[[Program], object]


def order(**changes: object) -> Spoil:
    return lambda program: program.further[0].update(changes)


def d365(kind: str, path: str, **more: object) -> Spoil:
    return lambda program: program.sandbox.admin.fault("d365", kind, path=path, **more)


def campaign(kind: str, path: str, **more: object) -> Spoil:
    return lambda program: program.sandbox.admin.fault("campaign", kind, path=path, **more)


def tracking_off(program: Program) -> None:
    program.sandbox.admin.post("/d365/tracking", {"table": "new_order", "enabled": False})


def mappings_in_turns(program: Program) -> None:
    for fields in ({"new_name": "cusName"}, {}, {"new_name": "cusName"}, {}):
        program.sync()
        program.further[0]["fields"] = fields


def too_many_contacts(program: Program) -> None:
    program.guardrails = {"max_contacts": 2}


ROWS, METADATA = "/new_orders", "EntityDefinitions.*new_order"

CASES: dict[str, tuple[Spoil, int]] = {
    # The set-up of the table must be corrected
    "a column that the table does not have": (order(fields={"new_nothing": "cusName"}), 2),
    "an attribute that the resource does not have": (order(fields={"new_name": "cusNothing"}), 2),
    "a resource that Campaign does not have": (order(resource="cusNothing"), 2),
    "change tracking is off": (tracking_off, 2),
    "the role may not read the rows": (d365("forbidden", ROWS), 2),
    "two mappings take turns": (mappings_in_turns, 2),
    "there are more contacts than allowed": (too_many_contacts, 2),
    # A service failed
    "Dynamics 365 fails on the metadata": (d365("status", METADATA, status=500), 1),
    "Dynamics 365 refuses for a reason of its own": (d365("status", METADATA, status=418), 1),
    "Dynamics 365 ends the feed without a link": (d365("missing_delta_link", ROWS), 1),
    "Dynamics 365 names another host": (d365("wrong_host_link", ROWS), 1),
    "Campaign fails on the metadata": (campaign("status", "resourceType.*cusOrder", status=500), 1),
}

AT_NIGHT = {"a resource that Campaign does not have", "two mappings take turns"}
"""Others of their kind are tried in each run."""
night = pytest.mark.slow


@pytest.fixture(scope="module")
def one_sandbox(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=3)


@pytest.fixture
def program(one_sandbox: SandboxProcess, tmp_path: Path) -> Iterator[Program]:
    yield Program(one_sandbox, tmp_path, deepcopy(CONTACT), further=[deepcopy(ORDER)])
    one_sandbox.admin.clear_faults()
    one_sandbox.admin.post("/d365/tracking", {"table": "new_order", "enabled": True})


@pytest.mark.parametrize("case", [pytest.param(case, marks=night if case in AT_NIGHT else ()) for case in CASES])
def test_a_fault_of_one_table_among_others(program: Program, case: str) -> None:
    spoil, status = CASES[case]
    spoil(program)
    done = program.sync()
    assert done.status == status, (done.problems, done.stopped)
    assert len(done.problems) == 1
    faulty = [name for name, counts in done.document["tables"].items() if counts["problem"]]
    assert faulty == ["contact" if case == "there are more contacts than allowed" else program.further[0]["table"]]


def test_a_table_that_a_spent_budget_stopped_could_run_and_one_in_maintenance_could_not(program: Program) -> None:
    order(fields={"new_nothing": "cusName"})(program)
    program.guardrails = {"engine_calls_per_day": 2}
    assert program.sync().status == 2
    program.guardrails = {}
    assert program.run("maintenance", "on", "contact")[0] == 0
    assert program.sync().status == 1


def test_a_gateway_without_an_instance_ends_all_tables_and_the_document_is_printed(program: Program) -> None:
    campaign("status", "resourceType", status=502)(program)
    status, document = program.json("sync")
    assert status == 1
    assert [name for name, counts in document["tables"].items() if counts["problem"]] == ["contact"]
