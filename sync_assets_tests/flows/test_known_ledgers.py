"""A configuration keeps to its ledger: from any folder, with a mistyped DAGSTER_HOME, with another or a lost ledger."""

from pathlib import Path

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

HELD = "4e1c0000-0000-4000-8000-000000000001"


@pytest.fixture
def program(systems: SandboxProcess, tmp_path: Path) -> Program:
    """With a ledger of its own, in which a contact is held."""
    program = Program(systems, tmp_path)
    program.more["DAGSTER_HOME"] = ""
    assert program.run("sync")[0] == 0
    assert program.run("hold", "add", HELD, "--force")[0] == 0
    return program


def ledgers(program: Program) -> list[Path]:
    return sorted(program.home.rglob("*.db"), key=str)


def ledger_files(program: Program) -> list[str]:
    return [str(path.relative_to(program.home)) for path in ledgers(program) if path.name.startswith("ledger")]


COMMANDS = [
    "sync", "status", "plan", "hold list", f"hold add {HELD}", f"hold verify {HELD}", "rejects", "replay contact",
    "rebuild", "certify --yes", "doctor",
]  # fmt: skip


def test_every_command_that_meets_an_empty_ledger_names_the_expected_one(program: Program) -> None:
    other = program.home / "other"
    other.mkdir()
    program.more["DAGSTER_HOME"] = str(other)
    before = program.sandbox.admin.last()
    for command in COMMANDS:
        status, output, errors = program.run(*command.split())
        assert status == 1, command
        assert f"{program.home / '.dagster' / 'ledger.db'}, but the one at {other / 'ledger.db'}" in output + errors
        assert "`sync-assets sync --new-ledger`" in output + errors
        assert ledger_files(program) == [".dagster/ledger.db"]
        if command != "doctor":
            assert program.sandbox.admin.journal(since=before) == [], command


def test_a_ledger_that_is_lost_is_not_made_again_and_its_copy_is_the_ledger_wherever_it_is(program: Program) -> None:
    copy = program.home / "ledger_copy.db"
    assert program.run("backup", str(copy))[0] == 0
    text = next(program.home.glob(".*.ledgers")).read_text("utf-8")
    assert str(program.home / ".dagster" / "ledger.db") in text
    assert not [name for name, value in program.env.items() if "SECRET" in name and value in text]
    for path in ledgers(program):
        if path != copy:
            path.unlink()
    status, _, errors = program.run("sync")
    assert status == 1
    assert f"{program.home / '.dagster' / 'ledger.db'}, but it is missing or empty" in errors
    assert ledger_files(program) == ["ledger_copy.db"]
    program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{copy}"
    assert [hold["id"] for hold in program.json("hold", "list")[1]["holds"]] == [HELD]


def test_a_new_ledger_is_begun_if_asked_for_and_is_the_expected_one_then(program: Program) -> None:
    program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{program.home / 'ledger2.db'}"
    assert program.run("sync")[0] == 1
    assert program.run("sync", "--new-ledger")[0] == 0
    assert program.run("sync")[0] == 0
    program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{program.home / 'ledger3.db'}"
    errors = program.run("sync")[2]
    assert f"at {program.home / 'ledger2.db'}, but the one at {program.home / 'ledger3.db'}" in errors
    status, _, errors = program.run("rebuild", "--new-ledger")
    assert status == 0, errors


def test_the_ledgers_of_two_pairs_of_systems_are_apart_and_a_folder_that_cannot_be_written_remembers_nothing(
    program: Program, sandbox_factory: SandboxFactory
) -> None:
    stage = Program(sandbox_factory(contacts=2), program.home)
    stage.more |= {"DAGSTER_HOME": "", "SYNC_ASSETS_LEDGER_URL": f"sqlite:///{program.home / 'ledger_stage.db'}"}
    assert stage.run("plan")[0] == 0
    assert stage.run("sync")[0] == 0
    assert program.run("sync")[0] == 2
    assert stage.run("sync")[0] == 0

    [file] = program.home.glob(".*.ledgers")
    file.unlink()
    file.mkdir()  # also for root, who may write everywhere
    assert program.run("sync")[0] == 2
    assert file.is_dir()
    assert [path.name for path in program.home.glob(f"{file.name}*")] == [file.name]
