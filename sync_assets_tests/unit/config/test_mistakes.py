"""Each mistake in the configuration file is reported with its line and the remedy."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.config.loader import ConfigError, load_config, parse_config
from sync_assets.config.models import Config
from sync_assets.config.values import OPT_OUT_ATTRIBUTES
from sync_assets_tests.unit.config.test_models import EXAMPLE, HEAD, ORDER, problems, table, the_problem


def bomb(line: str) -> str:
    """Return nine lines, each of which repeats the one before ten times."""
    names = "abcdefghi"
    lines = [f"{new}: &{new} {line.format(f'*{old}')}\n" for old, new in pairwise(names)]
    return "a: &a {b: 1}\n" + "".join(lines)


class TestEveryMistakeNamesItsLineAndItsRemedy:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (table("address: uri"), "7: `address` cannot be `uri`; write auto, url or filter"),
            (
                table("address: url\nfilter: {name: a, parameter: b}"),
                "8: `filter` is not used with `address: url`; write `address: auto`, or remove it; rules for rows "
                "belong in `filters`",
            ),
            (
                table("", "{a: externalId}"),
                "6: `externalId` is the key of line 5, which holds the Dynamics 365 id and nothing else; remove this "
                "mapping, or name another attribute as `key`, such as `cusOrderId`",
            ),
            (
                table("", "\n      a: location\n      b: location.city"),
                "7: `location` contains `location.city`, which line 8 maps; name a sub-field of `location`, "
                "or remove one of the two",
            ),
            (table("", "{}"), "6: this table maps no field; write e.g. `fields: {firstname: firstName}`"),
            (
                table("", "{FirstName: firstName}"),
                "6: `FirstName` is not a valid Dynamics 365 logical name; write it in small letters, digits and "
                "underscores, as in `emailaddress1`",
            ),
            (
                table("", "{_parentcustomerid_value: cusA}"),
                "6: `_parentcustomerid_value` is a lookup's name in a row; write its logical name, `parentcustomerid`",
            ),
            (
                table("", "{a: location/city}"),
                "6: `location/city` is not a valid Campaign attribute; write its API name, as in `firstName`, or "
                "`location.city` for a sub-field",
            ),
            (
                table("replacements: {gendercode: {1: male}}"),
                "7: `gendercode` has replacements but is not mapped; map it in `fields` or remove its replacements",
            ),
            (
                table("replacements: {firstname: {a: [b]}}"),
                "7: the value must be plain; write a text, a number, true, false or null",
            ),
            (
                HEAD + "opt_out: {mappings: {donotemail: optOutEmail}}\n",
                "7: `optOutEmail` is not one of Campaign's opt-out attributes; write one of "
                + ", ".join(OPT_OUT_ATTRIBUTES),
            ),
            (
                HEAD + "opt_out: {merged: carry}\n",
                "7: opt-outs of merged contacts are to be carried to their masters, and no opt-out is synchronised; "
                "write a `direction` that synchronises them, such as `bidirectional`, or `merged: ignore`",
            ),
            (
                HEAD + "opt_out: {direction: bidirectional}\n",
                "7: opt-outs are on but none is mapped; write e.g. `mappings: {donotemail: blackListEmail}` or "
                "`direction: disabled`",
            ),
            (
                HEAD.replace("firstname: firstName", "donotfax: blackListFax")
                + "opt_out: {direction: bidirectional, mappings: {donotfax: blackListFax}}\n",
                "6: `blackListFax` is also an opt-out mapping (line 7); remove it here: opt-outs have a rule "
                "of their own for the value that wins",
            ),
            (
                HEAD + "opt_out: {export: {separator: ';;'}}\n",
                "7: a separator is one character, and neither a quote nor a line end; write e.g. "
                '`separator: ";"` or `separator: tab`',
            ),
            (
                HEAD + "opt_out: {export: {encoding: utf8000}}\n",
                "7: `utf8000` is not a known encoding; write e.g. `utf-8`, `latin-1` or `cp1252`",
            ),
            (
                HEAD + "opt_out: {export: {restart_stalled: true}}\n",
                "7: `restart_stalled` needs the workflow's id; write `workflow_id: WKF12` beside it",
            ),
            (
                HEAD + "guardrails: {max_delete_share: 5}\n",
                "7: `max_delete_share` cannot be `5`; it must be less than or equal to 1",
            ),
            (
                HEAD + "guardrails: {concurrency: 0}\n",
                "7: `concurrency` cannot be `0`; it must be greater than or equal to 1",
            ),
            (
                HEAD + "owners: {d365: [crm]}\n",
                "7: `crm` is not a valid owner; write a team, as in `team:crm`, or an e-mail address",
            ),
            (
                HEAD + "alerts: {webhook: https://h.example/T0/hush}\n",
                "7: `webhook` takes no address, which is a secret; write `webhook: true`, set "
                "SYNC_ASSETS_ALERT_WEBHOOK, and renew the address if others saw the file",
            ),
            (HEAD + "alerts: https://h.example/hush\n", "7: `alerts` cannot be a URL; write keys and values"),
            (HEAD + "guardrails: {max_contacts: many}\n", "7: `max_contacts` cannot be `many`; write a whole number"),
            ("", "1: the file is not a configuration; begin with `privacy_acknowledged: true`"),
            ("- a\n- b\n", "1: the file is not a configuration; begin with `privacy_acknowledged: true`"),
            (
                HEAD + "a: b: c\n",
                "7: this is not valid YAML: mapping values are not allowed here; check quotes, colons and indentation",
            ),
            (
                HEAD + "opt_out: {export: {expected_every_hours: 1e9}}\n",
                "7: `expected_every_hours` cannot be `1000000000.0`; it must be less than or equal to 876000",
            ),
            (
                HEAD + "opt_out: {export: {expected_every_hours: 1e999}}\n",
                "7: `expected_every_hours` cannot be `inf`; it must be less than or equal to 876000",
            ),
            (
                HEAD + "<<: {a: b}\n",
                "7: unknown key `a`; write one of privacy_acknowledged, tables, defaults, opt_out, logs, "
                "history, results, runs, audit, bulk_load, guardrails, owners, alerts",
            ),
            (HEAD + "<<: 1\n", "7: `<<` merges keys and values; write e.g. `<<: *name`"),
            (
                HEAD + "opt_out: &a {mappings: *a}\n",
                "1: this is not valid YAML: it is nested too deeply, or aliases (`*name`) form a circle; check quotes, "
                "colons and indentation",
            ),
            (
                HEAD + "opt_out: &a {<<: *a}\n",
                "1: this is not valid YAML: it is nested too deeply, or aliases (`*name`) form a circle; check quotes, "
                "colons and indentation",
            ),
            (
                HEAD + bomb("[{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]"),
                "1: this is not valid YAML: with its aliases (`*name`) it has more than 100,000 values; check quotes, "
                "colons and indentation",
            ),
            (
                HEAD + bomb("{{<<: [{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]}}"),
                "1: this is not valid YAML: with its aliases (`*name`) it has more than 100,000 values; check quotes, "
                "colons and indentation",
            ),
            ("x-t:\n  &t {addres: url}\n" + table("<<: *t"), "2: unknown key `addres`; did you mean `address`?"),
            (
                "x-t:\n  &t {api: x, fields: 1}\n" + table("<<: [*t, {api: 1}]"),
                "2: `api` cannot be `x`; write profileAndServicesExt or customResources",
            ),
            (HEAD + "defaults:\n  api: x\n", "8: `api` cannot be `x`; write profileAndServicesExt or customResources"),
            (
                HEAD + "defaults:\n  filters:\n    rules: [{field: a, is: eq}]\n",
                "9: `is: eq` needs a `value`; write `value:` beside `is: eq`",
            ),
            (
                HEAD + "defaults:\n  replacements: {a: {1: 2}}\n",
                "8: `a` has replacements but is not mapped; map it in `fields` or remove its replacements",
            ),
            (HEAD + "defaults: 1\n", "7: `defaults` cannot be `1`; write keys and values"),
        ],
    )
    def test_message(self, text: str, expected: str) -> None:
        assert the_problem(text) == f"f.yaml:{expected}"

    def test_a_link_is_a_mapped_attribute_too_and_does_not_lead_to_its_own_table(self) -> None:
        assert problems(table("links: [{field: a, to: firstName, table: contact}]")) == [
            "f.yaml:7: `firstName` is mapped twice, first in line 6; keep one of the two",
            "f.yaml:7: the links form a circle: contact -> contact; remove one of them: parents are written first",
        ]

    def test_nothing_is_made_from_tags(self) -> None:
        assert any(
            "tags (`!...`) are not supported" in one for one in problems(HEAD + "x: !!python/name:os.system a\n")
        )

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            ("{field: a, is: is, value: 1}", "`is` cannot be `is`"),
            ("{field: a, is: eq, value: [1]}", "compares with one value"),
            ("{field: a, is: eq, value: null}", "write `is: is_null`"),
            ("{field: a, is: ne, value: null}", "write `is: not_null`"),
            ("{field: a, is: in, value: 1}", "needs a list"),
            ("{field: a, is: in, value: []}", "needs a list"),
            ("{field: a, is: not_in, value: [[1]]}", "needs a list"),
            ("{field: a, is: in, value: [1, null]}", "cannot contain null"),
            ("{field: a, is: contains, value: true}", "needs a text"),
            ("{field: a, is: starts_with, value: ''}", "needs a text"),
            ("{field: a, is: lt, value: false}", "value with an order"),
            ("{field: a, is: is_null, value: 1}", "takes no value"),
            ("{field: a, is: not_null, value: null}", "takes no value"),
            ("statecode", "cannot be `statecode`; write keys and values"),
        ],
    )
    def test_filter_rules_have_values_that_fit_their_operator(self, rule: str, message: str) -> None:
        text = table(f"filters:\n  rules:\n    - {rule}\n    - {{field: b, is: not_null}}")
        problem = the_problem(text)
        assert problem.startswith("f.yaml:9: ")
        assert message in problem

    def test_link_circles_are_reported_once(self) -> None:
        text = (
            HEAD
            + ORDER
            + "    links: [{field: a, to: cusA, table: new_line}]\n"
            + ORDER.replace("rder", "line").replace("cusOline", "cusLine").replace("new_oline", "new_line")
            + "    links: [{field: b, to: cusB, table: new_order}]\n"
        ).replace("new_oline", "new_line")
        assert the_problem(text) == (
            "f.yaml:16: the links form a circle: new_order -> new_line -> new_order; remove one of them: parents are "
            "written first"
        )

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("{day: 14}", "unknown key `day`; did you mean `days`?"),
            ("{days: 0}", "`days` cannot be `0`; it must be greater than or equal to 1"),
            ("{days: 4000}", "`days` cannot be `4000`; it must be less than or equal to 3650"),
            ("{days: soon}", "`days` cannot be `soon`; write "),
            ("true", "`history` "),
        ],
    )
    def test_the_history_of_records_is_kept_for_a_number_of_days(self, written: str, message: str) -> None:
        assert the_problem(HEAD + f"history: {written}\n").startswith(f"f.yaml:7: {message}")

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("results: {to: a, keep_days: 1}", "`keep_days` cannot be `1`; it must be greater than or equal to 2"),
            ("alerts: {thresholds: {rejected_share: 1}}", "`rejected_share` cannot be `1`; it must be less than 1"),
        ],
    )
    def test_yesterday_is_kept_and_a_share_that_is_never_exceeded_is_refused(self, written: str, message: str) -> None:
        assert the_problem(f"{HEAD}{written}\n").startswith(f"f.yaml:7: {message}")

    @pytest.mark.parametrize(
        ("to", "message"),
        [
            ("results", None),
            ("/srv/results/", None),
            ("s3://bucket", None),
            ("abfss://container@account.dfs.core.windows.net/folder", None),
            ("abfss://account.dfs.core.windows.net/container", "results go to a folder, to S3 or to Azure"),
            ("s3://", "results go to a folder, to S3 or to Azure"),
            ("https://account.blob.core.windows.net/container", "results go to a folder, to S3 or to Azure"),
        ],
    )
    def test_results_go_to_a_folder_or_a_store_of_objects(self, to: str, message: str | None) -> None:
        text = HEAD + f"results: {{to: '{to}'}}\n"
        if message is None:
            assert parse_config(text, name="f.yaml").history_days == 90
        else:
            assert the_problem(text).startswith(f"f.yaml:7: {message}")

    def test_all_problems_are_reported_at_once_in_the_order_of_lines(self) -> None:
        text = (
            "tables:\n"
            "  - table: contact\n"
            "    resource: profile\n"
            "    key: externalId\n"
            "    fields: {a: email, b: email}\n"
            "    colour: red\n"
            "  - table: contact\n"
            "    resource: cusB\n"
            "    links: [{field: x, to: cusY, table: nowhere}]\n"
            "guardrails: {concurrency: -1}\n"
        )
        lines = [int(one.split(":")[1]) for one in problems(text)]
        assert lines == [1, 5, 6, 7, 7, 9, 10]

    @pytest.mark.parametrize(
        "key", ["client_secret", "D365_CLIENT_SECRET", "password", "passphrase", "access_token", "api_key"]
    )
    def test_secrets_are_refused_and_not_repeated(self, key: str) -> None:
        problem = the_problem(HEAD + f"{key}: hunter2\n")
        assert problem.startswith(f"f.yaml:7: `{key}` looks like a secret")
        assert "D365_CLIENT_SECRET" in problem
        assert "hunter2" not in problem

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nothing\.yaml:1: cannot be opened .*; set SYNC_ASSETS_CONFIG"):
            load_config(tmp_path / "nothing.yaml")
        latin = tmp_path / "latin.yaml"
        latin.write_bytes(b"a: b\nc: \xe4\n")
        with pytest.raises(ConfigError, match=r"latin\.yaml:2: the file is not UTF-8; save the file as UTF-8"):
            load_config(latin)


LINES: Sequence[str] = EXAMPLE.splitlines()


@given(
    st.lists(
        st.tuples(st.integers(0, len(LINES) - 1), st.sampled_from(["drop", "twice", "deeper", "list", "cut"])),
        max_size=4,
    )
)
def test_a_damaged_file_is_either_valid_or_reported_line_by_line(damages: list[tuple[int, str]]) -> None:
    lines = list(LINES)
    for at, damage in damages:
        line = lines[at]
        lines[at] = {
            "drop": "",
            "twice": f"{line}\n{line}",
            "deeper": f"  {line}",
            "list": line.replace(": ", ": [") + "]",
            "cut": line[: len(line) // 2],
        }[damage]
    try:
        assert isinstance(parse_config("\n".join(lines), "f.yaml"), Config)
    except ConfigError as error:
        for problem in error.problems:
            name, line, result = problem.split(":", 2)
            assert name == "f.yaml"
            assert 1 <= int(line) <= 2 * len(lines) + 1
            assert "; " in result
            assert "\n" not in result
