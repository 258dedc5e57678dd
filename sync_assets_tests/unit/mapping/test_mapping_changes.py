"""Rows under an earlier mapping: what Campaign's record needs after a change, and what the change is."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sync_assets.config.models import TableConfig
from sync_assets.config.opt_out import OptOutConfig, OptOutMapping
from sync_assets.mapping.mapping_changes import (
    configuration_text,
    differences,
    earlier_mapping,
    rows_under_earlier_mapping,
)
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.mapping.transform import transform
from sync_assets_tests.support.sample_tables import CONTACT, PROFILE, frame, mapping

ROW = {"firstname": "Ada", "lastname": "Byron", "score": 0, "balance": "1.50", "description": None}
TEXT = {"lastname": "cusText"}


def compared(before: TableMapping, now: TableMapping, row: dict[str, Any] = ROW) -> tuple[Any, Any, str]:
    """The difference, the full one, and the left attributes."""
    both = frame(replace(now, column_types={**before.column_types, **now.column_types}), row)
    [compared_row] = rows_under_earlier_mapping(both, before, now).to_dicts()
    assert compared_row["hash"] == transform(both, before)["hash"].item()
    difference, full = (
        text and json.loads(text) for text in (compared_row["difference"], compared_row["full_difference"])
    )
    return difference, full, compared_row["left_attributes"]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (TEXT, TEXT, (None, None, "")),
        ({**TEXT, "firstname": "firstName"}, TEXT, (None, None, "firstName")),
        ({**TEXT, "score": "cusInteger"}, TEXT, (None, None, "")),
        (TEXT, {**TEXT, "firstname": "firstName"}, ({"firstName": "Ada"}, {"firstName": "Ada"}, "")),
        (TEXT, {**TEXT, "score": "cusInteger"}, (None, {"cusInteger": 0}, "")),
        (TEXT, {**TEXT, "balance": "cusFloat"}, ({"cusFloat": 1.5}, {"cusFloat": 1.5}, "")),
        (TEXT, {**TEXT, "description": "location.city"}, (None, {"location": {"city": ""}}, "")),
        (TEXT, {"firstname": "cusText"}, ({"cusText": "Ada"}, {"cusText": "Ada"}, "")),
        ({"firstname": {"to": "cusText", "apply_updates": False}}, TEXT, ({"cusText": "Byron"},) * 2 + ("",)),
        ({"description": {"to": "cusNote", "apply_updates": False}, **TEXT}, TEXT, (None, None, "cusNote")),
        (TEXT, {"lastname": {"to": "cusText", "apply_updates": False}}, (None, None, "")),
        (TEXT, {**TEXT, "description": {"to": "cusNote", "keep_if_empty": True}}, (None, None, "")),
        ({**TEXT, "description": {"to": "cusNote", "keep_if_empty": True}}, TEXT, (None, None, "cusNote")),
        (
            {"description": {"to": "cusNote", "keep_if_empty": True}},
            {"description": "cusNote"},
            ({"cusNote": ""}, {"cusNote": ""}, ""),
        ),
    ],
)
def test_a_row_needs_the_attributes_that_differ(before: Any, now: Any, expected: Any) -> None:
    assert compared(mapping(before), mapping(now)) == expected


def test_a_replacement_counts_where_it_changes_the_value() -> None:
    before, now = mapping(TEXT), mapping(TEXT, replacements={"lastname": {"Byron": "Lovelace"}})
    assert compared(before, now)[0] == {"cusText": "Lovelace"}
    assert compared(before, now, {**ROW, "lastname": "Other"})[0] is None


def test_a_configuration_is_stored_as_text_and_compiles_to_the_same_mapping() -> None:
    written = {
        "table": "contact",
        "resource": "profile",
        "key": "externalId",
        "fields": {"gendercode": "gender", **TEXT},
        "replacements": {"gendercode": {1: "male", "Female": "female", None: "unknown"}},
        "filters": {"rules": [{"field": "statecode", "is": "in", "value": [0, 1]}]},
    }
    config = TableConfig.model_validate(written)
    text = configuration_text(config)
    again = earlier_mapping(text, CONTACT, PROFILE, {})
    assert again is not None
    assert again.fingerprint == mapping(written.pop("fields"), **written).fingerprint
    assert differences("table: contact", config) == ["the configuration is of another version"]
    gone = text.replace("lastname", "nickname")
    assert earlier_mapping(gone, CONTACT, PROFILE, {}) is None


def test_opt_outs_that_become_fields_are_named_once() -> None:
    written = {"table": "contact", "resource": "profile", "key": "externalId", "fields": TEXT}
    now = TableConfig.model_validate(written)
    mappings = {"donotemail": OptOutMapping(to="blackListEmail", inverted=True)}
    sent = now.with_opt_outs(OptOutConfig(direction="d365_to_campaign", mappings=mappings))
    assert differences(configuration_text(now), sent) == ["`donotemail` -> blackListEmail is added"]
    assert differences(configuration_text(sent), now) == ["`donotemail` -> blackListEmail is no longer mapped"]


def test_the_differences_of_two_configurations_are_named() -> None:
    first = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {**TEXT, "score": "cusInteger"}}
    second = {
        **first,
        "fields": {"lastname": {"to": "cusText", "truncate": True}, "firstname": "firstName"},
        "replacements": {"lastname": {"a": "b"}},
        "filters": {"rules": [{"field": "statecode", "is": "eq", "value": 0}]},
        "apply_deletes": True,
    }
    before, now = (TableConfig.model_validate(one) for one in (first, second))
    text = configuration_text(before)
    assert differences(text, before) == []
    assert differences(text, now) == [
        "`score` -> cusInteger is no longer mapped",
        "`lastname` -> cusText is changed",
        "`firstname` -> firstName is added",
        "the replacements of `lastname` are changed",
        "the filter is changed",
        "`apply_deletes` is changed",
    ]
