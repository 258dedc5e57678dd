"""Peer, reading: Microsoft's PowerPlatform-Dataverse-Client, `records.list_pages`, which merely lists.

`python -m sync_assets_tests.bench.peers.read_microsoft URL PAGE_ROWS LABELS`. It refuses plain http, which is why
its URL is set behind its back.
"""

import sys
import time
from typing import Any

from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient

from sync_assets_tests.bench.columns import COLUMNS, KEY, LABEL, TABLE_NAME, TOKEN, select_name
from sync_assets_tests.bench.meter import Meter


class Credential:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 86_400)


def main(url: str, page_rows: str, labels: str) -> None:
    client = DataverseClient("https://bench.invalid", Credential())
    client._base_url = url
    select = [KEY, "modifiedon", *map(select_name, COLUMNS)]
    rows = 0
    with client, Meter() as meter:
        listed = client.records.list_pages(
            TABLE_NAME, select=select, page_size=int(page_rows), include_annotations=LABEL[1:] if labels else None
        )
        for page in listed:
            rows += len(page)
        meter.done(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
