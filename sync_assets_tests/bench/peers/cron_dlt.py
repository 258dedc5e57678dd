"""Peer, change to Campaign: one run of dlt as cron starts it, reading what changed and sending each row by a PATCH.

`python -m sync_assets_tests.bench.peers.cron_dlt FOLDER SINCE`, in the sandbox's environment: dlt's rest_api source
reads the three tables by their time of change, which its state in FOLDER keeps (at first: SINCE), and a destination of
dlt's own kind sends the rows from memory, IN_FLIGHT at a time. It has no ledger, repeats nothing, sees no deletions.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dlt
import requests
from dlt.sources.rest_api import rest_api_source
from requests.adapters import HTTPAdapter

from sync_assets_tests.bench.meter import report
from sync_assets_tests.bench.traffic import TABLES
from sync_assets_tests.support.dlt_client import dlt_client
from sync_assets_tests.support.signed_in import campaign

IN_FLIGHT = 32
BY_SET = {changed.set_name: (table, changed) for table, changed in TABLES.items()}


def source(since: str) -> Any:
    resources = [
        {
            "name": name,
            "primary_key": f"{table}id",
            "endpoint": {
                "path": name,
                "params": {"$select": f"{table}id,{changed.column},modifiedon",
                           "$filter": "modifiedon ge {incremental.start_value}"},
                "data_selector": "value",
                "incremental": {"cursor_path": "modifiedon", "initial_value": since},
            },
        }
        for name, (table, changed) in BY_SET.items()
    ]  # fmt: skip
    document: Any = {
        "client": dlt_client(os.environ, 5000),
        "resources": resources,
    }
    return rest_api_source(document)


def main(folder: str, since: str) -> None:
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": folder,
        "REQUESTS_CA_BUNDLE": os.environ["SYNC_ASSETS_CA_BUNDLE"],
    }
    sent, began = 0, time.perf_counter()
    with campaign(os.environ) as signed_in, requests.Session() as session:
        session.headers.update({name: signed_in.headers[name] for name in ("authorization", "x-api-key")})
        session.mount("https://", HTTPAdapter(pool_maxsize=IN_FLIGHT))
        base = str(signed_in.base_url)

        @dlt.destination(batch_size=1000)
        def to_campaign(items: Any, table: Any) -> None:
            nonlocal sent
            name, changed = BY_SET[table["name"]]

            def update(row: dict[str, Any]) -> None:
                address = f"{base}profileAndServicesExt/{changed.resource}/{row[f'{name}id']}"
                session.patch(address, json={changed.attribute: row[changed.column]}, timeout=60).raise_for_status()

            with ThreadPoolExecutor(IN_FLIGHT) as pool:
                sent += len(list(pool.map(update, items)))

        pipeline = dlt.pipeline("cron", destination=to_campaign, pipelines_dir=folder)
        pipeline.run(source(since)).raise_on_failed_jobs()
    report(sent, time.perf_counter() - began, cpu_seconds=time.process_time())  # with the start of Python and of dlt


if __name__ == "__main__":
    main(*sys.argv[1:])
