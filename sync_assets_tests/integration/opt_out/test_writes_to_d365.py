"""A decided opt-out is written to Dynamics 365, unless the contact changed since the decision."""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sync_assets.campaign.profile_opt_outs import statements
from sync_assets.opt_out import apply
from sync_assets.opt_out.apply import Applied, write_due
from sync_assets.opt_out.pending_decisions import decide_due
from sync_assets.opt_out.session import open_session
from sync_assets.runtime.context import Runtime
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.integration.opt_out.test_pending_decisions import capture_and_push
from sync_assets_tests.support.opt_outs import in_d365, opted_in, set_d365, switch_on
from sync_assets_tests.support.program import Program

Change = Callable[[Program, str], object]


def nothing(program: Program, id_: str) -> None: ...


def same_value(program: Program, id_: str) -> None:
    set_d365(program, id_, donotemail=not in_d365(program, id_)["donotemail"])


def other_column(program: Program, id_: str) -> None:
    program.sandbox.admin.change("contact", [id_], firstname="Changed")


def second_later(program: Program, id_: str) -> None:
    """Times of Dynamics 365 have whole seconds."""
    time.sleep(1.1)
    other_column(program, id_)


@pytest.mark.parametrize(
    ("opts_out", "after_decision", "after_read", "outcome"),
    [
        (False, nothing, nothing, "written"),
        (True, nothing, nothing, "written"),
        (False, same_value, nothing, "held_already"),
        (False, second_later, nothing, "to_be_decided_again"),
        (True, second_later, nothing, "to_be_decided_again"),
        (False, nothing, other_column, "to_be_decided_again"),
        (True, nothing, other_column, "written"),  # an opt-out is not lost, whatever else changes
    ],
)
def test_a_decision_is_written_unless_the_contact_changed_since(
    opts_out: bool,
    after_decision: Change,
    after_read: Change,
    outcome: str,
    sandbox_factory: SandboxFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = switch_on(Program(sandbox_factory(contacts=5), tmp_path), "bidirectional")
    program.make_ledger()
    id_ = next(opted_in(program))
    set_d365(program, id_, donotemail=not opts_out)
    read = apply.rows_now

    async def read_then_changed(*arguments: Any) -> Any:
        rows = await read(*arguments)
        await asyncio.to_thread(after_read, program, id_)
        return rows

    monkeypatch.setattr(apply, "rows_now", read_then_changed)

    async def decided_and_written(runtime: Runtime) -> Applied:
        async with open_session(runtime) as session:
            await decide_due(session, "test")
            await asyncio.to_thread(after_decision, program, id_)
            return await write_due(session, "d365")

    with closing(program.runtime()) as runtime:
        capture_and_push(runtime)
        later = datetime.now(UTC) + timedelta(seconds=5)
        stated = {
            "externalId": id_,
            "blackListEmail": opts_out,
            "blackListEmailLastModified": f"{later:%Y-%m-%d %H:%M:%S.000Z}",
        }
        frame: pl.DataFrame = statements([stated], "externalId", ["blackListEmail"])
        runtime.ledger.opt_outs.store_stated(frame, ["blackListEmail"], "file", later)
        done = asyncio.run(decided_and_written(runtime))
        left = runtime.ledger.opt_outs.left(["blackListEmail"])
    assert {name: number for name, number in done.numbers().items() if number} == {outcome: 1}
    assert in_d365(program, id_)["donotemail"] is (opts_out if outcome != "to_be_decided_again" else not opts_out)
    assert (left.decide, left.to_d365) == (int(outcome == "to_be_decided_again"), 0)
