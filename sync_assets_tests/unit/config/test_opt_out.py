"""Opt-outs in the configuration: what is refused at load, with line and remedy, and what the flows see of them."""

from typing import get_args

import pytest

from sync_assets.config.loader import parse_config
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.opt_out import Direction
from sync_assets_tests.unit.config.test_models import HEAD, ORDER, table, the_problem

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def mapped(mappings: str, direction: str = "disabled", more: str = "") -> str:
    """A file whose opt-out mappings begin in line 10, `more` in the line after them."""
    lines = [f"    {line}\n" for line in mappings.splitlines()]
    return f"{HEAD}opt_out:\n  direction: {direction}\n  mappings:\n{''.join(lines)}{more}"


class TestPolarity:
    @pytest.mark.parametrize(
        "written", ["followemail: blackListEmail", "followemail: {to: denyListEmail, inverted: false}"]
    )
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_followemail_means_allow_and_must_be_inverted(self, written: str, direction: str) -> None:
        assert the_problem(mapped(written, direction)) == (
            "f.yaml:10: `followemail`: true means allow in Dynamics 365, and true in `blackListEmail` means do not; "
            "write `followemail: {to: blackListEmail, inverted: true}`"
        )

    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize(
        "column",
        ["donotemail", "donotphone", "donotfax", "donotpostalmail", "donotbulkemail", "donotbulkpostalmail",
         "donotsendmm"],
    )  # fmt: skip
    def test_a_column_that_means_do_not_must_not_be_inverted(self, column: str, direction: str) -> None:
        assert parse_config(mapped(f"{column}: blackListEmail", direction), "f.yaml")
        assert the_problem(mapped(f"{column}:\n  to: blackListEmail\n  inverted: true", direction)) == (
            f"f.yaml:12: `{column}`: true means do not in Dynamics 365, as it does in `blackListEmail`; remove "
            f"`inverted: true`, as in `{column}: blackListEmail`"
        )

    @pytest.mark.parametrize("inverted", ["true", "false"])
    def test_a_custom_column_is_judged_by_labels_which_the_file_does_not_repeat(self, inverted: str) -> None:
        text = mapped(f"new_newsletter: {{to: blackListEmail, inverted: {inverted}}}")
        assert parse_config(text, "f.yaml").opt_out.mappings["new_newsletter"].inverted is (inverted == "true")

    def test_followemail_is_a_trap_among_the_plain_fields_too(self) -> None:
        assert the_problem(table("", "{followemail: denyList}")) == (
            "f.yaml:6: `followemail`: true means allow in Dynamics 365, and true in `blackList` means do not; remove "
            "it here and write `followemail: {to: blackList, inverted: true}` under `opt_out.mappings`"
        )
        assert parse_config(table("", "{followemail: cusFollows}"), "f.yaml")
        turned = table("replacements: {followemail: {true: false, false: true}}", "{followemail: blackList}")
        assert parse_config(turned, "f.yaml")
        assert parse_config(HEAD + ORDER.replace("new_name: cusName", "followemail: blackList"), "f.yaml")


class TestTheExportFile:
    @pytest.mark.parametrize(
        ("written", "message"),
        [
            (
                "directory: ../exports",
                "`../exports` leads out of its folder with `..`; write the folder as seen from the one after sign-in, "
                "or from the root with a `/`",
            ),
            (
                "directory: /d365_loads/..",
                "`/d365_loads/..` leads out of its folder with `..`; write the folder as seen from the one after "
                "sign-in, or from the root with a `/`",
            ),
            (
                "directory: d365_loads\\exports",
                "folders on the SFTP are separated by `/`; write `d365_loads/exports`",
            ),
            ('directory: " exports"', "` exports` begins or ends with a blank; write `exports`"),
            ('directory: "exports\\t"', "`exports ` begins or ends with a blank; write `exports`"),
            ('pattern: "*.csv "', "`*.csv ` begins or ends with a blank; write `*.csv`"),
            ("pattern: a/*.csv", "the pattern is for names within the directory; put the folder into `directory`"),
            ('key_column: " id"', "` id` begins or ends with a blank; write `id`"),
            ('changed_suffix: " at "', "` at ` begins or ends with a blank; write `at`"),
            ("changed_suffix: ''", "`changed_suffix` cannot be ``; it must be at least 1 character"),
            (
                "date_format: iso",
                "`date_format` cannot be `iso`; write xml, yyyymmdd, mmddyyyy, ddmmyyyy, mmyyyydd, ddyyyymm or "
                "yyyyddmm",
            ),
        ],
    )
    def test_what_is_refused(self, written: str, message: str) -> None:
        assert the_problem(f"{HEAD}opt_out:\n  export:\n    {written}\n") == f"f.yaml:9: {message}"

    def test_columns_of_other_names_are_paired_with_attributes_and_their_times(self) -> None:
        pairs = "{denyListEmail: No mail, blackListEmail_at: Since}"
        text = f"{HEAD}opt_out: {{export: {{changed_suffix: _at, columns: {pairs}}}}}\n"
        paired = {"blackListEmail": "No mail", "blackListEmail_at": "Since"}
        assert parse_config(text, "f.yaml").opt_out.export.columns == paired

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("{email: E-mail}", "`email` is not an opt-out attribute, with or without `LastModified` behind it"),
            (
                "{blackListEmail_at: Since}",
                "`blackListEmail_at` is not an opt-out attribute, with or without `LastModified`",
            ),
            ("{blackListEmail: a, denyListEmail: b}", "two attributes are paired with one column, or one attribute"),
            ("{blackListEmail: a, blackListFax: a}", "two attributes are paired with one column, or one attribute"),
        ],
    )
    def test_columns_that_cannot_be_paired(self, written: str, message: str) -> None:
        problem = the_problem(f"{HEAD}opt_out:\n  export:\n    columns: {written}\n")
        assert problem.startswith(f"f.yaml:9: {message}")
        assert problem.endswith("; write e.g. `columns: {blackListEmail: No longer contact by email}`")

    def test_a_suffix_must_not_make_one_attribute_the_time_of_another(self) -> None:
        text = mapped("donotemail: blackListEmail\nnew_all: blackList", more="  export: {changed_suffix: Email}\n")
        assert the_problem(text) == (
            "f.yaml:12: `blackListEmail` would be the time of change of `blackList`, and is mapped itself; write "
            "another `changed_suffix`, as in `LastModified`"
        )
        assert parse_config(text.replace("blackListEmail", "ccpaOptOut"), "f.yaml")

    @pytest.mark.parametrize("key", ["blackListEmail", "blackListEmailLastModified"])
    def test_the_key_must_not_be_the_column_of_an_opt_out(self, key: str) -> None:
        text = mapped("donotemail: denyListEmail", more=f"  export: {{key_column: {key}}}\n")
        assert the_problem(text) == (
            f"f.yaml:11: `{key}` is the column of an opt-out and cannot hold the key, too; write the column with the "
            "Dynamics 365 id, as in `key_column: externalId`"
        )


