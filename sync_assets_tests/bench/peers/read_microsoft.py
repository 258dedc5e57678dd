"""Peer, reading: Microsoft's PowerPlatform-Dataverse-Client, `records.list_pages`, which merely lists.

`python -m sync_assets_tests.bench.peers.read_microsoft URL PAGE_ROWS`. It refuses plain http, which is why its URL is
set behind its back.
"""

import sys
import time
from typing import Any

from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient

from sync_assets_tests.bench.columns import COLUMNS, KEY, TABLE_NAME, select_name
from sync_assets_tests.bench.meter import Meter


class Credential:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("x" * 1100, int(time.time()) + 86_400)


def main(url: str, page_rows: str) -> None:
    client = DataverseClient("https://bench.invalid", Credential())
    client._base_url = url  # pyright: ignore[reportPrivateUsage]
    select = [KEY, "modifiedon", *map(select_name, COLUMNS)]
    rows = 0
    with client, Meter() as meter:
        for page in client.records.list_pages(TABLE_NAME, select=select, page_size=int(page_rows)):
            rows += len(page)
        meter.done(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
