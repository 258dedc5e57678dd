"""The two systems compared, after a sync and after changes that it did not carry."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from sync_assets.audit.audit_result import AuditResult
from sync_assets.config.opt_out import ActiveDirection
from sync_assets.ledger.rules.opt_outs import after_rejection
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.audited import audited
from sync_assets_tests.support.opt_outs import opted_in, set_campaign, set_d365, sides, switch_on
from sync_assets_tests.support.program import Program
from sync_assets_tests.unit.opt_out.test_parity import DAY, DIRECTIONS, HOUR

N = 20


Synced = Callable[[ActiveDirection], Program]


@pytest.fixture(scope="module")
def synced(sandbox_factory: SandboxFactory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    """`synced(direction)`: an installation whose two sides agree, for all tests of that direction. They put back what
    they change."""
    sandbox = sandbox_factory(contacts=N)
    programs: dict[ActiveDirection, Program] = {}

    def sync(direction: ActiveDirection) -> Program:
        if direction not in programs:
            program = switch_on(Program(sandbox, tmp_path_factory.mktemp(direction)), direction)
            done = program.sync()
            assert done.status == 0, (done.problems, done.stopped)
            programs[direction] = program
        return programs[direction]

    yield sync
    assert sandbox.errors == ""


def compare(program: Program) -> AuditResult:
    with closing(program.runtime()) as runtime:
        return audited(runtime)


def differing(result: AuditResult) -> dict[str, list[str]]:
    return {name: some.ids for name, some in result.opt_outs.items()}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_after_a_sync_all_agree_and_it_costs_a_page(synced: Synced, direction: ActiveDirection) -> None:
    program = synced(direction)
    before, since = program.sandbox.admin.engine_calls()["read"], program.sandbox.admin.last()
    result = compare(program)
    assert (result.equal, result.opt_outs_compared, differing(result)) == (N, 2 * N, {})
    assert program.sandbox.admin.engine_calls()["read"] - before == 2  # the number of records, and a page
    questions = [one for one in program.sandbox.admin.journal("d365", since) if "/contacts" in one["path"]]
    assert len(questions) == 1  # all of Dynamics 365's at once


def test_an_opt_out_in_campaign_that_no_file_brought_is_found_once_it_is_too_old(synced: Synced) -> None:
    program = synced("bidirectional")
    young, old, *_ = opted_in(program)
    now = datetime.now(UTC)
    set_campaign(program, young, now - HOUR, blackListPhone=True)
    set_campaign(program, old, now - 26 * HOUR, blackListEmail=True)
    result = compare(program)
    assert differing(result) == {"blackListEmail": [old]}
    assert result.opt_outs_on_the_way == 1
    set_campaign(program, young, blackListPhone=False)
    set_campaign(program, old, blackListEmail=False)


def test_from_d365_an_opt_out_that_campaign_lost_is_found_and_one_that_it_got_is_not(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = synced("d365_to_campaign")
    lost, got, *_ = opted_in(program)
    set_d365(program, lost, donotemail=True)
    assert program.sync().status == 0
    assert not differing(compare(program))
    set_campaign(program, lost, blackListEmail=False)
    set_campaign(program, got, blackListEmail=True)
    result = compare(program)
    assert (differing(result), result.opt_outs_on_the_way) == ({}, 1)  # the change of Dynamics 365 is too young
    monkeypatch.setattr("sync_assets.opt_out.parity.PUSHED_WITHIN", timedelta(0))
    assert differing(compare(program)) == {"blackListEmail": [lost]}
    set_d365(program, lost, donotemail=False)
    set_campaign(program, got, blackListEmail=False)
    assert program.sync().status == 0


def test_an_opt_out_that_d365_refused_is_a_difference_although_the_file_brought_it(synced: Synced) -> None:
    """From Campaign alone, a change that Dynamics 365 took back itself is in order; one that it never took is not."""
    program = synced("campaign_to_d365")
    never, back, *_ = opted_in(program)
    changed = datetime.now(UTC) - 26 * HOUR
    for id_ in (never, back):
        set_campaign(program, id_, changed, blackListEmail=True)
    program.sandbox.admin.export()
    assert program.sync().status == 0
    for id_ in (never, back):
        assert sides(program, id_) == (True, True)
        set_d365(program, id_, donotemail=False)
    assert not differing(compare(program))
    with closing(program.runtime()) as runtime:
        [row] = [row for row in runtime.ledger.opt_outs.of([never]) if row.attribute == "blackListEmail"]
        runtime.ledger.opt_outs.put([after_rejection(row._replace(value=1), "Dynamics 365: no", row.stated_at or 0)])
    assert differing(compare(program)) == {"blackListEmail": [never]}
    for id_ in (never, back):
        set_campaign(program, id_, blackListEmail=False)


def test_a_contact_on_hold_is_not_compared(synced: Synced) -> None:
    """Its opt-outs are carried nowhere meanwhile, whatever they are."""
    program = synced("bidirectional")
    held, *_ = opted_in(program)
    with closing(program.runtime()) as runtime:
        runtime.ledger.holds.hold(held)
    set_campaign(program, held, datetime.now(UTC) - 30 * DAY, blackListEmail=True)
    result = compare(program)
    assert (differing(result), result.opt_outs_compared) == ({}, 2 * (N - 1))
    set_campaign(program, held, blackListEmail=False)
    with closing(program.runtime()) as runtime:
        runtime.ledger.holds.end_hold(held, deleted=False)


def test_a_contact_that_is_gone_on_one_side_is_passed_over(synced: Synced) -> None:
    """The missing profile is the finding of another check. Last: they do not come back."""
    program = synced("bidirectional")
    here, there, *_ = opted_in(program)
    program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "keys": [here]})
    program.sandbox.admin.delete("contact", [there])
    assert compare(program).opt_outs_compared == 2 * (N - 2)