MAPPINGS = "donotemail: blackListEmail\nfollowemail: {to: blackListPhone, inverted: true}"


class TestDirectionD365ToCampaign:
    def contact(self, direction: str = "d365_to_campaign") -> tuple[Config, TableConfig]:
        text = mapped(MAPPINGS, direction).replace("opt_out:", f"{ORDER}opt_out:")
        config = parse_config(text, "f.yaml")
        return config, config.table("contact")

    def test_opt_outs_are_fields_of_contact_wherever_it_is_asked_for(self) -> None:
        config, contact = self.contact()
        targets = {column: field.to for column, field in contact.fields.items()}
        assert targets == {"firstname": "firstName", "donotemail": "blackListEmail", "followemail": "blackListPhone"}
        assert all(field.apply_updates for field in contact.fields.values())
        assert config.tables[0] is contact
        assert contact in config.in_link_order
        assert dict(contact.opt_outs) == config.opt_out.mappings
        assert config.table("new_order").fields.keys() == {"new_name"}
        assert not config.table("new_order").opt_outs

    def test_true_and_1_and_false_and_0_have_a_value_in_campaign_and_null_has_none(self) -> None:
        _, contact = self.contact()
        assert contact.replacements == {
            "donotemail": {True: True, False: False},
            "followemail": {True: False, False: True},
        }

    def test_the_table_can_be_had_as_it_stands_in_the_file(self) -> None:
        bare = self.contact()[1].without_opt_outs()
        assert bare == self.contact("disabled")[1]
        assert (bare.fields.keys(), bare.replacements, dict(bare.opt_outs)) == ({"firstname"}, {}, {})

    def test_a_configuration_read_twice_is_the_same(self) -> None:
        config, _ = self.contact()
        again = Config.model_validate(config.model_dump(by_alias=True))  # all of it but where it stands in the file
        assert again.model_dump() == config.model_dump()

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_a_column_cannot_be_a_plain_field_beside_it(self, direction: str) -> None:
        text = mapped("donotemail: blackListEmail", direction).replace("firstname: firstName", "donotemail: cusNoMail")
        if direction == "d365_to_campaign":
            assert the_problem(text) == (
                "f.yaml:6: `donotemail` is also an opt-out mapping (line 10), and a column goes to one attribute; keep "
                "one of the two"
            )
        else:
            assert parse_config(text, "f.yaml").table("contact").fields["donotemail"].to == "cusNoMail"

    def test_an_attribute_cannot_be_mapped_twice(self) -> None:
        text = mapped("donotemail: blackListEmail", "d365_to_campaign").replace(
            "firstname: firstName", "a: denyListEmail"
        )
        assert the_problem(text) == (
            "f.yaml:6: `blackListEmail` is also an opt-out mapping (line 10); remove it here: opt-outs have a rule of "
            "their own for the value that wins"
        )

    def test_no_configuration_can_map_them(self) -> None:
        assert "unknown key `opt_outs`" in the_problem(table("opt_outs: {donotemail: blackListEmail}"))
        assert "unknown key `_opt_outs`" in the_problem(table("_opt_outs: {donotemail: blackListEmail}"))


def test_opt_outs_need_contact_and_profile_mapped_to_each_other() -> None:
    text = mapped("donotemail: blackListEmail", "bidirectional").replace("resource: profile", "resource: cusProfile")
    assert "opt-outs are synchronised between contact and profile, which are not mapped to each other" in the_problem(
        text
    )
