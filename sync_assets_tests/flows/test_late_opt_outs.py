"""A write of an opt-out whose answer is lost takes effect later: after a newer decision was written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sync_assets.commands.status import status
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.opt_outs import (
    HEADER,
    assert_quiet,
    clear,
    opted_in,
    says,
    set_campaign,
    set_d365,
    sides,
    switch_on,
    write_file,
)
from sync_assets_tests.support.program import CONTACT, Program, calls
from sync_assets_tests.support.waiting import until


def installed(sandboxes: SandboxFactory, home: Path, direction: str) -> tuple[Program, str]:
    """Return an installation in sync, and a contact that is opted out of nothing.

    With direction d365_to_campaign the filter excludes the contact, so that no record carries its opt-outs.
    """
    program = switch_on(Program(sandboxes(contacts=20), home), direction)
    filters = {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}
    program.table = {**CONTACT, "filters": filters} if direction == "d365_to_campaign" else dict(CONTACT)
    assert program.sync().status == 0
    id_ = next(opted_in(program))
    if direction == "d365_to_campaign":
        program.sandbox.admin.change("contact", [id_], statecode=1)
        assert program.sync().status == 0
    return program, id_


def late(program: Program, system: str, id_: str, **more: Any) -> int:
    """Let the next write of the contact's opt-outs get no answer; it takes effect with `take_effect`."""
    path = {"path": r"\$batch"} if system == "d365" else {"method": "PATCH", "path": id_}
    return program.sandbox.admin.fault(system, "late", times=1, **path, **more)


def take_effect(program: Program) -> None:
    admin = program.sandbox.admin
    admin.clear_faults()
    until(lambda: any(entry["fault"] == "late" for entry in admin.journal()))


def stated(program: Program, id_: str, value: int, hours: int) -> None:
    """Let Campaign's user change blackListEmail, so many hours from now, and let a file state it."""
    at = datetime.now(UTC) + timedelta(hours=hours)
    set_campaign(program, id_, at, blackListEmail=bool(value))
    write_file(program, HEADER + says(id_, value, f"{at:%Y-%m-%dT%H:%M:%S.000Z}"), name=f"optout_{hours}.csv")


def opt_outs(program: Program) -> dict[str, Any]:
    runtime = program.runtime()
    try:
        return status(runtime)["opt_out"]
    finally:
        runtime.close()


def synced(program: Program) -> None:
    """Sync until nothing is due. A lost answer ends a round of writes, the next one makes up for it."""
    assert 0 in [program.sync().status for _ in range(2)]


def test_a_late_opt_in_does_not_stay_over_a_newer_opt_out_in_campaign(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    program, id_ = installed(sandbox_factory, tmp_path, "d365_to_campaign")
    set_d365(program, id_, donotemail=True)
    synced(program)
    late(program, "campaign", id_)
    set_d365(program, id_, donotemail=False)
    synced(program)
    set_d365(program, id_, donotemail=True)
    synced(program)
    assert sides(program, id_) == (True, True)
    assert opt_outs(program)["unconfirmed"] == 1
    _, output, _ = program.run("status")
    assert "1 opt-out is compared once more by" in output

    take_effect(program)
    assert sides(program, id_) == (True, False)

    program.pass_horizon()
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(read=1, update=1))
    assert sides(program, id_) == (True, True)
    assert opt_outs(program)["unconfirmed"] == 0
    assert_quiet(program)


def test_a_hold_says_until_when_an_opt_out_may_still_be_written(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    program, id_ = installed(sandbox_factory, tmp_path, "campaign_to_d365")
    clear(program)
    late(program, "d365", id_)
    stated(program, id_, 1, hours=1)
    synced(program)
    exit_status, output, _ = program.run("hold", "add", id_)
    assert (exit_status, "not certain before " in output) == (0, True), output
    assert "not certain before " in program.run("hold", "verify", id_)[1]
    assert program.json("hold", "verify", id_)[1]["certain_at"] is not None

    take_effect(program)
    program.pass_horizon()
    assert "not certain before " not in program.run("hold", "add", id_)[1]
    assert program.json("hold", "verify", id_)[1]["certain_at"] is None
