"""The way of each column of one row: which step changed the value."""

from typing import Any

import pytest

from sync_assets.mapping.attribute_steps import AttributeStep, map_row
from sync_assets.mapping.transform import transform
from sync_assets_tests.support.sample_tables import frame, mapping

GENDERS = {"gendercode": {2: "female", None: "unknown"}}
INTERESTS = {"interests": {9: "Something else"}}


def step(fields: dict[str, Any], row: dict[str, Any], **more: Any) -> AttributeStep:
    of = mapping(fields, **more)
    [result] = map_row(frame(of, row), of).steps
    return result


def test_a_row_is_mapped_as_the_transform_maps_it() -> None:
    of = mapping({"lastname": {"to": "cusShort", "truncate": True}, "gendercode": "gender"}, replacements=GENDERS)
    rows = frame(of, {"lastname": "Lovelace", "gendercode": 3})
    [expected] = transform(rows, of).to_dicts()
    result = map_row(rows, of)
    assert (result.hash, result.error) == (expected["hash"], expected["validation_error"])
    assert result.payload["cusShort"] == "Lovel"


def test_a_text_that_is_truncated_names_its_length_before() -> None:
    fields = {"lastname": {"to": "cusShort", "truncate": True}}
    result = step(fields, {"lastname": "Lovelace"})
    assert (result.source, result.mapped, result.cut_from) == ("Lovelace", "Lovel", 8)
    assert step(fields, {"lastname": "Ada"}).cut_from is None


@pytest.mark.parametrize(
    ("code", "replaced", "mapped"), [(2, True, "female"), (None, True, "unknown"), (1, False, "male")]
)
def test_a_value_is_replaced_or_converted(code: int | None, replaced: bool, mapped: str) -> None:
    result = step({"gendercode": "gender"}, {"gendercode": code}, replacements=GENDERS)
    assert (result.replaced, result.mapped) == (replaced, mapped)


@pytest.mark.parametrize(("codes", "replaced"), [("1,9", True), ("1", False), (None, False), ("19", False)])
def test_one_replaced_choice_of_several_counts(codes: str | None, replaced: bool) -> None:
    assert step({"interests": "cusText"}, {"interests": codes}, replacements=INTERESTS).replaced is replaced


def test_values_are_not_in_the_text_form_of_the_result() -> None:
    of = mapping({"lastname": "cusText"})
    assert "Lovelace" not in repr(map_row(frame(of, {"lastname": "Lovelace"}), of))
