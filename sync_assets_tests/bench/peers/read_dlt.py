"""Peer, reading: dlt's rest_api source into Parquet files, its fastest way (docs/dev/measurements.md D).

`python -m sync_assets_tests.bench.peers.read_dlt URL PAGE_ROWS LABELS`, by a Python that has `dlt[parquet]`.
"""

import os
import sys
import tempfile

import dlt  # pyright: ignore[reportMissingImports]
from dlt.sources.rest_api import rest_api_source  # pyright: ignore[reportMissingImports]

from sync_assets_tests.bench.columns import COLUMNS, KEY, SET_NAME, prefer, select_name
from sync_assets_tests.bench.meter import Meter

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"


def main(url: str, page_rows: str, labels: str) -> None:
    select = ",".join([KEY, "modifiedon", *map(select_name, COLUMNS)])
    source = rest_api_source(
        {
            "client": {
                "base_url": f"{url}/api/data/v9.2/",
                "headers": {"Prefer": prefer(page_rows, bool(labels))},
                "paginator": {"type": "json_link", "next_url_path": "'@odata.nextLink'"},
            },
            "resources": [
                {
                    "name": SET_NAME,
                    "primary_key": KEY,
                    "write_disposition": "replace",
                    "endpoint": {"path": SET_NAME, "params": {"$select": select}, "data_selector": "value"},
                }
            ],
        }
    )
    with tempfile.TemporaryDirectory() as folder, Meter() as meter:
        pipeline = dlt.pipeline(
            "bench",
            pipelines_dir=folder,
            destination=dlt.destinations.filesystem(f"file://{folder}/out"),
            dataset_name="rows",
        )
        pipeline.run(source, loader_file_format="parquet")
        rows = pipeline.last_trace.last_normalize_info.row_counts[SET_NAME]  # pyright: ignore[reportOptionalMemberAccess]
        meter.done(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
