"""The transform: opt-outs that rows bring beside the payload."""

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from sync_assets.config.models import TableConfig
from sync_assets.config.opt_out import OptOutMapping
from sync_assets.dataverse.metadata import Column
from sync_assets.mapping.table_mapping import TableMapping, compile_mapping
from sync_assets.mapping.transform import opted_out, transform
from sync_assets_tests.support.sample_tables import CONTACT, ID, PROFILE, frame, mapping

ZERO_OR_ONE = replace(
    CONTACT, columns={**CONTACT.columns, "mail": Column("mail", "picklist", labels={0: "Allow", 1: "Do not allow"})}
)


def carrying(column: str, *, inverted: bool = False) -> TableMapping:
    given = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "cusText"}}
    carried = {column: OptOutMapping.model_validate({"to": "blackListEmail", "inverted": inverted})}
    return compile_mapping(TableConfig.model_validate(given), ZERO_OR_ONE, PROFILE, carried=carried)


def said(of: TableMapping, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    result = opted_out(frame(of, *rows), of)
    assert result is not None
    assert result.schema == {"id": pl.String, "blackListEmail": pl.Boolean}
    return result.to_dicts()


class TestOptedOut:
    @pytest.mark.parametrize(
        ("column", "value", "plain", "inverted"),
        [
            ("vip", True, True, False),
            ("vip", False, False, True),
            ("vip", None, None, None),  # no value says nothing, whichever way round
            ("score", 1, True, False),
            ("score", 0, False, True),
            ("score", None, None, None),
            ("score", 2, None, None),
            ("score", -1, None, None),
            ("mail", 1, True, False),
            ("mail", 0, False, True),
            ("mail", None, None, None),
            ("mail", 100_000_001, None, None),
        ],
    )
    def test_truth_table(self, column: str, value: Any, plain: bool | None, inverted: bool | None) -> None:
        [row] = said(carrying(column), {column: value})
        assert row["blackListEmail"] is plain
        [row] = said(carrying(column, inverted=True), {column: value})
        assert row["blackListEmail"] is inverted

    def test_ids_are_in_lower_case_as_the_ledger_has_them(self) -> None:
        assert said(carrying("vip"), {"contactid": ID.upper(), "vip": True}) == [{"id": ID, "blackListEmail": True}]

    def test_a_mapping_without_opt_outs_has_no_findings(self) -> None:
        done = mapping({"vip": "cusBoolean"})
        assert opted_out(frame(done, {"vip": True}), done) is None

    def test_an_opt_out_is_no_part_of_payload_or_hash(self) -> None:
        """In the payload or its hash each change of an opt-out would be an update of the profile."""
        done = carrying("vip")
        rows = [transform(frame(done, {"vip": value}), done).to_dicts() for value in (True, False, None)]
        assert rows[0] == rows[1] == rows[2]
        assert json.loads(rows[0][0]["payload"]).keys() == {"externalId", "cusText"}
