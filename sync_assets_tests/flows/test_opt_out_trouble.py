"""The SFTP and Dynamics 365 as they may fail the flows of opt-outs, by whole runs. Campaign has a file of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sync_assets.commands.doctor import examine
from sync_assets.commands.rejects import rejects
from sync_assets.commands.retry import retry
from sync_assets_tests.support.openssh import OpenSsh, make_key, public
from sync_assets_tests.support.opt_outs import (
    HEADER,
    assert_quiet,
    audit,
    in_d365,
    says,
    set_campaign,
    set_d365,
    sides,
    switch_on,
    write_file,
    writes,
)
from sync_assets_tests.support.program import Program

DIRECTION, CONTACTS = "bidirectional", 300


@pytest.fixture
def program(installed: Program) -> Iterator[Program]:
    yield installed
    installed.sandbox.admin.settings("d365", inactive_read_only=False)


# --- the SFTP -------------------------------------------------------------------------------------------------------

Spoil = Callable[[Program, Path], None]


def other_host_key(program: Program, folder: Path) -> None:
    key = public(make_key(folder / "other", "ecdsa"))
    (folder / "known_hosts").write_text(f"[localhost]:{program.sandbox.env['CAMPAIGN_SFTP_PORT']} {key}\n")
    program.more["CAMPAIGN_SFTP_HOST_KEY"] = str(folder / "known_hosts")


CASES: dict[str, tuple[Spoil, str]] = {
    "the host key is another one": (other_host_key, "host key"),
    "a variable is missing": (
        lambda program, _: program.more.update(CAMPAIGN_SFTP_HOST=""),
        "CAMPAIGN_SFTP_HOST is not set",
    ),
}
"""Other troubles: unit/sftp and unit/config."""


def assert_doctor_tells(program: Program, says_: str) -> None:
    with closing(program.runtime()) as runtime:
        told = [line for line in examine(runtime) if line.outcome == "fail"]
    assert any(says_ in line.message for line in told), told


@pytest.mark.parametrize("case", CASES)
def test_without_the_sftp_files_wait_and_everything_else_goes_on(
    program: Program, ids: Iterator[str], tmp_path: Path, case: str
) -> None:
    spoil, says_ = CASES[case]
    waiting, changed = next(ids), next(ids)
    write_file(program, HEADER + says(waiting), f"optout_waiting_{waiting}.csv")
    spoil(program, tmp_path)
    program.sandbox.admin.change("contact", [changed], jobtitle=case)
    set_d365(program, changed, donotemail=True)
    done = program.sync()
    assert done.status == 1
    assert any(says_ in str(problem) for problem in done.problems), done.problems
    assert program.profiles()[changed]["cusJobTitle"] == case
    assert sides(program, changed) == (True, True)  # an opt-out of Dynamics 365 needs no SFTP
    assert sides(program, waiting) == (False, False)
    assert_doctor_tells(program, says_)
    program.more.clear()
    assert switch_on(program, "bidirectional").sync().status == 0
    assert sides(program, waiting)[0] is True


def test_a_server_with_another_host_key_is_told_nothing(program: Program, tmp_path: Path, ids: Iterator[str]) -> None:
    """OpenSSH's own server: before, and after its key has changed."""
    id_ = next(ids)
    with OpenSsh(tmp_path) as server:
        (server.exports / "optout_daily.csv").write_text(HEADER + says(id_))
        Path(os.fsdecode(os.fsencode(server.exports) + b"/optout_\xff.csv")).write_text(HEADER)
        settings = server.settings
        program.more |= {
            "CAMPAIGN_SFTP_HOST": settings.host,
            "CAMPAIGN_SFTP_PORT": str(settings.port),
            "CAMPAIGN_SFTP_USER": settings.user,
            "CAMPAIGN_SFTP_PRIVATE_KEY": str(settings.private_key),
            "CAMPAIGN_SFTP_HOST_KEY": str(settings.host_key),
        }
        done = program.sync()
        assert (done.status, done.document["opt_out"]["files_processed"]) == (0, 1), done.problems
        assert any("its name is not UTF-8" in line for line in done.stopped)
        assert sides(program, id_)[0] is True

        other = public(make_key(tmp_path / "other", "ed25519"))
        settings.host_key.write_text(f"[127.0.0.1]:{server.port} {other}\n")
        (server.exports / "optout_next.csv").write_text(HEADER + says(id_, 0))
        since, before = program.sandbox.admin.last(), len(server.log)
        refused = program.sync()
        assert (refused.status, len(refused.problems)) == (1, 1)
        assert "host key" in str(refused.problems[0])
        log = server.log[before:]
        assert "Connection from" in log
        assert "userauth" not in log
        assert writes(program, since) == {"d365": 0, "campaign": 0}


