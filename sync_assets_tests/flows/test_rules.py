"""Rules of a table, by whole runs: which rows are sent, what becomes of their values, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_assets_tests.support.program import Program, calls, capture
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

    @pytest.mark.parametrize("delete", [False, True])
    def test_a_row_that_leaves_before_it_was_sent_is_not_sent(self, program: Program, delete: bool) -> None:
        active = {"rules": [{"field": "statecode", "is": "eq", "value": 0}], "delete_filtered_out": delete}
        maps(program, {"jobtitle": "cusJobTitle"}, filters=active)
        [key] = create(program, {"jobtitle": "Teacher"})
        runtime = program.runtime()
        capture(runtime)
        assert runtime.ledger.reports.counts()["contact"].pending == 1
        runtime.close()

        program.sandbox.admin.change("contact", [key], statecode=1)
        assert synced(program) == calls()
        program.sandbox.admin.change("contact", [key], statecode=0)
        assert synced(program) == calls(insert=1, read=2)
        assert values(program, "cusJobTitle") == {key: ["Teacher"]}

    def test_a_changed_filter_holds_for_rows_that_did_not_change(self, program: Program) -> None:
        def scored(at_least: int) -> None:
            rule = {"field": "new_score", "is": "ge", "value": at_least}
            maps(program, {"jobtitle": "cusJobTitle"}, filters={"rules": [rule], "delete_filtered_out": True})

        [low, high] = create(program, {"new_score": 10}, {"new_score": 20})
        scored(20)
        assert synced(program) == calls(insert=1, read=2)
        scored(10)
        assert synced(program) == calls(insert=1)
        assert program.profiles().keys() == {low, high}
        scored(15)
        assert synced(program) == calls(delete=2, read=2)
        assert program.profiles().keys() == {high}


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


class TestApplyUpdates:
    def test_a_field_without_updates_is_sent_once_and_never_again_by_itself(self, program: Program) -> None:
        admin = program.sandbox.admin
        maps(program, {"birthdate": {"to": "birthDate", "apply_updates": False}, "jobtitle": "cusJobTitle"})
        [key] = create(program, {"birthdate": "1990-01-01", "jobtitle": "Nurse"})
        assert synced(program) == calls(insert=1, read=2)
        assert values(program, "birthDate", "cusJobTitle")[key] == ["1990-01-01", "Nurse"]

        admin.change("contact", [key], birthdate="1991-01-01")
        assert synced(program) == calls()

        # A marketer's own value shows what the next call touches
        admin.post("/campaign/change", {"resource": "profile", "keys": [key], "set": {"birthDate": "1970-01-01"}})
        admin.change("contact", [key], birthdate="1992-01-01", jobtitle="Head nurse")
        assert synced(program) == calls(update=1)
        assert values(program, "birthDate", "cusJobTitle")[key] == ["1970-01-01", "Head nurse"]

        [later] = create(program, {"birthdate": "1980-01-01"})
        assert synced(program) == calls(insert=1)
        assert values(program, "birthDate")[later] == ["1980-01-01"]

        runtime = program.runtime()
        feed = runtime.ledger.feeds.feed("contact")
        assert feed is not None
        runtime.ledger.feeds.reset_feed("contact", feed.version, resend=True)  # as `replay --force` does
        runtime.close()
        assert synced(program) == calls(update=2)
        assert values(program, "birthDate")[key] == ["1992-01-01"]


class TestPicklists:
    FIELDS = {  # noqa: RUF012
        "familystatuscode": "location.address1",
        "new_interests": "location.address2",
        "statuscode": "location.address3",
        "donotemail": "location.address4",
        "preferredcontactmethodcode": "cusScore",
        "new_tier": "cusTier",
        "gendercode": "gender",
        "new_vip": "cusVip",
    }
    ROW = {  # noqa: RUF012
        "familystatuscode": 2, "new_interests": "9,1", "statecode": 0, "statuscode": 1, "donotemail": True,
        "preferredcontactmethodcode": 3, "new_tier": 100000003, "gendercode": 2, "new_vip": True,
    }  # fmt: skip

    def test_labels_or_codes(self, program: Program) -> None:
        [key, empty] = create(program, self.ROW, {"preferredcontactmethodcode": 1})
        maps(program, self.FIELDS)
        assert synced(program) == calls(insert=2, read=2)
        paths = list(self.FIELDS.values())
        same = [3, "gold", "female", True]
        assert values(program, *paths)[key] == ["Married", "Cycling; Other", "Active", "Do Not Allow", *same]
        assert values(program, *paths)[empty] == ["", "", "Active", "Allow", 1, "none", "unknown", False]

        maps(program, self.FIELDS, picklists="codes")
        assert synced(program) == calls(update=2)
        assert values(program, *paths)[key] == ["2", "1,9", "1", "1", *same]
        assert values(program, *paths)[empty] == ["", "", "1", "0", 1, "none", "unknown", False]

    def test_an_option_that_nobody_named_is_sent_as_its_number(self, program: Program) -> None:
        def options(column: str, named: dict[int, str]) -> None:
            set_: dict[str, Any] = {"type": "MultiSelectPicklist" if column == "new_many" else "Picklist"}
            set_["options"] = {str(code): label for code, label in named.items()}
            program.sandbox.admin.post("/d365/metadata", {"table": "contact", "column": column, "set": set_})

        options("new_one", {4: "Widowed", 5: "", 6: "Left over"})
        options("new_many", {1: "Cycling", 5: "", 9: "Other"})
        [unnamed, removed] = create(
            program,
            {"new_one": 5, "new_many": "1,5"},
            {"new_one": 6, "new_many": "9"},
        )
        options("new_one", {4: "Widowed", 5: ""})
        options("new_many", {1: "Cycling", 5: ""})
        maps(program, {"new_one": "location.address1", "new_many": "location.address2"})
        assert synced(program) == calls(insert=2, read=2)
        assert values(program, "location.address1", "location.address2") == {
            unnamed: ["5", "Cycling; 5"],
            removed: ["6", "9"],
        }


class TestTypes:
    """The types of docs/dev/references/dataverse.md 2.4 to Campaign's types. Texts show every digit."""

    TEXTS = [f"location.address{n}" for n in (1, 2, 3, 4)]  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def columns(self, systems: SandboxProcess) -> None:
        for name, set_ in (
            ("new_big", {"type": "BigInt"}),
            ("new_fine", {"type": "Decimal", "precision": 10}),
        ):
            systems.admin.post("/d365/metadata", {"table": "contact", "column": name, "set": set_})

    def test_numbers_are_exact(self, program: Program) -> None:
        rows = [
            {"new_big": 2**53 + 1, "new_fine": 0.1, "creditlimit": 99999999999.99, "new_score": -7},
            {"new_big": -(2**63), "new_fine": 1e-10, "creditlimit": 0, "new_score": 0},
            {"new_big": 0, "new_fine": -12.5, "creditlimit": -0.01},
            {},
        ]
        keys = create(program, *rows)
        columns = ["new_big", "new_fine", "creditlimit", "new_score"]
        maps(program, dict(zip(columns, self.TEXTS, strict=True)))
        synced(program)
        expected = [
            ["9007199254740993", "0.1", "99999999999.99", "-7"],
            ["-9223372036854775808", "0.0000000001", "0", "0"],
            ["0", "-12.5", "-0.01", ""],
            ["", "", "", ""],
        ]
        assert values(program, *self.TEXTS) == dict(zip(keys, expected, strict=True))

        maps(program, {"new_fine": "cusBalance", "new_score": "cusScore"})
        synced(program)
        assert values(program, "cusBalance", "cusScore") == dict(
            zip(keys, [[0.1, -7], [1e-10, 0], [-12.5, 0], [0, 0]], strict=True)
        )
        maps(program, {"creditlimit": "cusBalance", "new_fine": "location.address1"})
        synced(program)
        amounts = [99999999999.99, 0, -0.01, 0]
        assert values(program, "cusBalance") == {key: [amount] for key, amount in zip(keys, amounts, strict=True)}

    def test_a_number_that_campaign_has_no_room_for_stands_in_rejects(self, program: Program) -> None:
        [big, fine, fits] = create(program, {"new_big": 2**53 + 1}, {"new_fine": 1.5}, {"new_big": 7, "new_fine": 7})
        maps(program, {"new_big": "cusScore"})
        synced(program, status=2)
        [reject] = program.json("rejects")[1]["rejects"]
        assert (reject["id"], "out of range" in reject["reason"]) == (big, True)

        maps(program, {"new_fine": "cusScore"})
        synced(program, status=2)
        [reject] = program.json("rejects")[1]["rejects"]
        assert (reject["id"], reject["reason"]) == (fine, "cusScore: not a whole number, or too large")
        assert values(program, "cusScore")[fits] == [7]

    def test_dates_and_times_as_campaign_writes_them(self, program: Program) -> None:
        row = {
            "birthdate": "1815-12-10",
            "new_lastvisit": "2024-03-15T23:59:59Z",
            "new_membersince": "2024-03-15T00:30:00Z",
            "new_appointment": "2024-03-31T02:30:00Z",
        }
        [key, empty] = create(program, row, {})
        maps(
            program,
            {
                "birthdate": "birthDate",
                "new_lastvisit": "cusLastVisit",
                "new_membersince": "location.address1",
                "new_appointment": "location.address2",
            },
        )
        synced(program)
        paths = ["birthDate", "cusLastVisit", "location.address1", "location.address2"]
        assert values(program, *paths) == {
            key: ["1815-12-10", "2024-03-15 23:59:59.000Z", "2024-03-15T00:30:00Z", "2024-03-31T02:30:00Z"],
            empty: ["", "", "", ""],
        }

        maps(program, {"birthdate": "cusLastVisit", "new_membersince": "birthDate"})
        synced(program)
        assert values(program, "birthDate", "cusLastVisit") == {
            key: ["2024-03-15", "1815-12-10 00:00:00.000Z"],
            empty: ["", ""],
        }

    def test_texts_ids_and_what_campaign_has_no_type_for(self, program: Program) -> None:
        text = 'Zoë 👩\u200d👩\u200d👧 "quoted"\\\nsecond line\ttab ﷽ 𠮷'
        [key] = create(program, {"description": text, "donotemail": True})
        maps(
            program,
            {
                "description": "location.address1",
                "contactid": "location.address2",
                "ownerid": "location.address3",
                "entityimage": "location.address4",
                "donotemail": "cusVip",
                "versionnumber": "cusInterests",
            },
        )
        synced(program)
        [found] = [row for row in program.sandbox.admin.dump_d365() if row["contactid"] == key]
        paths = [*self.TEXTS, "cusVip", "cusInterests"]
        expected = [text, key, found["_ownerid_value"], "", True, str(found["versionnumber"])]
        assert values(program, *paths) == {key: expected}
        warned = [line["message"] for line in program.json("doctor")[1]["checks"] if line["outcome"] == "warn"]
        assert [line for line in warned if "travels" in line] == [
            "`contactid` (guid) travels to `location.address2` as text",
            "`ownerid` (lookup) travels to `location.address3` as text",
            "`entityimage` (other) travels to `location.address4` as text",
        ]


