"""Generate a JSON Schema of the configuration, for completion and validation in editors.

The schema is generated from the models; the docstrings of their fields are the descriptions that an editor shows. It
covers single values: rules that involve several places of the file are checked by `cross_checks.py` only. The generated
schema is stored as `config.schema.json` beside this file:

    python -m sync_assets.config.json_schema
"""

import json
from pathlib import Path
from typing import Any

PACKAGED = Path(__file__).parent / "config.schema.json"

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft best supported by the YAML language server, which most editors use."""

_PLAIN = ["string", "boolean", "number", "null"]


def json_schema() -> dict[str, Any]:
    """Build the schema of the whole file."""
    from sync_assets.config.models import Config  # pydantic's models  # noqa: PLC0415

    whole = Config.model_json_schema()
    parts: dict[str, Any] = whole.pop("$defs")
    for part in (whole, *parts.values()):
        del part["title"]
        part.pop("description", None)  # the docstring, written for readers of the code
        for key, property_ in part["properties"].items():
            property_.pop("title", None)
            if isinstance(property_.get("default"), dict):
                del property_["default"]  # the defaults are at its own keys
            description = " ".join(property_.pop("description").split())  # a docstring may have several lines
            # This draft ignores keywords beside `$ref`.
            part["properties"][key] = {"description": description} | (
                {"allOf": [property_]} if "$ref" in property_ else property_
            )
    # Rules of validators that a schema can express.
    whole["properties"]["privacy_acknowledged"]["const"] = True
    whole["patternProperties"] = {"^x-": {}}  # for anchors
    columns, by_file = (parts[name]["properties"] for name in ("TableConfig", "BulkLoad"))
    for property_ in columns["replacements"]["patternProperties"].values():
        property_["additionalProperties"] = {"type": _PLAIN}
    mapped = (columns["fields"], columns["replacements"], parts["OptOutConfig"]["properties"]["mappings"])
    for property_ in (*mapped, by_file["workflows"], by_file["update_workflows"]):
        property_["additionalProperties"] = False  # keys that are no logical names
    head = {"$schema": DRAFT, "title": "The configuration of sync_assets"}
    return head | whole | {"$defs": parts}


def text() -> str:
    """Return the schema as JSON text, as stored in the package."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PACKAGED.write_text(text(), encoding="utf-8")
