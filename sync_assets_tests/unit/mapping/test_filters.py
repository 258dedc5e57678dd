"""Filters: which rows pass, by Dynamics 365's own way of comparing."""

from dataclasses import replace
from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.config.models import Filters, Operator
from sync_assets.dataverse.metadata import Column, ColumnType
from sync_assets.dataverse.page_parser import frame_type
from sync_assets.mapping.conversions import OPTION_TYPES
from sync_assets.mapping.filters import comparisons, compile_filters, filter_rows
from sync_assets.mapping.table_mapping import MappingError, TableMapping
from sync_assets_tests.support.sample_tables import CONTACT, ID, frame, mapping


def filtered(*rules: dict[str, Any], match: str = "all") -> TableMapping:
    return mapping({"lastname": "cusText"}, filters={"match": match, "rules": list(rules)})


def passing(done: TableMapping, rows: list[dict[str, Any]]) -> list[int]:
    """The numbers of the rows that pass; what does not pass must be the others."""
    numbered = frame(done, *rows).with_row_index("n")
    passed, dropped = filter_rows(numbered, done.row_filter)
    assert sorted([*passed["n"], *dropped["n"]]) == list(range(len(rows)))
    return passed["n"].to_list()


def rule(field: str, operator: str, value: Any = ...) -> dict[str, Any]:
    return {"field": field, "is": operator} | ({} if value is ... else {"value": value})


NAMES = ["Byron", "BYRON", "byrne", "Ó Briain", "", None]
SCORES = [1, 5, 9, None]
MONEY = ["5.0000", "12.5000", "12.5001", None]
TIMES = ["2024-03-14T23:59:59Z", "2024-03-15T00:00:00Z", "2024-03-15T10:00:00Z", None]
DAYS = ["1999-12-31", "2000-01-01", None]
CHOICES = ["1,9", "9", "2", None]


VALUES: dict[ColumnType, Any] = {
    **dict.fromkeys(("string", "memo", "other"), "a"),
    **dict.fromkeys(("decimal", "money"), "1.5"),
    "double": "1.5",
    "date": "2000-01-01",
    "datetime": "2024-03-15T10:00:00Z",
    **dict.fromkeys(("guid", "lookup"), ID),
}
"""By type: a value, as configured and as sent; 1 for the others."""


