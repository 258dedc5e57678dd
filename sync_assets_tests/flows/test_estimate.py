"""`estimate` foretells the engine calls of the first load and of a month, and leaves everything as it was."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_assets.commands.estimate import estimate
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.opt_outs import switch_on
from sync_assets_tests.support.program import Program

N = 50
"""Contacts of the sandbox."""


@pytest.fixture
def chain(request: pytest.FixtureRequest, new_chain: Callable[..., Chain]) -> Chain:
    return new_chain(style=request.param)


def estimated(program: Program, months: int = 12, other_calls: int = 0) -> dict[str, Any]:
    with closing(program.runtime()) as runtime:
        return estimate(runtime, months=months, other_calls=other_calls)


def files(program: Program) -> dict[Path, bytes]:
    assert program.env  # writes the configuration file
    return {path: path.read_bytes() for path in program.home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("chain", ["key", pytest.param("join", marks=pytest.mark.slow)], indirect=True)
def test_the_first_load_makes_the_calls_that_were_estimated(chain: Chain) -> None:
    for _ in range(7):
        chain.make()
    estimate_document = estimated(chain.program)
    done = chain.program.sync()
    assert done.status == 0
    assert estimate_document["first_load"]["engine_calls"] == done.document["engine_calls"]
    assert estimate_document["first_load"]["total"] == sum(done.document["engine_calls"].values())
    assert {one["first_load"]["bound"] for one in estimate_document["tables"].values()} == {"exact"}

    after = estimated(chain.program)
    assert after["first_load"]["total"] == 0
    assert after["month_so_far"]["engine_calls"] == done.document["engine_calls"]


def test_an_estimate_with_polls_of_profiles_makes_no_engine_call_and_writes_nothing(program: Program) -> None:
    admin = program.sandbox.admin
    switch_on(program, "bidirectional")
    program.opt_out["poll_profiles_minutes"] = 60
    before, since = files(program), admin.last()
    estimate_document = estimated(program)
    assert files(program) == before, "there was no ledger, and there is none"
    assert estimate_document["first_load"]["engine_calls"] == program.sync().document["engine_calls"]
    assert estimate_document["tables"]["contact"]["month"]["reads"]["polls of profiles"] == 720
    made, before = admin.engine_calls(), files(program)
    since = admin.last()
    estimated(program)
    assert files(program) == before
    assert admin.engine_calls() == made
    entries = admin.journal(since=since)
    assert entries
    assert {entry["system"] for entry in entries} & {"campaign", "ims", "sftp"} == set()
    assert {entry["method"] for entry in entries if entry["system"] == "d365"} == {"GET"}


def test_a_month_follows_the_rows_that_were_created_and_changed(program: Program) -> None:
    admin = program.sandbox.admin
    before = estimated(program)["tables"]["contact"]["month"]
    assert (before["inserts"], before["updates"]) == changes_of(admin.dump_d365())
    admin.change("contact", 20, jobtitle="Changed")
    for n in range(5):
        admin.create("contact", {"firstname": f"New {n}"})
    after = estimated(program)["tables"]["contact"]["month"]
    expected = changes_of(admin.dump_d365())
    assert (after["inserts"], after["updates"]) == expected
    assert after["inserts"] == before["inserts"] + 5
    assert after["engine_calls"]["insert"] == after["inserts"]
    assert after["engine_calls"]["update"] == after["updates"]
    program.table = {**program.table, "apply_updates": False}
    once = estimated(program)["tables"]["contact"]["month"]
    assert (once["inserts"], once["updates"], once["engine_calls"]["update"]) == (after["inserts"], 0, 0)


def changes_of(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """Rows created within 30 days; rows modified within 30 days, after the day (of 24 hours until now) of creation."""
    now = datetime.now(UTC)

    def age(text: str) -> int:
        return (now - datetime.fromisoformat(text)) // timedelta(days=1)

    ages = [(age(row["createdon"]), age(row["modifiedon"])) for row in rows]
    return sum(made < 30 for made, _ in ages), sum(changed < 30 and changed < made for made, changed in ages)


def test_budgets_and_other_sources_are_part_of_the_document_and_people_read_the_assumptions(program: Program) -> None:
    status, output, errors = program.run("estimate")
    assert (status, errors) == (0, "")
    assert f"first load: {N + 2} engine calls, less than a tenth of an hour at 2,304,000 an hour (assumed)" in output
    assert "Your contract with Adobe names the engine calls" in output

    program.guardrails = {"engine_calls_per_day": 20, "engine_calls_per_hour": 10}
    status, document = program.json("estimate", "--months", "6", "--other-calls", "1000")
    assert (status, document["first_load"]["days"], document["first_load"]["calls_per_hour"]) == (0, 3, 10)
    assert document["sum"]["with_first_load"] == N + 2 + 6 * document["month"]["with_other_calls"]