class TestLongTexts:
    TEXT = "🎪 Chief Happiness Officer of the whole wide world and beyond"

    def test_are_refused_with_the_reason_but_not_the_text(self, program: Program) -> None:
        maps(program, {"jobtitle": "cusJobTitle"})
        [long, short] = create(program, {"jobtitle": self.TEXT}, {"jobtitle": "Nurse"})
        assert synced(program, status=2) == calls(insert=1, read=2)  # no call for what is known to be refused
        status, output, errors = program.run("rejects", "--json")
        assert status == 0, errors
        assert f"cusJobTitle: {len(self.TEXT)} characters, at most 50" in output
        assert long in output
        assert "Happiness" not in output + errors
        assert program.profiles().keys() == {short}

        program.sandbox.admin.change("contact", [long], jobtitle="CHO")
        assert synced(program) == calls(insert=1)
        assert program.json("rejects")[1] == {"rejects": []}

    def test_or_cut_by_characters_if_the_field_says_so(self, program: Program) -> None:
        maps(program, {"jobtitle": {"to": "cusJobTitle", "truncate": True}})
        [key] = create(program, {"jobtitle": self.TEXT})
        assert synced(program) == calls(insert=1, read=2)
        assert values(program, "cusJobTitle")[key] == [self.TEXT[:50]]

        program.sandbox.admin.change("contact", [key], jobtitle=f"{self.TEXT}, too")
        assert synced(program) == calls()  # cut, it is the same


