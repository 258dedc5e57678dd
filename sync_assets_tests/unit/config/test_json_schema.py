"""The JSON Schema for editors: current, true to the examples, and hard on what is mistyped."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import sync_assets
from sync_assets.config.json_schema import PACKAGED, json_schema, text
from sync_assets.config.loader import ConfigError, Document, parse_config

PACKAGE = Path(sync_assets.__file__).parent
PAGES = (PACKAGE.parent / "README.md", *sorted((PACKAGE / "docs").glob("*.md")))
SCHEMA = jsonschema.Draft7Validator(json_schema())


def as_json(data: Any) -> Any:
    """As an editor sees it: every key is a text."""
    if isinstance(data, dict):
        return {str(key): as_json(value) for key, value in data.items()}
    return [as_json(item) for item in data] if isinstance(data, list) else data


def example(name: str) -> Any:
    return as_json(Document((PACKAGE / "sandbox" / name).read_text(encoding="utf-8")).data)


def refused(data: Any) -> list[str]:
    return [error.message for error in SCHEMA.iter_errors(data)]


def test_the_packaged_schema_agrees_with_the_models() -> None:
    assert PACKAGED.read_text(encoding="utf-8") == text(), "run: python -m sync_assets.config.json_schema"


def test_every_key_has_a_description_of_one_line() -> None:
    whole = json_schema()
    for part in (whole, *whole["$defs"].values()):
        for key, property_ in part["properties"].items():
            assert re.fullmatch(r"\S.*\S", property_["description"]), key


@pytest.mark.parametrize("name", ["demo.yaml", "sync_assets.yaml"])
def test_the_examples_are_accepted(name: str) -> None:
    assert refused(example(name)) == []


def test_the_examples_of_the_pages_are_accepted() -> None:
    fence = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
    blocks = {page.name: fence.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    assert blocks["README.md"]
    assert len(blocks["configuration.md"]) == 2
    configurations = (
        one for result in blocks.values() for one in result if not one.startswith("type: ")
    )  # a component
    for block in configurations:
        data = as_json(Document(block).data)
        whole = {"privacy_acknowledged": True, "tables": example("demo.yaml")["tables"]} | data
        assert refused(whole) == [], block


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("privacy_acknowledged: true", "privacy_acknowledged: false"),
        ("picklists: labels", "picklists: names"),
        ("firstname: firstName", "FirstName: firstName"),
        ("firstname: firstName", "_companyid_value: firstName"),
        ("firstname: firstName", "firstname: first-name"),
        ("firstname: firstName", "firstname: {to: firstName, truncated: true}"),
        ("donotemail: blackListEmail", "donotemail: blackListMail"),
        ("new_tier: {null: none}", "new_tier: {null: [none]}"),
        ("concurrency: 64", "concurrency: many"),
        ("separator: \",\"", "separator: []"),
    ],
)  # fmt: skip
def test_the_editor_underlines_each_single_value_that_the_program_refuses(where: str, value: str) -> None:
    text = (PACKAGE / "sandbox" / "sync_assets.yaml").read_text(encoding="utf-8")
    assert where in text
    wrong = text.replace(where, value, 1)
    with pytest.raises(ConfigError):
        parse_config(wrong, "f")
    assert refused(as_json(Document(wrong).data))


def test_both_spellings_of_opt_outs_and_both_forms_of_a_mapping_are_accepted() -> None:
    data = example("sync_assets.yaml")
    data["opt_out"]["mappings"] = {"donotemail": "denyListEmail", "followemail": {"to": "blackList", "inverted": True}}
    data["tables"][0]["replacements"] = {"gendercode": {"1": "male", "null": "unknown", "true": False}}
    assert refused(data) == []


def test_the_package_carries_it_as_json() -> None:
    assert json.loads(PACKAGED.read_text(encoding="utf-8"))["required"] == ["privacy_acknowledged", "tables"]
