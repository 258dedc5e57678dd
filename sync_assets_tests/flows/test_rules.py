"""Rules of a table, by whole runs: a row that leaves the filter, and values that are replaced.

Each operator, and each kind of replaced value: unit/mapping.
"""

from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess


@pytest.fixture
def program(systems: SandboxProcess, tmp_path: Path) -> Program:
    systems.admin.empty()
    return Program(systems, tmp_path)


def maps(program: Program, fields: dict[str, Any], **more: Any) -> None:
    """The program's configuration from now on: contact to profile by these rules."""
    program.table = {"table": "contact", "resource": "profile", "key": "externalId", "fields": fields, **more}


def create(program: Program, *rows: dict[str, Any]) -> list[str]:
    """New contacts, in this order; their ids. A new row is active whatever is said, hence the change."""
    admin = program.sandbox.admin
    keys = admin.create("contact", *({"lastname": "Byron"} | row for row in rows))
    admin.change("contact", [key for key, row in zip(keys, rows, strict=True) if row.get("statecode")], statecode=1)
    return keys


def synced(program: Program, status: int = 0) -> dict[str, int]:
    """A sync that must end so; the engine calls that it cost."""
    done = program.sync()
    assert (done.status, done.problems) == (status, [])
    return done.document["engine_calls"]


def values(program: Program, *paths: str) -> dict[str, list[Any]]:
    """Attributes of the profiles by id."""

    def of(profile: dict[str, Any], path: str) -> Any:
        for step in path.split("."):
            profile = profile[step]
        return profile

    return {key: [of(profile, path) for path in paths] for key, profile in program.profiles().items()}


def test_a_row_that_leaves_stays_in_campaign_as_it_was_and_is_updated_when_it_comes_back(
    program: Program,
) -> None:
    admin = program.sandbox.admin
    active = {"rules": [{"field": "statecode", "is": "eq", "value": 0}], "delete_filtered_out": False}
    maps(program, {"jobtitle": "cusJobTitle"}, filters=active, apply_deletes=True)
    [leaves, _] = create(program, {"jobtitle": "Nurse"}, {"jobtitle": "Teacher"})
    synced(program)

    admin.change("contact", [leaves], statecode=1)
    assert synced(program) == calls()
    admin.change("contact", [leaves], jobtitle="Head nurse")
    assert synced(program) == calls()
    admin.expire("contact")
    assert synced(program) == calls()  # a complete read does not take it for deleted
    assert values(program, "cusJobTitle")[leaves] == ["Nurse"]

    admin.change("contact", [leaves], statecode=0)
    assert synced(program) == calls(update=1)
    assert values(program, "cusJobTitle")[leaves] == ["Head nurse"]

    admin.change("contact", [leaves], statecode=1)
    assert synced(program) == calls()
    admin.change("contact", [leaves], statecode=0)
    assert synced(program) == calls()  # as it was when it left


def test_a_replaced_value_is_sent_and_a_row_that_leaves_is_deleted_if_so_wished(program: Program) -> None:
    admin = program.sandbox.admin
    active = {"rules": [{"field": "statecode", "is": "eq", "value": "Active"}], "delete_filtered_out": True}
    replaced = {"familystatuscode": {1: "S", "Married": "M", None: "-"}}
    fields = {"jobtitle": "cusJobTitle", "familystatuscode": "cusInterests"}
    maps(program, fields, filters=active, replacements=replaced)
    [leaves, stays, _] = create(program, {"jobtitle": "Nurse", "familystatuscode": 2}, {}, {"statecode": 1})
    assert synced(program) == calls(insert=2, read=2)
    assert values(program, "cusInterests") == {leaves: ["M"], stays: ["-"]}
    replaced["familystatuscode"]["Married"] = "Wed"
    assert synced(program) == calls(update=1)
    assert values(program, "cusInterests")[leaves] == ["Wed"]

    admin.change("contact", [leaves], statecode=1)
    assert synced(program) == calls(delete=2, read=2)
    assert program.profiles().keys() == {stays}
    admin.change("contact", [leaves], jobtitle="Head nurse")
    assert synced(program) == calls()

    admin.change("contact", [leaves], statecode=0)
    assert synced(program) == calls(insert=1)
    assert values(program, "cusJobTitle")[leaves] == ["Head nurse"]

    admin.delete("contact", [leaves])  # apply_deletes is another question
    assert synced(program) == calls()
