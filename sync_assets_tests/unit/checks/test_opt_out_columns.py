"""Which columns can carry an opt-out, what their values say, and what is told of those that cannot."""

import asyncio
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.checks import rules
from sync_assets.checks.opt_out_columns import (
    ALLOW_LABELS,
    REFUSE_LABELS,
    OptOutColumn,
    opt_out_columns,
    opt_out_findings,
)
from sync_assets.checks.rules import Finding
from sync_assets.config.models import Config
from sync_assets.config.values import OPT_OUT_ATTRIBUTES
from sync_assets.dataverse.metadata import Column, ColumnType, Table
from sync_assets.mapping.table_mapping import MappingError
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets_tests.support.sandbox_process import SandboxProcess

ALLOW = {0: "Allow", 1: "Do Not Allow"}
CONTACT = Table(
    "contact",
    "contacts",
    "contactid",
    change_tracking=True,
    columns={
        "contactid": Column("contactid", "guid"),
        "donotemail": Column("donotemail", "boolean", labels=ALLOW),
        "followemail": Column("followemail", "boolean", labels={0: "Do Not Allow", 1: "Allow"}),
        "new_whole": Column("new_whole", "integer"),
        "new_choice": Column("new_choice", "picklist", labels={1: "Yes", 0: "No"}),
        "merged": Column("merged", "boolean", labels={0: "No", 1: "Yes"}, updatable=False),
        "hidden": Column("hidden", "boolean", readable=False),
    },
)
PROFILE = Resource(
    "profile", "profileAndServicesExt", {name: Attribute(name, "boolean") for name in OPT_OUT_ATTRIBUTES}
)


def config(mappings: dict[str, Any], direction: str = "bidirectional") -> Config:
    table = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"firstname": "firstName"}}
    opt_out = {"direction": direction, "mappings": mappings}
    return Config.model_validate({"privacy_acknowledged": True, "tables": [table], "opt_out": opt_out})


def having(column: Column) -> Table:
    return dataclasses.replace(CONTACT, columns=CONTACT.columns | {column.name: column})


def problems(mappings: dict[str, Any], table: Table = CONTACT, direction: str = "bidirectional") -> tuple[str, ...]:
    with pytest.raises(MappingError) as caught:
        opt_out_columns(config(mappings, direction), table)
    assert caught.value.campaign == ()
    assert str(caught.value) == "\n".join(f"contact: {problem}" for problem in caught.value.d365)
    return caught.value.d365


class TestValues:
    def test_true_is_an_opt_out_unless_it_is_inverted(self) -> None:
        plain, inverted = OptOutColumn("a", "b", False, "boolean"), OptOutColumn("a", "b", True, "boolean")
        assert [plain.opted_out(value) for value in (True, False, None)] == [True, False, None]
        assert [inverted.opted_out(value) for value in (True, False, None)] == [False, True, None]

    def test_1_and_0_are_true_and_false_and_another_number_says_nothing(self) -> None:
        whole = OptOutColumn("a", "b", False, "integer")
        assert [whole.opted_out(value) for value in (1, 0, 2, -1, None)] == [True, False, None, None, None]
        assert [whole.understands(value) for value in (1, 0, 2, -1, None)] == [True, True, False, False, True]

    @pytest.mark.parametrize("type_", ["boolean", "integer", "picklist"])
    @given(inverted=st.booleans(), stated=st.booleans())
    def test_a_written_value_keeps_its_meaning_in_the_columns_type(
        self, type_: ColumnType, inverted: bool, stated: bool
    ) -> None:
        column = OptOutColumn("a", "b", inverted, type_)
        written = column.value(stated)
        assert type(written) is (bool if type_ == "boolean" else int)
        assert column.opted_out(written) is stated

    @given(inverted=st.booleans(), value=st.none() | st.booleans() | st.integers(-3, 3))
    def test_campaign_gets_the_same_where_opt_outs_are_mapped_as_fields(
        self, inverted: bool, value: bool | int | None
    ) -> None:
        mapping = config({"new_x": {"to": "blackList", "inverted": inverted}}).opt_out.mappings["new_x"]
        column = OptOutColumn("new_x", "blackList", inverted, "integer")
        if column.understands(value):
            assert mapping.replacements.get(value) is column.opted_out(value)
        else:
            assert value not in mapping.replacements


