"""Peer, reading: Airbyte's CDK with a manifest for the same feed; its messages go to /dev/null.

`python -m sync_assets_tests.bench.peers.read_airbyte URL PAGE_ROWS LABELS`, by a Python that has `airbyte-cdk`.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from airbyte_cdk.entrypoint import AirbyteEntrypoint  # pyright: ignore[reportMissingImports]
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource  # pyright: ignore[reportMissingImports]

from sync_assets_tests.bench.columns import COLUMNS, KEY, SET_NAME, prefer, select_name
from sync_assets_tests.bench.meter import Meter

NEXT = "@odata.nextLink"
JSON_TYPES = {
    "boolean": "boolean",
    **dict.fromkeys(("picklist", "state", "status", "integer"), "integer"),
    **dict.fromkeys(("money", "decimal", "double"), "number"),
}


def manifest(url: str, page_rows: str, labels: str) -> dict[str, Any]:
    types = {KEY: "string", "modifiedon": "string"}
    types |= {select_name(name): JSON_TYPES.get(type_, "string") for name, type_ in COLUMNS.items()}
    schema = {
        "type": "object",
        "additionalProperties": True,
        "properties": {name: {"type": ["null", type_]} for name, type_ in types.items()},
    }
    stream = {
        "type": "DeclarativeStream",
        "name": SET_NAME,
        "primary_key": KEY,
        "schema_loader": {"type": "InlineSchemaLoader", "schema": schema},
        "retriever": {
            "type": "SimpleRetriever",
            "requester": {
                "type": "HttpRequester",
                "url_base": f"{url}/api/data/v9.2/",
                "path": SET_NAME,
                "http_method": "GET",
                "request_parameters": {"$select": ",".join(types)},
                "request_headers": {"Prefer": prefer(page_rows, bool(labels))},
            },
            "record_selector": {
                "type": "RecordSelector",
                "extractor": {"type": "DpathExtractor", "field_path": ["value"]},
            },
            "paginator": {
                "type": "DefaultPaginator",
                "page_token_option": {"type": "RequestPath"},
                "pagination_strategy": {
                    "type": "CursorPagination",
                    "cursor_value": f"{{{{ response['{NEXT}'] }}}}",
                    "stop_condition": f"{{{{ '{NEXT}' not in response }}}}",
                },
            },
        },
    }
    return {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": [SET_NAME]},
        "streams": [stream],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }


def main(url: str, page_rows: str, labels: str) -> None:
    of_stream = {"name": SET_NAME, "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
    chosen = {"stream": of_stream, "sync_mode": "full_refresh", "destination_sync_mode": "overwrite"}
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        config, catalog = Path(folder, "config.json"), Path(folder, "catalog.json")
        config.write_text("{}")
        catalog.write_text(json.dumps({"streams": [chosen]}))
        with Meter() as meter:
            source = ConcurrentDeclarativeSource(
                source_config=manifest(url, page_rows, labels), config={}, catalog=None
            )
            entrypoint = AirbyteEntrypoint(source)
            asked = entrypoint.parse_args(["read", "--config", str(config), "--catalog", str(catalog)])
            rows = 0
            for message in entrypoint.run(asked):
                rows += '"RECORD"' in message[:60]
                print(message, file=nowhere)
            meter.done(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
