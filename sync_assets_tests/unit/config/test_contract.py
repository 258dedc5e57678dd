"""The rules of docs/configuration.md, one by one: refused at load with line and remedy, or allowed."""

import pytest

from sync_assets.config.loader import parse_config
from sync_assets_tests.unit.config.test_models import HEAD, ORDER, table, the_problem

WITH_ORDER = HEAD + ORDER
LINK = "field: new_contactid, to: cusContactLink, table: contact"
FIRST_TABLE = (
    "`tables` is {}; write e.g. `tables: [{{table: contact, resource: profile, key: externalId, "
    "fields: {{firstname: firstName}}}}]`"
)
EXPORT_KEYS = (
    "directory, pattern, separator, encoding, settle_seconds, key_column, changed_suffix, columns, date_format, "
    "after, keep_days, expected_every_hours, capacity_mb, workflow_id, restart_stalled"
)


def link(text: str) -> str:
    """A file whose order has one link, in line 11."""
    return f"{WITH_ORDER}    links: [{{{text}}}]\n"


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (HEAD + "colour: red\n", "7: unknown key `colour`; write one of privacy_acknowledged, tables, defaults, "),
            (HEAD + "guardrail: {}\n", "7: unknown key `guardrail`; did you mean `guardrails`?"),
            (table("adress: url"), "7: unknown key `adress`; did you mean `address`?"),
            (
                table("", "{a: {to: b, colour: red}}"),
                "6: unknown key `colour`; write one of to, apply_updates, keep_if_empty, truncate",
            ),
            (
                table("address: filter\nfilter: {name: a, parameter: b, parm: c}"),
                "8: unknown key `parm`; did you mean `parameter`?",
            ),
            (
                table("filters:\n  rules: [{field: a, is: is_null}]\n  mach: any"),
                "9: unknown key `mach`; did you mean `match`?",
            ),
            (
                table("filters:\n  rules: [{field: a, is: eq, values: 1, value: 2}]"),
                "8: unknown key `values`; did you mean `value`?",
            ),
            (link(f"{LINK}, cardinalty: one"), "11: unknown key `cardinalty`; did you mean `cardinality`?"),
            (
                HEAD + "opt_out: {mappings: {a: {to: blackList, invert: true}}}\n",
                "7: unknown key `invert`; did you mean `inverted`?",
            ),
            (HEAD + "defaults: {apply_delets: true}\n", "7: unknown key `apply_delets`; did you mean `apply_deletes`?"),
            (HEAD + "defaults: {resource: profile}\n", "7: `resource` belongs to one table; write it under `tables`"),
            (table("x-more: 1"), "7: unknown key `x-more`; write one of "),
            (HEAD + "opt_out: {export: {folder: x}}\n", f"7: unknown key `folder`; write one of {EXPORT_KEYS}"),
        ],
    )
    def test_at_each_level(self, text: str, expected: str) -> None:
        assert the_problem(text).startswith(f"f.yaml:{expected}")

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            (HEAD + "D365_CLIENT_SECRET: hunter2\n", 7),
            (table("password: hunter2"), 7),
            (table("", "{a: {to: b, access_token: hunter2}}"), 6),
            (HEAD + "opt_out: {export: {private_key: hunter2}}\n", 7),
        ],
    )
    def test_secrets_at_each_level_are_not_repeated(self, text: str, line: int) -> None:
        problem = the_problem(text)
        assert problem.startswith(f"f.yaml:{line}: ")
        assert "looks like a secret, and this file must hold no secret; remove it" in problem
        assert "hunter2" not in problem


ACKNOWLEDGE = (
    "privacy requests are your task, in both systems; this program neither sees nor forwards them; write "
    "`privacy_acknowledged: true` once that is arranged"
)