class TestColumnsThatFit:
    def test_booleans_whole_numbers_and_choices_of_0_and_1_in_the_order_of_the_file(self) -> None:
        mappings = {
            "new_whole": "blackListPhone",
            "donotemail": "blackListEmail",
            "new_choice": {"to": "ccpaOptOut", "inverted": True},
            "followemail": {"to": "denyList", "inverted": True},
        }
        assert opt_out_columns(config(mappings), CONTACT) == (
            OptOutColumn("new_whole", "blackListPhone", False, "integer"),
            OptOutColumn("donotemail", "blackListEmail", False, "boolean"),
            OptOutColumn("new_choice", "ccpaOptOut", True, "picklist"),
            OptOutColumn("followemail", "blackList", True, "boolean"),
        )

    @pytest.mark.parametrize("direction", ["disabled", "d365_to_campaign"])
    def test_a_column_that_cannot_be_written_is_good_enough_to_be_read(self, direction: str) -> None:
        [column] = opt_out_columns(config({"merged": "blackList"}, direction), CONTACT)
        assert column.name == "merged"

    @pytest.mark.parametrize("inverted", [True, False])
    @pytest.mark.parametrize("label", ["", "Yes", "No", "True", "Newsletter", "Allow Not", "Sendung"])
    def test_labels_that_leave_a_doubt_are_not_judged(self, label: str, inverted: bool) -> None:
        table = having(Column("new_x", "boolean", labels={0: "", 1: label}))
        assert opt_out_columns(config({"new_x": {"to": "blackList", "inverted": inverted}}), table)


class TestColumnsThatDoNot:
    @pytest.mark.parametrize(
        ("column", "named"),
        [
            *(
                (Column("new_x", type_), f"a column of type {type_}")
                for type_ in ("string", "memo", "bigint", "decimal", "money", "double", "datetime", "date", "guid",
                              "lookup", "state", "status", "multiselect", "other")
            ),
            (Column("new_x", "picklist", labels={1: "Yes", 2: "No"}), "a choice of 1, 2"),
            (Column("new_x", "picklist", labels={0: "No", 1: "Yes", 2: "Unknown"}), "a choice of 0, 1, 2"),
            (Column("new_x", "picklist", labels={1: "Yes"}), "a choice of 1"),
            (Column("new_x", "picklist"), "a choice without options"),
        ],
    )  # fmt: skip
    def test_a_column_that_is_no_boolean_is_refused_with_its_type(self, column: Column, named: str) -> None:
        assert problems({"new_x": "blackList"}, having(column)) == (
            f"`new_x`: {named} cannot become true or false without loss; name a column with two options, or a whole "
            "number or choice of 0 and 1",
        )

    def test_columns_that_are_missing_or_cannot_be_read(self) -> None:
        assert problems({"donotemai": "blackListEmail", "zzz": "ccpaOptOut", "hidden": "blackList"}) == (
            "`donotemai`: contact has no such column; did you mean `donotemail`?",
            "`zzz`: contact has no such column; name a column of the table",
            "`hidden`: the column cannot be read in Dynamics 365; leave it out",
        )

    @pytest.mark.parametrize("direction", ["campaign_to_d365", "bidirectional"])
    def test_columns_that_cannot_be_written_where_opt_outs_go_to_d365(self, direction: str) -> None:
        assert problems({"merged": "blackList"}, direction=direction) == (
            "`merged`: the column is read-only in Dynamics 365; name another one",
        )


class TestPolarityByLabels:
    def test_a_true_that_means_allow_must_be_inverted(self) -> None:
        assert problems({"followemail": "blackListEmail"}) == (
            "`followemail`: true is labelled `Allow`, so it means allow, and true in `blackListEmail` means do not; "
            "write `followemail: {to: blackListEmail, inverted: true}`",
        )

    def test_a_true_that_means_do_not_must_not_be(self) -> None:
        assert problems({"donotemail": {"to": "blackListEmail", "inverted": True}}) == (
            "`donotemail`: true is labelled `Do Not Allow`, so it means do not, as true does in `blackListEmail`; "
            "remove `inverted: true`",
        )

    @pytest.mark.parametrize("type_", ["boolean", "picklist"])
    @pytest.mark.parametrize("label", [*sorted(ALLOW_LABELS), "ALLOW", "Opt-In", " Opt  in ", "Send"])
    def test_words_for_allow(self, label: str, type_: ColumnType) -> None:
        table = having(Column("new_x", type_, labels={0: "?", 1: label}))
        [problem] = problems({"new_x": "blackList"}, table)
        assert problem.startswith(
            f"`new_x`: {'true' if type_ == 'boolean' else '1'} is labelled `{label}`, so it means"
        )
        assert opt_out_columns(config({"new_x": {"to": "blackList", "inverted": True}}), table)

    @pytest.mark.parametrize("type_", ["boolean", "picklist"])
    @pytest.mark.parametrize("label", [*sorted(REFUSE_LABELS), "DO NOT ALLOW", "Opt-Out", "Do Not Send"])
    def test_words_for_do_not(self, label: str, type_: ColumnType) -> None:
        table = having(Column("new_x", type_, labels={0: "?", 1: label}))
        [problem] = problems({"new_x": {"to": "blackList", "inverted": True}}, table)
        assert problem.endswith("as true does in `blackList`; remove `inverted: true`")
        assert opt_out_columns(config({"new_x": "blackList"}), table)


