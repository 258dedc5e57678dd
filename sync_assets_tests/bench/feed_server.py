"""Dataverse as the benchmark reads it: a change feed of any number of rows, from pages made beforehand.

`python -m sync_assets_tests.bench.feed_server [--page-rows N] [--labels]`. Organisation URL:
`http://127.0.0.1:<port>/<rows>`, so that one server has tables of every size. Pages have as many rows as
`odata.maxpagesize` asks for, at most N; the last one carries a delta link, behind which nothing ever changes. Where the
key alone is selected, rows have nothing else.
With `--labels` whoever asks for annotations gets formatted values, too.
"""

import argparse
import json
import re
from urllib.parse import parse_qs, urlsplit

from sync_assets_tests.bench.columns import KEY, SET_NAME, entity_definition
from sync_assets_tests.bench.rows import PageTemplate, page_ids
from sync_assets_tests.bench.servers import Connection, answer, serve

DISTINCT_PAGES = 4
_PATH = re.compile(r"/(\d+)/api/data/v9\.2/(\w+)")
_SIZE = re.compile(rb"odata\.maxpagesize=(\d+)")
_ODATA = "OData-Version: 4.0\r\n"


class Feed:
    """All that the server knows; connections share it."""

    def __init__(self, page_rows: int, labels: bool) -> None:
        self.page_rows = page_rows
        self.templates = [PageTemplate(seed, page_rows) for seed in range(DISTINCT_PAGES)]
        self.labelled = [PageTemplate(seed, page_rows, labels=True) for seed in range(DISTINCT_PAGES if labels else 0)]

    def page(self, base: str, rows: int, size: int, number: int, *, labels: bool, select: str) -> bytes:
        left = rows - number * size
        more = left > size
        token = f"$skiptoken={number + 1}" if more else "$deltatoken=end"
        address = f"{base}/{SET_NAME}?{f'$select={KEY}&' if select == KEY else ''}{token}"
        link = ("nextLink" if more else "deltaLink", address)
        count = min(left, size)
        if count <= 0:
            return answer("200 OK", f'{{"value":[],"@odata.{link[0]}":{json.dumps(link[1])}}}'.encode(), _ODATA)
        if select == KEY:
            between = f'"}},{{"@odata.etag":"W/\\"1048576\\"","{KEY}":"'
            value = f'{{"{KEY}":"{between.join(id_.decode() for id_ in page_ids(number, count))}"}}'
            return answer("200 OK", f'{{"value":[{value}],"@odata.{link[0]}":{json.dumps(link[1])}}}'.encode(), _ODATA)
        template = (self.labelled if labels and self.labelled else self.templates)[number % DISTINCT_PAGES]
        return answer("200 OK", template.page(page_ids(number, count), link), _ODATA)


class Organisation(Connection):
    feed: Feed

    def answered(self, method: bytes, target: bytes, head: bytes, body: bytes) -> None:
        parts = urlsplit(target.decode())
        match = _PATH.match(parts.path)
        if not match or method != b"GET":
            self.transport.write(answer("404 Not Found", b'{"error":{"code":"404","message":"not in the benchmark"}}'))
        elif match[2] == "EntityDefinitions":
            self.transport.write(answer("200 OK", json.dumps({"value": [entity_definition()]}).encode(), _ODATA))
        else:
            query = parse_qs(parts.query)
            rows, feed = int(match[1]), self.feed
            asked = _SIZE.search(head)
            size = min(int(asked[1]), feed.page_rows) if asked else feed.page_rows
            number = int(query.get("$skiptoken", ["0"])[0])
            if "$deltatoken" in query:
                number = -(-rows // size)  # behind the last page: nothing
            base = f"http://{_host(head)}/{rows}/api/data/v9.2"
            labels = b"include-annotations" in head
            select = query.get("$select", [""])[0]
            self.transport.write(feed.page(base, rows, size, number, labels=labels, select=select))


def _host(head: bytes) -> str:
    match = re.search(rb"\r\nhost: *([^\r\n]+)", head, re.IGNORECASE)
    return match[1].decode() if match else "127.0.0.1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page-rows", type=int, default=5000)
    parser.add_argument("--labels", action="store_true")
    arguments = parser.parse_args()
    Organisation.feed = Feed(arguments.page_rows, arguments.labels)
    serve(Organisation)


if __name__ == "__main__":
    main()
