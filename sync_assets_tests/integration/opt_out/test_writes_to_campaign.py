"""A decided opt-out is written to Campaign, unless the look-up of the profile shows that Campaign holds it."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sync_assets.campaign.profile_opt_outs import statements
from sync_assets.opt_out.apply import Applied, write_due
from sync_assets.opt_out.pending_decisions import decide_due
from sync_assets.opt_out.session import open_session
from sync_assets.runtime.context import Runtime
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.integration.opt_out.test_pending_decisions import capture_and_push
from sync_assets_tests.support.opt_outs import opted_in, set_campaign, set_d365, switch_on
from sync_assets_tests.support.program import Program, calls

FILTER = {"address": "filter", "filter": {"name": "byExternalId", "parameter": "externalId_parameter"}}


@pytest.mark.parametrize(
    ("address", "held", "outcome", "made"),
    [
        (FILTER, False, {"written": 1}, calls(read=1, update=1)),
        (FILTER, True, {"held_already": 1}, calls(read=1)),
        ({}, True, {"written": 1}, calls(update=1)),  # nothing showed what Campaign holds
    ],
)
def test_an_opt_out_that_the_look_up_shows_is_not_written(
    address: dict[str, object],
    held: bool,
    outcome: dict[str, int],
    made: dict[str, int],
    sandbox_factory: SandboxFactory,
    tmp_path: Path,
) -> None:
    program = switch_on(Program(sandbox_factory(contacts=5), tmp_path), "bidirectional")
    program.table |= address
    program.make_ledger()
    id_ = next(opted_in(program))

    async def decided_and_written(runtime: Runtime) -> Applied:
        async with open_session(runtime) as session:
            await decide_due(session, "test")
            if held:
                await asyncio.to_thread(set_campaign, program, id_, blackListEmail=True)
            before = program.sandbox.admin.engine_calls()
            done = await write_due(session, "campaign")
            after = program.sandbox.admin.engine_calls()
            assert {kind: after[kind] - before[kind] for kind in after} == made
            return done

    with closing(program.runtime()) as runtime:
        capture_and_push(runtime)
        set_d365(program, id_, donotemail=True)
        stated = {"externalId": id_, "blackListEmail": False, "blackListEmailLastModified": ""}
        frame = statements([stated], "externalId", ["blackListEmail"])
        runtime.ledger.opt_outs.store_stated(frame, ["blackListEmail"], "file", datetime.now(UTC))
        capture_and_push(runtime)
        done = asyncio.run(decided_and_written(runtime))
    assert {name: number for name, number in done.numbers().items() if number} == outcome
    assert program.profiles()[id_]["blackListEmail"] is True
