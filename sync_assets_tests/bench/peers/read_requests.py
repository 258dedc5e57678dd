"""Peer, reading: the loop that everybody writes first, `requests` and `json()`. Keeps nothing.

`python -m sync_assets_tests.bench.peers.read_requests URL PAGE_ROWS LABELS`
"""

import sys

import requests

from sync_assets_tests.bench.columns import COLUMNS, KEY, SET_NAME, prefer, select_name
from sync_assets_tests.bench.meter import Meter


def main(url: str, page_rows: str, labels: str) -> None:
    select = ",".join([KEY, "modifiedon", *map(select_name, COLUMNS)])
    link: str | None = f"{url}/api/data/v9.2/{SET_NAME}?$select={select}"
    rows = 0
    with requests.Session() as session, Meter() as meter:
        while link:
            page = session.get(link, headers={"Prefer": prefer(page_rows, bool(labels))}, timeout=60).json()
            rows += len(page["value"])
            link = page.get("@odata.nextLink")
        meter.done(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