class TestMissingKeys:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (HEAD.split("\n", 1)[1], "1: `privacy_acknowledged` is missing; write e.g. `privacy_acknowledged: true`"),
            *(
                (HEAD.replace("privacy_acknowledged: true", f"privacy_acknowledged: {other}"), f"1: {ACKNOWLEDGE}")
                for other in ("yes", "false", "1", '"true"', "")
            ),
            ("privacy_acknowledged: true\n", "1: " + FIRST_TABLE.format("missing")),
            ("privacy_acknowledged: true\ntables: []\n", "2: " + FIRST_TABLE.format("empty")),
            (
                HEAD.replace("  - table: contact\n    resource", "  - resource"),
                "3: `table` is missing in `tables[0]`; write e.g. `table: contact`",
            ),
            (
                HEAD.replace("    resource: profile\n", ""),
                "3: `resource` is missing in `tables[0]`; write e.g. `resource: profile`",
            ),
            (
                HEAD.replace("    key: externalId\n", ""),
                "3: `key` is missing in `tables[0]`; write e.g. `key: externalId`",
            ),
            (
                HEAD.replace("    fields: {firstname: firstName}\n", ""),
                "3: this table maps no field; write e.g. `fields: {firstname: firstName}`",
            ),
            (table("", "{a: {truncate: true}}"), "6: `to` is missing in `a`; write e.g. `to: firstName`"),
            (
                table("address: filter"),
                "7: `address: filter` needs the published filter; write e.g. `filter: {name: byExternalId, "
                "parameter: externalId_parameter}`",
            ),
            (
                table("address: filter\nfilter: {parameter: a}"),
                "8: `name` is missing in `filter`; write e.g. `name: byExternalId`",
            ),
            (
                table("address: filter\nfilter: {name: a}"),
                "8: `parameter` is missing in `filter`; write e.g. `parameter: externalId_parameter`",
            ),
            (
                table("filters: {match: any}"),
                "7: `rules` is missing in `filters`; write e.g. `rules: [{field: statecode, is: eq, value: 0}]`",
            ),
            (
                table("filters: {rules: []}"),
                "7: `rules` is empty; write e.g. `rules: [{field: statecode, is: eq, value: 0}]`",
            ),
            (
                table("filters: {rules: [{is: is_null}]}"),
                "7: `field` is missing in `rules[0]`; write e.g. `field: statecode`",
            ),
            (
                table("filters: {rules: [{field: a, value: 1}]}"),
                "7: `is` is missing in `rules[0]`; write e.g. `is: eq`",
            ),
            (
                table("filters: {rules: [{field: a, is: eq}]}"),
                "7: `is: eq` needs a `value`; write `value:` beside `is: eq`",
            ),
            (
                link("to: cusContactLink, table: contact"),
                "11: `field` is missing in `links[0]`; write e.g. `field: new_contactid`",
            ),
            (
                link("field: new_contactid, table: contact"),
                "11: `to` is missing in `links[0]`; write e.g. `to: cusContactLink`",
            ),
            (
                link("field: new_contactid, to: cusContactLink"),
                "11: `table` is missing in `links[0]`; write e.g. `table: contact`",
            ),
            (
                HEAD + "opt_out: {mappings: {a: {inverted: true}}}\n",
                "7: `to` is missing in `a`; write e.g. `to: blackListEmail`",
            ),
        ],
    )
    def test_each(self, text: str, expected: str) -> None:
        assert the_problem(text) == f"f.yaml:{expected}"


class TestTwice:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                table("", "\n      a: email\n      a: {to: phone}"),
                "8: `a` occurs twice, first in line 7; keep one of the two",
            ),
            (
                table("", "\n      a: email\n      b: {to: email}"),
                "8: `email` is mapped twice, first in line 7; keep one of the two",
            ),
            (table("", "\n      a: denyListFax\n      b: blackListFax"), "8: `blackListFax` is mapped twice"),
            (
                WITH_ORDER + f"    links: [{{{LINK.replace('cusContactLink', 'cusName')}}}]\n",
                "11: `cusName` is mapped twice, first in line 10",
            ),
            (
                WITH_ORDER + f"    links:\n      - {{{LINK}}}\n      - {{{LINK.replace('contactid', 'otherid')}}}\n",
                "13: `cusContactLink` is mapped twice, first in line 12",
            ),
            (table("replacements:\n  firstname: {1: a, 1: b}"), "8: `1` occurs twice, first in line 8"),
            (HEAD + ORDER.replace("new_order", "contact"), "7: table `contact` is used twice, first in line 3"),
            (HEAD + ORDER.replace("cusOrder\n", "profile\n"), "8: resource `profile` is used twice, first in line 4"),
            (HEAD + "opt_out:\n  mappings: {a: blackList, b: denyList}\n", "8: `blackList` is mapped twice"),
        ],
    )
    def test_each(self, text: str, expected: str) -> None:
        problem = the_problem(text)
        assert problem.startswith(f"f.yaml:{expected}")
        assert "; " in problem

    def test_a_lookup_may_be_a_link_and_travel_as_text_too(self) -> None:
        both = WITH_ORDER.replace("new_name: cusName", "new_name: cusName, new_contactid: cusContactId")
        assert parse_config(f"{both}    links: [{{{LINK}}}]\n", "f.yaml")