# --- Dynamics 365 ---------------------------------------------------------------------------------------------------


def test_what_dynamics_refuses_stands_in_rejects_and_the_others_arrive(program: Program, ids: Iterator[str]) -> None:
    _, inactive, also, _ = mine = [next(ids) for _ in range(4)]
    admin = program.sandbox.admin
    for id_ in mine:
        set_campaign(program, id_, blackListEmail=True)
    admin.change("contact", [inactive, also], statecode=1)
    admin.settings("d365", inactive_read_only=True)
    admin.export()
    done = program.sync()
    told = done.document["opt_out"]
    assert (done.status, done.problems, told["to_d365"], told["rejected"]) == (2, [], 2, 2)
    assert [in_d365(program, id_)["donotemail"] for id_ in mine] == [True, False, False, True]

    def refused() -> dict[str, tuple[str, int]]:
        with closing(program.runtime()) as runtime:
            return {one["id"]: (one["reason"], one["attempts"]) for one in rejects(runtime, "contact")}

    assert refused().keys() == {inactive, also}
    reason, attempts = refused()[inactive]
    assert "blackListEmail: Dynamics 365: Dynamics 365 refuses the change" in reason
    assert "inactive" in reason
    assert attempts == 1
    since = admin.last()
    assert program.sync().status == 2  # is not sent again by itself
    assert writes(program, since)["d365"] == 0

    def again(id_: str | None) -> int:
        with closing(program.runtime()) as runtime:
            return retry(runtime, "contact", id_)["retried"]

    assert again(inactive) == 1
    assert program.sync().status == 2
    assert {id_: attempts for id_, (_, attempts) in refused().items()} == {inactive: 2, also: 1}
    admin.settings("d365", inactive_read_only=False)
    assert again(also) == 1
    assert program.sync().document["opt_out"]["rejected"] == 1
    assert again(None) == 1
    assert program.sync().status == 0
    assert all(sides(program, id_)[0] for id_ in mine)
    assert refused() == {}


def test_a_contact_that_is_gone_is_not_made_again_by_its_profile(program: Program, ids: Iterator[str]) -> None:
    """Its profile stays in Campaign (apply_deletes is off) and goes on speaking."""
    id_, admin = next(ids), program.sandbox.admin
    admin.delete("contact", [id_])
    write_file(program, HEADER + says(id_), "optout_20261110_060000.csv")
    since = admin.last()
    done = program.sync()
    assert done.status == 0, (done.problems, done.stopped)
    assert writes(program, since) == {"d365": 0, "campaign": 0}
    assert id_ not in {row["contactid"] for row in admin.dump_d365()}
    assert audit(program)[-1].reason == "the contact is not in Dynamics 365"

    def asked(since: int) -> int:
        return sum(id_ in entry["path"] for entry in admin.journal(since=since))

    assert asked(since) > 0
    since = admin.last()
    assert_quiet(program)
    write_file(program, HEADER + says(id_), "optout_20261111_060000.csv")
    assert program.sync().status == 0
    assert asked(since) == 0
