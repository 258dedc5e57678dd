"""Rows that a page of changes holds several times, and ids that it holds as a row and as deleted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.capture.page_preparation import PreparedPage, parser, prepare_page
from sync_assets.dataverse.page_parser import changed_ids, changes, read_head
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets_tests.support.sample_tables import ID, mapping

ONLY_HIGH = {"rules": [{"field": "score", "is": "gt", "value": 5}]}
HIGH = mapping({"lastname": "cusText"}, filters=ONLY_HIGH)


def page(rules: TableMapping, *rows: dict[str, Any]) -> PreparedPage:
    """Rows as Dataverse sends them, of which only what matters is given."""
    columns = dict.fromkeys(rules.select) | {"contactid": ID, "modifiedon": "2026-11-24T10:00:00Z"}
    body = {"value": [{**columns, **row} for row in rows], "@odata.deltaLink": "later"}
    return prepare_page(parser(rules).parse(read_head(json.dumps(body).encode())), rules)


def said(result: PreparedPage) -> tuple[list[str], list[str]]:
    """(names of the rows that are in scope, ids of those that left it)"""
    payloads = result.rows.records(range(len(result.rows.ids)), "contact", 0)["payload"]
    return [json.loads(payload)["cusText"] for payload in payloads], [*result.left]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, 1, 9]), st.booleans()), max_size=8))
def test_of_each_id_the_last_row_of_a_page_counts(rows: list[tuple[int, int | None, bool]]) -> None:
    sent = [
        {"contactid": (f"{ID[:-1]}{id_}").upper() if upper else f"{ID[:-1]}{id_}", "score": score, "lastname": str(n)}
        for n, (id_, score, upper) in enumerate(rows)
    ]
    last = {row["contactid"].lower(): row for row in sent}
    kept = [row for row in sent if last[row["contactid"].lower()] is row]
    assert said(page(HIGH, *sent)) == said(page(HIGH, *kept))


@pytest.mark.parametrize("versions", [(1, 2), (2, 1), (9, 10), (10, 9)])
def test_of_rows_with_versions_the_newest_one_decides_wherever_it_stands(versions: tuple[int, int]) -> None:
    rows = [{"score": 9, "lastname": str(one), "@odata.etag": f'W/"{one}"'} for one in versions]
    result = page(HIGH, *rows)
    assert said(result) == ([str(max(versions))], [])
    assert result.rows.row_versions == [max(versions)]
    assert page(HIGH, {**rows[0], "score": 1}).left == {ID: versions[0]}


A, B = (f"{ID[:-1]}{letter}" for letter in "ab")


class TestIdsOfChanges:
    def ids(self, *items: dict[str, Any]) -> list[str]:
        return changed_ids(read_head(json.dumps({"value": items}).encode()), "contactid")

    def test_rows_and_deletions_alike_each_id_once(self) -> None:
        gone = {"id": B.upper(), "reason": "deleted"}
        assert self.ids({"contactid": B}, gone, {"contactid": A.upper(), "id": "none of ours"}) == [B, A]

    def test_versions_of_rows_the_highest_of_each_and_deletions(self) -> None:
        etags = ((A.upper(), 'W/"9"'), (B, "x"), (A, 'W/"10"'))
        rows = [{"contactid": id_, "@odata.etag": etag} for id_, etag in etags]
        for items in (rows, rows[::-1]):
            head = read_head(json.dumps({"value": [*items, {"id": A.upper(), "reason": "deleted"}]}).encode())
            assert changes(head, "contactid") == ({A: 10, B: None}, [A])

    @pytest.mark.parametrize(
        "item",
        [
            {},
            {"contactid": None},
            {"contactid": 7},
            {"contactid": "", "reason": "deleted"},
            {"contactid": "1a"},
            {"contactid": f"{A}'"},
            {"id": f"{A}\n", "reason": "deleted"},
        ],
    )
    def test_an_entry_without_an_id_is_no_change(self, item: dict[str, Any]) -> None:
        with pytest.raises(Exception, match="Dynamics 365 sent"):
            self.ids({"contactid": A}, item)
