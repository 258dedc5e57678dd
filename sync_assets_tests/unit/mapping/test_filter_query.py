"""A filter as a query counts the rows that the filter itself lets pass, or is no query at all."""

import asyncio
from typing import Any

import pytest

from sync_assets.config.models import Filters
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import ColumnType, Table
from sync_assets.dataverse.page_parser import PageParser, read_head
from sync_assets.dataverse.row_counts import count_rows
from sync_assets.mapping.filters import LONGEST, compile_filters, filter_rows, scope_query
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.sample_tables import CONTACT


def filters(*rules: dict[str, Any], match: str = "all") -> Filters:
    return Filters.model_validate({"match": match, "rules": list(rules)})


def rule(field: str, operator: str, value: Any = ...) -> dict[str, Any]:
    return {"field": field, "is": operator} | ({} if value is ... else {"value": value})


@pytest.mark.parametrize(
    ("rules", "query"),
    [
        ([rule("statecode", "eq", 0)], "(statecode eq 0)"),
        ([rule("statecode", "eq", "Active")], "(statecode eq 0)"),
        ([rule("vip", "ne", True)], "(vip ne true)"),
        ([rule("lastname", "eq", "O'Neill")], "(lastname eq 'o''neill')"),
        ([rule("lastname", "contains", "ro")], "(contains(lastname,'ro'))"),
        ([rule("lastname", "starts_with", "By")], "(startswith(lastname,'by'))"),
        ([rule("lastname", "ends_with", "n")], "(endswith(lastname,'n'))"),
        ([rule("lastname", "is_null")], "(lastname eq null)"),
        ([rule("companyid", "not_null")], "(_companyid_value ne null)"),
        ([rule("gendercode", "in", [1, 2])], "(gendercode eq 1 or gendercode eq 2)"),
        ([rule("gendercode", "not_in", [1, 2])], "(gendercode ne 1 and gendercode ne 2)"),
        ([rule("balance", "ge", 12.5)], "(balance ge 12.5)"),
        ([rule("visit", "lt", "2024-03-15")], "(visit lt 2024-03-15T00:00:00Z)"),
        ([rule("birthdate", "le", "2000-01-01")], "(birthdate le 2000-01-01)"),
        ([rule("statecode", "eq", 0), rule("score", "gt", 5)], "(statecode eq 0) and (score gt 5)"),
    ],
)
def test_a_rule_becomes_a_condition_of_the_same_meaning(rules: list[dict[str, Any]], query: str) -> None:
    assert scope_query(filters(*rules), CONTACT) == query
    assert scope_query(filters(*rules, match="any"), CONTACT) == query.replace(") and (", ") or (")


@pytest.mark.parametrize(
    "impossible",
    [
        rule("lastname", "contains", "50%"),
        rule("lastname", "starts_with", "[a"),
        rule("lastname", "ends_with", "_"),
        rule("interests", "contains", 1),
        rule("image", "eq", "x"),
        rule("image", "contains", "x"),
        rule("companyid", "eq", "no id"),
        rule("companyid", "in", ["6f0c2a8e-0000-4000-8000-00000000000a", "no id"]),
        rule("missing", "eq", 1),
        rule("gendercode", "eq", "of no option"),
        rule("lastname", "eq", "x" * LONGEST),
    ],
)
def test_a_filter_with_a_rule_that_no_query_expresses_is_no_query(impossible: dict[str, Any]) -> None:
    assert scope_query(filters(rule("statecode", "eq", 0), impossible), CONTACT) is None
    assert scope_query(filters(rule("statecode", "eq", 0), impossible, match="any"), CONTACT) is None


def test_without_a_filter_there_is_no_condition() -> None:
    assert scope_query(None, CONTACT) == ""


COLUMNS = (
    "contactid",
    "lastname",
    "statecode",
    "donotemail",
    "creditlimit",
    "birthdate",
    "new_lastvisit",
    "gendercode",
)
ALIKE = [
    filters(rule("statecode", "eq", 0)),
    filters(rule("lastname", "contains", "O'")),
    filters(rule("lastname", "starts_with", "mc"), rule("lastname", "ends_with", "ZE"), match="any"),
    filters(rule("lastname", "ne", "Byron")),
    filters(rule("donotemail", "ne", True), rule("gendercode", "is_null")),
    filters(rule("gendercode", "not_in", [1])),
    filters(rule("creditlimit", "ge", "12000.50")),
    filters(rule("birthdate", "lt", "1980-01-01"), rule("birthdate", "is_null"), match="any"),
    filters(rule("new_lastvisit", "gt", "2025-06-01")),
]


def test_a_query_counts_the_rows_that_pass_the_filter(sandbox_factory: SandboxFactory) -> None:
    sandbox = sandbox_factory(contacts=200)

    async def both(client: DataverseClient, table: Table, one: Filters) -> tuple[int, int]:
        query = scope_query(one, table)
        assert query
        link = client.first_page(table, COLUMNS)
        types: dict[str, ColumnType] = {name: table.columns[name].type for name in COLUMNS}
        rows = PageParser(types).parse(read_head(await client.page(link, tracked=True))).rows
        row_filter, problems = compile_filters(one, table)
        assert problems == []
        return (await count_rows(client, table, query)).number, filter_rows(rows, row_filter)[0].height

    async def run() -> list[tuple[int, int]]:
        async with Runtime(sandbox.env, use=RunOptions(any_ledger=True)).d365() as client:
            table = await client.table("contact", COLUMNS)
            return [await both(client, table, one) for one in ALIKE]

    result = asyncio.run(run())
    assert [queried for queried, _ in result] == [passed for _, passed in result]
    assert all(0 < passed < 200 for _, passed in result)