class TestRefusedByMetadata:
    """What only the two systems can tell: nothing is written, and the message says what to write instead."""

    def test_filters_and_replacements(self, program: Program) -> None:
        create(program, {})
        rules = [
            {"field": "statecod", "is": "eq", "value": 0},
            {"field": "gendercode", "is": "eq", "value": "Malle"},
            {"field": "new_score", "is": "contains", "value": "1"},
        ]
        maps(
            program,
            {"jobtitle": "cusJobTitle", "gendercode": "gender"},
            filters={"rules": rules},
            replacements={"jobtitle": {"x": "x" * 51}, "gendercode": {"Man": "unknown", 1: "mal"}},
        )
        done = program.sync()
        assert done.status == 1
        [problem] = {str(problem) for problem in done.problems}
        for told in (
            "filter on `statecod`: contact has no such column; did you mean `statecode`?",
            "filter on `gendercode`: `Malle` is no option of `gendercode`; write one of 1 (Male), 2 (Female)",
            "filter on `new_score`: `contains` is for texts, not for type integer; use eq, in or is_null",
            "replacements of `jobtitle`: `cusJobTitle` takes at most 50 characters; shorten",
            "replacements of `gendercode`: `Man` is no option of `gendercode`; write one of 1 (Male), 2 (Female)",
            "replacements of `gendercode`: `mal` is no value of `gender`; did you mean `male`?",
        ):
            assert told in problem
        assert program.sandbox.admin.engine_calls() == calls()

    def test_links(self, program: Program) -> None:
        maps(program, {"jobtitle": "cusJobTitle"})
        links = [
            {"field": "new_tags", "to": "cusContactId", "table": "contact"},
            {"field": "new_contacid", "to": "cusLink", "table": "contact"},
            {"field": "new_contactid", "to": "cusContactLink", "table": "contact", "style": "join"},
        ]
        order = {"table": "new_order", "resource": "cusOrder", "key": "cusOrderId", "fields": {"new_name": "cusName"}}
        document = {"privacy_acknowledged": True, "tables": [program.table, {**order, "links": links}]}
        file = program.home / "linked.yaml"
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        program.more["SYNC_ASSETS_CONFIG"] = str(file)
        status, lines = program.json("doctor")
        assert status == 1
        failed = "; ".join(line["message"] for line in lines["checks"] if line["outcome"] == "fail")
        for told in (
            "link `new_tags`: the column is of type multiselect; name a lookup column",
            "link `new_tags`: `cusContactId` is no link; write `style: join` or name a link",
            "`new_contacid`: new_order has no such column; did you mean `new_contactid`?",
            "link `new_contacid`: cusOrder has no attribute `cusLink`",
            "link `new_contactid`: `cusContactLink` is no text; leave `style` out or name a text",
        ):
            assert told in failed
