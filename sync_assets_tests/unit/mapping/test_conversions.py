"""Which type becomes which: every type of Dynamics 365 has a way to Campaign, and all others say so."""

from typing import Any, get_args

import pytest

from sync_assets.campaign.metadata import Attribute, AttributeType
from sync_assets.dataverse.metadata import Column, ColumnType
from sync_assets.mapping.conversions import AS_TEXT, CONVERSIONS, conversion
from sync_assets.mapping.table_mapping import MappingError
from sync_assets_tests.support.sample_tables import mapping

PAIRS: dict[ColumnType, str] = {
    "boolean": "boolean string enumeration integer float",
    "integer": "integer float string",
    "bigint": "integer float string",
    "decimal": "float integer string",
    "money": "float integer string",
    "double": "float integer string",
    "string": "string enumeration",
    "memo": "string enumeration",
    "datetime": "datetime date string",
    "date": "date datetime string",
    "picklist": "string enumeration integer float boolean",
    "state": "string enumeration integer float boolean",
    "status": "string enumeration integer float boolean",
    "multiselect": "string",
    "lookup": "string",
    "guid": "string",
    "other": "string",
}
"""Column type -> attribute types that it becomes without replacements (docs/dev/references/campaign.md 14)."""


def test_the_pairs() -> None:
    assert PAIRS.keys() == set(get_args(ColumnType))
    for kind, to in PAIRS.items():
        targets = {one for one in get_args(AttributeType) if conversion(Column("a", kind), Attribute("b", one))}
        assert targets == set(to.split()), kind


def test_a_type_that_campaign_lacks_is_sent_as_text() -> None:
    assert {kind for kind, to in CONVERSIONS.items() if set(to) == {"string"}} == set(AS_TEXT)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": "cusInteger"}, "`image` (other) cannot become `cusInteger` (integer); map it to one of type string"),
        ({"interests": "gender"}, "`interests` (multiselect) cannot become `gender` (enumeration); map it to one of"),
        ({"lastname": "cusInteger"}, "`lastname` (string) cannot become `cusInteger` (integer); map it to one of type"),
        (
            {"score": "cusDate"},
            "`score` (integer) cannot become `cusDate` (date); map it to one of type float, integer",
        ),
        ({"birthdate": "cusFloat"}, "`birthdate` (date) cannot become `cusFloat` (float); map it to one of type date"),
    ],
)
def test_a_field_that_does_not_fit_is_reported_before_the_first_request(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MappingError) as caught:
        mapping(fields)
    [problem] = caught.value.problems
    assert problem.startswith(message)
    assert problem.endswith("or write `replacements` for its values")