class TestLinks:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                LINK.replace("table: contact", "table: contatc"),
                "the link leads to `contatc`, which is not mapped; did you mean `contact`, as line 3 says? "
                "Correct the one that is mistyped",
            ),
            (
                LINK.replace("table: contact", "table: account"),
                "the link leads to `account`, which is not mapped; map `account` under `tables` or remove the link",
            ),
            (f"{LINK}, style: keys", "`style` cannot be `keys`; write auto, key, pkey or join"),
            (f"{LINK}, cardinality: 0..1", "`cardinality` cannot be `0..1`; write one or zero_or_one"),
            (
                LINK.replace("new_contactid", "_new_contactid_value"),
                "`_new_contactid_value` is a lookup's name in a row; write its logical name, `new_contactid`",
            ),
            (LINK.replace("cusContactLink", "cusContactId"), None),
            (
                LINK.replace("cusContactLink", "cusOrderId"),
                "`cusOrderId` is the key of line 9, which holds the Dynamics 365 id and nothing else; remove this "
                "mapping, or name another attribute as `key`, such as `cusOrderId`",
            ),
            (
                LINK.replace("cusContactLink", "location.link"),
                "`location.link` is a sub-field and cannot be a link; name a link of the resource, as in "
                "`cusContactLink`, or write `style: join`",
            ),
            (LINK.replace("cusContactLink", "location.parent") + ", style: join", None),
        ],
    )
    def test_each(self, text: str, expected: str | None) -> None:
        if expected is None:
            assert parse_config(link(text), "f.yaml").tables[1].links
        else:
            assert the_problem(link(text)) == f"f.yaml:11: {expected}"

    def test_two_ways_to_one_parent_are_no_circle(self) -> None:
        text = (
            link(LINK)
            + ORDER.replace("new_order", "new_line").replace("cusOrder\n", "cusLine\n")
            + f"    links: [{{{LINK}}}, {{field: new_orderid, to: cusOrderLink, table: new_order}}]\n"
        )
        assert len(parse_config(text, "f.yaml").tables[2].links) == 2


class TestValuesThatAreNotOffered:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                table("api: profileAndServices"),
                "`api` cannot be `profileAndServices`; write profileAndServicesExt or customResources",
            ),
            (table("api: customResources"), "`profile` is not a custom resource; write `api: profileAndServicesExt`"),
            (table("picklists: label"), "`picklists` cannot be `label`; write labels or codes"),
            (
                table("filters: {match: and, rules: [{field: a, is: is_null}]}"),
                "`match` cannot be `and`; write all or any",
            ),
            (table("apply_deletes: yes"), "`apply_deletes` cannot be `yes`; write true or false"),
            (
                HEAD + "opt_out: {export: {after: remove}}\n",
                "`after` cannot be `remove`; write keep, archive or delete",
            ),
            (
                HEAD + "opt_out: {poll_profiles_minutes: 0}\n",
                "`poll_profiles_minutes` cannot be `0`; it must be greater than or equal to 1",
            ),
            (
                HEAD + "guardrails: {max_link_depth: -1}\n",
                "`max_link_depth` cannot be `-1`; it must be greater than or equal to 0",
            ),
            (
                table("replacements: {firstname: {'': x}}"),
                "an empty text is null in Dynamics 365 and never replaced; write `null` for it",
            ),
            (
                table("filters: {rules: [{field: a, is: eq, value: ''}]}"),
                "`is: eq` cannot compare with an empty text, which is null in Dynamics 365; write `is: is_null` "
                "without a value",
            ),
            (
                table("filters: {rules: [{field: a, is: ne, value: ''}]}"),
                "`is: ne` cannot compare with an empty text, which is null in Dynamics 365; write `is: not_null` "
                "without a value",
            ),
            (
                table("filters: {rules: [{field: a, is: in, value: ['', b]}]}"),
                "`is: in` cannot contain an empty text, which is null in Dynamics 365; use a rule with `is: is_null` "
                "or `not_null`",
            ),
        ],
    )
    def test_each(self, text: str, expected: str) -> None:
        assert the_problem(text) == f"f.yaml:7: {expected}"

    def test_a_key_that_is_a_sub_field(self) -> None:
        assert the_problem(HEAD.replace("externalId", "location.city")) == (
            "f.yaml:5: `location.city` is a sub-field and cannot be the key; name an attribute of the resource"
        )

    @pytest.mark.parametrize("name", ["email", "mobilePhone", "blackListEmail", "denyListEmail"])
    def test_a_key_that_holds_content(self, name: str) -> None:
        assert the_problem(HEAD.replace("externalId", name)) == (
            f"f.yaml:5: `{name}` cannot be the key: it holds content, not an id; name an attribute for the Dynamics "
            "365 id alone, as in `externalId` or `cusOrderId`"
        )

    @pytest.mark.parametrize("name", ["name", "internalName"])
    def test_a_key_that_campaign_writes_anew(self, name: str) -> None:
        assert the_problem(HEAD.replace("externalId", name)) == (
            f"f.yaml:5: `{name}` cannot be the key: Campaign changes it (`abc-def` becomes `abc_def`), so no record is "
            "found by it; name an attribute for the Dynamics 365 id alone, as in `externalId` or `cusOrderId`"
        )

    @pytest.mark.parametrize(
        ("text", "line"),
        [("privacy_acknowledged: true\ntables: {contact: {}}\n", 2), (f"{HEAD}    links: {{a: b}}\n", 7)],
    )
    def test_keys_where_a_list_belongs(self, text: str, line: int) -> None:
        problem = the_problem(text)
        assert problem.startswith(f"f.yaml:{line}: ")
        assert problem.endswith("cannot be keys and values; write a list (each entry begins with `- `)")
