"""Rules of a table, by whole runs: which rows are sent, what becomes of their values, what is refused."""

from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess

OPERATORS = {
    "eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "contains", "starts_with", "ends_with", "is_null", "not_null",
}  # fmt: skip
RULES: list[tuple[dict[str, Any], Any, Any]] = [
    ({"field": "statecode", "is": "eq", "value": "Active"}, 0, 1),
    ({"field": "gendercode", "is": "ne", "value": "Male"}, 2, 1),
    ({"field": "numberofchildren", "is": "lt", "value": 3}, 2, 3),
    ({"field": "new_balance", "is": "le", "value": 0.1}, 0.1, 0.11),
    ({"field": "creditlimit", "is": "gt", "value": "1000.50"}, 1000.51, 1000.5),
    ({"field": "birthdate", "is": "ge", "value": "1990-01-01"}, "1990-01-01", "1989-12-31"),
    ({"field": "new_lastvisit", "is": "lt", "value": "2024-06-01"}, "2024-05-31T23:59:59Z", "2024-06-01T00:00:00Z"),
    ({"field": "new_tier", "is": "in", "value": ["Gold", 100000002]}, 100000003, 100000001),
    ({"field": "familystatuscode", "is": "not_in", "value": [3, "Widowed"]}, 1, 4),
    ({"field": "new_interests", "is": "contains", "value": "Travel"}, "1,3", "1,2"),
    ({"field": "jobtitle", "is": "contains", "value": "R&D"}, "head of r&d", "Nurse"),
    ({"field": "department", "is": "starts_with", "value": "No"}, "NORTH", "Upper North"),
    ({"field": "emailaddress1", "is": "ends_with", "value": "@example.org"}, "a@EXAMPLE.ORG", "a@example.org.uk"),
    ({"field": "fax", "is": "is_null"}, None, "+1 555 0100"),
    ({"field": "address1_city", "is": "not_null"}, "Cork", None),
    ({"field": "new_vip", "is": "eq", "value": True}, True, False),
    ({"field": "address1_latitude", "is": "ge", "value": -7.5}, -7.5, -7.51),
]
"""A rule, a value that meets it, a value that does not. Only lastname is mapped."""


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


def rule_column(rule: dict[str, Any]) -> str:
    return rule["field"]


class TestFilters:
    def test_all_rules_have_to_be_met_and_any_is_enough(self, program: Program) -> None:
        assert {rule["is"] for rule, _, _ in RULES} == OPERATORS
        columns = [rule_column(rule) for rule, _, _ in RULES]
        meets = {rule_column(rule): good for rule, good, _ in RULES}
        fails = {rule_column(rule): bad for rule, _, bad in RULES}
        assert len(meets) == len(RULES)
        [meets_all] = create(program, meets)
        fail_one = create(program, *(meets | {column: fails[column]} for column in columns))
        meet_one = create(program, *(fails | {column: meets[column]} for column in columns))
        [meets_none] = create(program, fails)
        rules = [rule for rule, _, _ in RULES]

        maps(program, {"lastname": "lastName"}, filters={"match": "all", "rules": rules})
        assert synced(program) == calls(insert=1, read=2)
        assert program.profiles().keys() == {meets_all}

        maps(program, {"lastname": "lastName"}, filters={"match": "any", "rules": rules})
        assert synced(program) == calls(insert=len(fail_one) + len(meet_one))
        assert program.profiles().keys() == {meets_all, *fail_one, *meet_one}
        assert meets_none not in program.profiles()

    def test_a_row_that_leaves_stays_in_campaign_as_it_was_and_is_updated_when_it_comes_back(
        self, program: Program
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

    def test_a_row_that_leaves_is_deleted_if_so_wished_and_inserted_when_it_comes_back(self, program: Program) -> None:
        admin = program.sandbox.admin
        active = {"rules": [{"field": "statecode", "is": "eq", "value": 0}], "delete_filtered_out": True}
        maps(program, {"jobtitle": "cusJobTitle"}, filters=active)
        [leaves, stays, _] = create(program, {"jobtitle": "Nurse"}, {}, {"statecode": 1})
        assert synced(program) == calls(insert=2, read=2)

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


class TestReplacements:
    FIELDS = {  # noqa: RUF012
        "familystatuscode": "cusInterests",
        "gendercode": "gender",
        "new_vip": "salutation",
        "jobtitle": "cusJobTitle",
        "creditlimit": "cusBalance",
        "new_score": "location.stateCode",
        "birthdate": "birthDate",
        "new_interests": "location.address1",
    }
    REPLACEMENTS = {  # noqa: RUF012
        "familystatuscode": {1: "S", "Married": "M", None: "-"},
        "gendercode": {"Male": "female", 2: "male", None: "unknown"},
        "new_vip": {True: "VIP", False: "Guest"},
        "jobtitle": {"n/a": "", "CEO": "Chief", None: "none"},
        "creditlimit": {0: 0.5, "12.50": 13, None: -1},
        "new_score": {0: "zero", None: "?"},
        "birthdate": {"1900-01-01": None},
        "new_interests": {"Travel": "Away", 1: "Bike", None: "nothing"},
    }

    def test_by_code_by_label_by_value_and_of_null(self, program: Program) -> None:
        maps(program, self.FIELDS, replacements=self.REPLACEMENTS)
        [named, others, empty] = create(
            program,
            {
                "familystatuscode": 1, "gendercode": 1, "new_vip": True, "jobtitle": "N/A", "creditlimit": 0,
                "new_score": 0, "birthdate": "1900-01-01", "new_interests": "1,3",
            },
            {
                "familystatuscode": 2, "gendercode": 2, "new_vip": False, "jobtitle": "Nurse", "creditlimit": 12.5,
                "new_score": 7, "birthdate": "1900-01-02", "new_interests": "2,3",
            },
            {},
        )  # fmt: skip
        assert synced(program) == calls(insert=3, read=2)
        paths = list(self.FIELDS.values())
        assert values(program, *paths) == {
            named: ["S", "female", "VIP", "", 0.5, "zero", "", "Bike; Away"],
            others: ["M", "male", "Guest", "Nurse", 13, "7", "1900-01-02", "Cooking; Away"],
            empty: ["-", "unknown", "Guest", "none", -1, "?", "", "nothing"],
        }

        changed = self.REPLACEMENTS | {"familystatuscode": {1: "S", 2: "Wed", None: "-"}}
        maps(program, self.FIELDS, replacements=changed)
        assert synced(program) == calls(update=1)
        assert values(program, "cusInterests")[others] == ["Wed"]