def found(mappings: dict[str, Any], resource: Resource = PROFILE, direction: str = "bidirectional") -> list[Finding]:
    return opt_out_findings(config(mappings, direction), CONTACT, resource)


class TestFindings:
    def test_one_finding_for_each_side(self) -> None:
        columns, attributes = found({"donotemail": "blackListEmail"})
        assert (columns.side, attributes.side) == ("d365", "campaign")
        assert [columns, attributes] == [rules.OPT_OUT_COLUMNS.finding(True), rules.OPT_OUT_ATTRIBUTES.finding(True)]

    def test_problems_stand_at_their_own_side(self) -> None:
        columns, attributes = found({"followemail": "blackListEmail", "merged": "blackList"})
        assert (columns.passed, attributes.passed) == (False, True)
        assert "`followemail`: true is labelled" in columns.message
        assert "; `merged`: the column is read-only in Dynamics 365" in columns.message
        assert found({"merged": "blackList"}, direction="d365_to_campaign")[0].passed

    @pytest.mark.parametrize(
        ("attribute", "message"),
        [
            (None, "`donotemail`: profile has no attribute `blackListEmail`; did you mean `blackListMobile`?"),
            (
                Attribute("blackListEmail", "boolean", read_only=True),
                "`donotemail`: `blackListEmail` is read-only in Campaign; map it to another attribute",
            ),
            (
                Attribute("blackListEmail", "string"),
                "`donotemail`: `blackListEmail` of profile is of type string and not a boolean; map another attribute",
            ),
        ],
    )
    def test_attributes_that_are_missing_read_only_or_no_boolean(
        self, attribute: Attribute | None, message: str
    ) -> None:
        others = {name: one for name, one in PROFILE.attributes.items() if name != "blackListEmail"}
        resource = dataclasses.replace(PROFILE, attributes=others | ({attribute.path: attribute} if attribute else {}))
        columns, attributes = found({"donotemail": "blackListEmail"}, resource)
        assert columns.passed
        assert (attributes.passed, attributes.message) == (False, message)


def test_the_metadata_of_both_systems_suffices(sandbox: SandboxProcess) -> None:
    sandbox.admin.post("/d365/metadata", {"table": "contact", "column": "new_whole", "set": {"type": "Integer"}})
    options = {"type": "Picklist", "options": {"0": "No", "1": "Yes"}}
    sandbox.admin.post("/d365/metadata", {"table": "contact", "column": "new_choice", "set": options})

    async def read() -> tuple[Table, Resource]:
        runtime = Runtime(sandbox.env, use=RunOptions(any_ledger=True))
        async with runtime.d365() as d365, runtime.campaign() as campaign:
            return await d365.table("contact"), await campaign.resource("profileAndServicesExt", "profile")

    table, resource = asyncio.run(read())
    donot = ["donotemail", "donotphone", "donotfax", "donotpostalmail", "donotbulkemail", "donotsendmm"]
    mappings = dict(zip([*donot, "new_whole", "new_choice"], OPT_OUT_ATTRIBUTES, strict=True))
    types = [column.type for column in opt_out_columns(config(mappings), table)]
    assert types == ["boolean"] * 6 + ["integer", "picklist"]
    assert [finding.passed for finding in opt_out_findings(config(mappings), table, resource)] == [True, True]

    result = " ".join(problems({"followemail": "blackList", "merged": "blackListFax", "fullname": "ccpaOptOut"}, table))
    assert "`followemail`: true is labelled `Allow`" in result
    assert "`merged`: the column is read-only in Dynamics 365" in result
    assert "`fullname`: a column of type string" in result
    read_only = {name for name in ("fullname", "modifiedon", "firstname", "donotemail", "gendercode", "birthdate",
                                   "statecode", "contactid") if not table.columns[name].updatable}  # fmt: skip
    assert read_only == {"fullname", "modifiedon", "contactid"}
