"""Metadata of builds that differ: what is missing is "not known", never a crash."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.campaign.metadata import Attribute, read_resource


def attribute(name: str = "x", **metadata: Any) -> Attribute:
    return read_resource("profile", "profileAndServicesExt", {"content": {name: metadata}}, {}).attributes[name]


@pytest.mark.parametrize(
    ("metadata", "type_"),
    [
        ({"type": "string", "resType": "string"}, "string"),
        ({"type": "string", "resType": "memo"}, "string"),
        ({"type": "number", "resType": "long"}, "integer"),
        ({"type": "number", "resType": "double"}, "float"),
        ({"type": "number"}, "float"),
        ({"resType": "boolean"}, "boolean"),
        ({"type": "string", "resType": "date"}, "date"),
        ({"resType": "datetime"}, "datetime"),
        ({"type": "enumeration", "resType": "byte"}, "enumeration"),
        ({"type": "link", "resType": "link", "unbound": False}, "link"),
        ({"resType": "link"}, "link"),
        ({"resType": "link", "unbound": True}, "collection"),
        ({"type": "collection"}, "collection"),
        ({"type": "group", "content": {}}, "group"),
        ({}, "string"),
    ],
)
def test_types(metadata: dict[str, Any], type_: str):
    assert attribute(**metadata).type == type_


@pytest.mark.parametrize(("length", "expected"), [("127", 127), (64, 64), ("0", None), ("", None), (None, None)])
def test_the_length_is_a_text_and_zero_means_unknown(length: Any, expected: int | None):
    assert attribute(type="string", resType="string", length=length).length == expected


@pytest.mark.parametrize(
    "values",
    [
        {"male": {"value": "1", "label": "Male"}, "unknown": {"value": "0"}, "female": {"value": "2"}},
        [{"name": "unknown"}, {"name": "male"}, {"name": "female"}],
        [{"apiName": "female", "value": "2"}, {"apiName": "unknown", "value": "0"}, {"apiName": "male", "value": "1"}],
        ["unknown", "male", "female"],
    ],
)
def test_the_values_of_an_enumeration_in_the_order_of_what_is_stored(values: Any):
    assert attribute(type="enumeration", values=values).values == ("unknown", "male", "female")


def test_sub_fields_have_dotted_paths_and_inherit_read_only():
    content = {
        "location": {"type": "group", "content": {"city": {"resType": "string", "length": "255"}}},
        "postalAddress": {"type": "group", "readOnly": True, "content": {"line1": {"resType": "string"}}},
    }
    result = read_resource("profile", "profileAndServicesExt", {"content": content}, {}).attributes
    assert result["location.city"] == Attribute("location.city", "string", 255)
    assert result["postalAddress.line1"].read_only


def test_a_location_without_its_parts_has_the_documented_ones():
    result = read_resource("profile", "profileAndServicesExt", {"content": {"location": {"type": "element"}}}, {})
    assert {"location.city", "location.zipCode"} <= set(result.attributes)


def test_the_target_of_a_link():
    assert attribute(resType="link", resTarget="profile").target == "profile"
    assert attribute(resType="link", resTarget="cus:cusOrder").target == "cusOrder"
    assert attribute(resType="link").target is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
_members = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("type", "resType", "length", "values", "unbound", "content", "readOnly", "resTarget"), _json
    ),
)


@given(
    st.dictionaries(st.text(max_size=8), _members | _json, max_size=4), st.dictionaries(st.text(), _json, max_size=3)
)
def test_the_answer_of_any_build_is_read(content: dict[str, Any], filters: dict[str, Any]):
    resource = read_resource("profile", "profileAndServicesExt", {"content": content}, filters)
    assert all(path == entry.path for path, entry in resource.attributes.items())