class TestOperators:
    @pytest.mark.parametrize(
        ("field", "values", "operator", "value", "expected"),
        [
            ("lastname", NAMES, "eq", "byron", [0, 1]),
            ("lastname", NAMES, "ne", "byron", [2, 3, 4]),
            ("lastname", NAMES, "in", ["BYRNE", "ó briain"], [2, 3]),
            ("lastname", NAMES, "not_in", ["BYRNE", "ó briain"], [0, 1, 4]),
            ("lastname", NAMES, "contains", "RO", [0, 1]),
            ("lastname", NAMES, "starts_with", "byr", [0, 1, 2]),
            ("lastname", NAMES, "ends_with", "n", [0, 1, 3]),
            ("lastname", ["a.c", "abc"], "contains", ".", [0]),
            ("lastname", ["ΠΑΣΟΚ", "ΠΑΣ", "πασα"], "starts_with", "ΠΑΣ", [0, 1, 2]),  # ς ends a word, σ is within
            ("lastname", ["a%c", "abc"], "starts_with", "a%", [0]),
            ("lastname", NAMES, "is_null", ..., [5]),
            ("lastname", NAMES, "not_null", ..., [0, 1, 2, 3, 4]),
            ("score", SCORES, "eq", 5, [1]),
            ("score", SCORES, "ne", 5, [0, 2]),
            ("score", SCORES, "lt", 5, [0]),
            ("score", SCORES, "le", 5, [0, 1]),
            ("score", SCORES, "gt", 5, [2]),
            ("score", SCORES, "ge", "5", [1, 2]),
            ("score", SCORES, "in", [1, 9], [0, 2]),
            ("score", SCORES, "not_in", [1, 9], [1]),
            ("score", SCORES, "gt", "+1", [1, 2]),
            ("total", SCORES, "le", 2**63 - 1, [0, 1, 2]),
            ("limit", MONEY, "eq", 12.5, [1]),
            ("limit", MONEY, "eq", "+12.5", [1]),
            ("limit", MONEY, "ne", "12.50", [0, 2]),
            ("limit", MONEY, "le", 12.5, [0, 1]),
            ("limit", MONEY, "gt", 12.5, [2]),
            ("limit", ["922337203685477.5807", "922337203685477.5806"], "eq", "922337203685477.5807", [0]),
            ("balance", MONEY, "in", [5, 12.5001], [0, 2]),
            ("ratio", ["1E+3", "1e-3", None], "ge", 1000, [0]),
            ("vip", [True, False, None], "eq", True, [0]),
            ("vip", [True, False, None], "ne", True, [1]),
            ("vip", [True, False, None], "eq", "No", [1]),
            ("vip", [True, False, None], "eq", 1, [0]),
            ("gendercode", [1, 2, 3, None], "eq", "female", [1]),
            ("gendercode", [1, 2, 3, None], "in", [1, "Diverse"], [0, 2]),
            ("gendercode", [1, 2, 3, None], "is_null", ..., [3]),
            ("statecode", [0, 1], "eq", 0, [0]),
            ("visit", TIMES, "ge", "2024-03-15", [1, 2]),
            ("visit", TIMES, "lt", "2024-03-15T10:00:00Z", [0, 1]),
            ("visit", TIMES, "eq", "2024-03-15T11:00:00+01:00", [2]),
            ("birthdate", DAYS, "ge", "2000-01-01", [1]),
            ("birthdate", DAYS, "in", ["1999-12-31"], [0]),
            ("companyid", [ID, ID.replace("a", "b"), None], "eq", ID.upper(), [0]),
            ("interests", CHOICES, "contains", "Other", [0, 1]),
            ("interests", CHOICES, "in", [1, 2], [0, 2]),
            ("interests", CHOICES, "not_in", [1, 2], [1]),
            ("interests", CHOICES, "eq", 9, [1]),
            ("interests", CHOICES, "ne", 9, [0, 2]),
            ("interests", CHOICES, "is_null", ..., [3]),
        ],
    )
    def test_operator(self, field: str, values: list[Any], operator: str, value: Any, expected: list[int]) -> None:
        name = "_companyid_value" if field == "companyid" else field
        assert passing(filtered(rule(field, operator, value)), [{name: one} for one in values]) == expected

    @pytest.mark.parametrize("operator", get_args(Operator))
    @pytest.mark.parametrize("kind", get_args(ColumnType))
    def test_a_comparison_is_refused_or_decides_about_every_row(self, kind: ColumnType, operator: Operator) -> None:
        """What passes the preflight must be able to compare: each type with each operator."""
        column = Column("c", kind, labels={0: "No", 1: "Yes"} if kind in OPTION_TYPES else {})
        value = VALUES.get(kind, 1)
        given = {"value": [value] if operator in ("in", "not_in") else value}
        given = {} if operator in ("is_null", "not_null") else given
        document = {"rules": [{"field": "c", "is": operator, **given}]}
        compiled, problems = compile_filters(Filters.model_validate(document), replace(CONTACT, columns={"c": column}))
        assert bool(problems) is (operator not in comparisons(kind))
        if not problems:
            sent = "1" if kind == "multiselect" else value
            rows = pl.DataFrame(
                {column.select_name: [sent, None]}, schema={column.select_name: frame_type(kind)}, strict=False
            )
            passed, dropped = filter_rows(rows, compiled)
            assert passed.height + dropped.height == 2
            assert passed.height == (operator not in ("ne", "not_in", "lt", "gt"))

    @pytest.mark.parametrize(
        ("given_rule", "message"),
        [
            (rule("score", "contains", "a"), "`contains` is for texts, not for type integer; use eq, in or is_null"),
            (rule("visit", "starts_with", "2024"), "`starts_with` is for texts, not for type datetime"),
            (rule("lastname", "lt", "m"), "values of type string have no order; use eq, ne, in or not_in"),
            (rule("gendercode", "gt", 1), "values of type picklist have no order"),
            (
                rule("gendercode", "eq", "Malle"),
                "`Malle` is no option of `gendercode`; write one of 1 (Male), 2 (Female)",
            ),
            (rule("gendercode", "eq", 4), "`4` is no option of `gendercode`"),
            (rule("gendercode", "eq", True), "`true` is no option of `gendercode`"),
            (rule("tier", "eq", "Gold member"), "are called `Gold member`; write the number, 11 or 12"),
            (rule("vip", "eq", 2), "`2` is no option of `vip`; write one of 0 (No), 1 (Yes)"),
            (rule("score", "eq", "many"), "`many` is no whole number; write a number without a fraction"),
            (rule("score", "eq", 1.5), "`1.5` is no whole number"),
            (rule("limit", "gt", "much"), "`much` is no number; write it as in 12.50"),
            (rule("limit", "lt", "1e28"), "`1e28` is beyond what a column holds; write at most 28 digits"),
            (rule("visit", "ge", "9999-12-31T23:59:59-05:00"), "`9999-12-31T23:59:59-05:00` is no time; write it as"),
            (rule("birthdate", "eq", "1.2.2000"), "`1.2.2000` is no date; write it as YYYY-MM-DD"),
            (rule("visit", "lt", "now"), "`now` is no time; write it as YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ"),
            (rule("lastname", "eq", True), "`True` is no text; put it in quotes"),
            (rule("lastname", "eq", 1.1), "`1.1` is no text; put it in quotes"),
            (rule("lastname", "in", ["A", 1e5]), "`100000.0` is no text; put it in quotes"),
            (rule("score", "lt", 2**63), "`9223372036854775808` is beyond what a column holds; write at most 64 bits"),
            (rule("total", "ge", -(2**63) - 1), "`-9223372036854775809` is beyond what a column holds"),
        ],
    )
    def test_rules_that_do_not_fit_the_column(self, given_rule: dict[str, Any], message: str) -> None:
        with pytest.raises(MappingError) as caught:
            filtered(given_rule)
        [problem] = caught.value.problems
        assert problem.startswith(f"filter on `{given_rule['field']}`: ")
        assert message in problem


class TestTogether:
    ROWS = [{"score": 9, "statecode": 0}, {"score": 9, "statecode": 1}, {"statecode": 0}, {"score": 1, "statecode": 1}]  # noqa: RUF012

    def test_no_filter_passes_everything(self) -> None:
        done = mapping({"lastname": "cusText"})
        assert passing(done, [{}, {"lastname": "a"}]) == [0, 1]


OPERATORS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}  # fmt: skip


@given(
    st.lists(st.none() | st.integers(-3, 3), max_size=8),
    st.lists(st.tuples(st.sampled_from(sorted(OPERATORS)), st.integers(-3, 3)), min_size=1, max_size=3),
    st.sampled_from(["all", "any"]),
)
def test_filters_agree_with_python(scores: list[int | None], rules: list[tuple[str, int]], match: str) -> None:
    together = {"all": all, "any": any}[match]
    expected = [
        n
        for n, score in enumerate(scores)
        if together(score is not None and OPERATORS[operator](score, value) for operator, value in rules)
    ]
    done = filtered(*(rule("score", operator, value) for operator, value in rules), match=match)
    assert passing(done, [{"score": score} for score in scores]) == expected
