"""A field is mapped or taken back while requests of the earlier mapping are under way, or may still take effect."""

import subprocess
from contextlib import closing
from typing import Any

import pytest

from sync_assets_tests.support.forked_commands import Command
from sync_assets_tests.support.program import CONTACT, Program
from sync_assets_tests.support.waiting import until

FIELDS = {"firstname": "firstName", "lastname": "lastName", "emailaddress1": "email"}
WITHOUT: dict[str, Any] = {**CONTACT, "fields": FIELDS}
WITH: dict[str, Any] = {**CONTACT, "fields": {**FIELDS, "telephone1": "phone"}}
PEOPLE = 30


@pytest.fixture
def mapped(program: Program) -> Program:
    """The contacts have a telephone number; their column is not mapped."""
    admin = program.sandbox.admin
    ids = sorted(row["contactid"] for row in admin.dump_d365())
    admin.delete("contact", ids[PEOPLE:])
    admin.change("contact", ids[:PEOPLE], telephone1="+48 22 555")
    program.table = dict(WITHOUT)
    return program


def started(program: Program, table: dict[str, Any]) -> subprocess.Popen[str] | Command:
    program.table = dict(table)
    return program.start("sync")


def claims(program: Program) -> int:
    with closing(program.runtime()) as runtime, runtime.ledger.database.read() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM sync_record WHERE session IS NOT NULL").scalar_one()


def phones(program: Program) -> list[str]:
    return sorted(profile["phone"] for profile in program.profiles().values())


def empty_and_map_again(program: Program) -> None:
    program.pass_horizon()
    assert program.run("sync")[0] == 0
    program.sandbox.admin.change("contact", sorted(program.profiles()), telephone1=None)
    program.table = dict(WITH)
    assert program.run("sync", "--accept-mapping")[0] == 0


def test_a_field_that_is_taken_back_while_its_updates_are_under_way_is_emptied_when_it_is_mapped_again(
    mapped: Program,
) -> None:
    assert mapped.sync().status == 0
    mapped.sandbox.admin.latency("campaign", 700)
    first = started(mapped, WITH)
    until(lambda: claims(mapped) == PEOPLE)
    second = started(mapped, WITHOUT)
    assert [process.wait() for process in (first, second)] == [0, 0]
    mapped.sandbox.admin.latency("campaign", 0)
    assert "+48 22 555" in phones(mapped)

    empty_and_map_again(mapped)
    assert phones(mapped) == [""] * PEOPLE


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_a_field_of_a_killed_process_whose_requests_take_effect_late_is_emptied_when_it_is_mapped_again(
    mapped: Program, method: str
) -> None:
    if method == "PATCH":
        assert mapped.sync().status == 0
    admin = mapped.sandbox.admin
    admin.fault("campaign", "late", method=method, path="/profile")
    first = started(mapped, WITH)
    until(lambda: any(rule["fired"] for rule in admin.fault_rules()))
    first.kill()
    first.wait()
    admin.clear_faults()
    until(lambda: any(entry["fault"] == "late" for entry in admin.journal()))
    mapped.pass_horizon()
    mapped.table = dict(WITHOUT)
    assert mapped.run("sync")[0] == 0
    assert "+48 22 555" in phones(mapped)

    empty_and_map_again(mapped)
    assert phones(mapped) == [""] * PEOPLE
