"""Campaign as the benchmark writes to it: takes every record, answers as Campaign does, after an exact time.

`python -m sync_assets_tests.bench.push_server`. Base URL: `http://127.0.0.1:<port>/<milliseconds>`, so that one server
has every latency. POST -> 201 with the whole record (some 1.2 kB), PATCH of a record -> 200 {"PKey", "href"}, GET ->
200 with the record; 404 without one (docs/dev/references/campaign.md 5). `GET /counts` tells what arrived since the
last `DELETE /counts`, and how often a key came that had been sent before.
"""

import asyncio
import json
import time
from collections import Counter, deque

from sync_assets_tests.bench.servers import Connection, answer, serve

KEY = b'"externalId":"'
TICK = 0.001
"""Seconds. Answers are let go at the tick nearest to their time, so that their mean latency is exact."""

_FILLER = {
    f"{group}{name}": value
    for group in ("", "cus", "location")
    for name, value in {
        "firstName": "Ada", "lastName": "Byron", "email": "ada.byron@example.com", "phone": "+44 20 7946 0000",
        "created": "2026-11-24 10:00:00.000Z", "lastModified": "2026-11-24 10:00:00.000Z", "gender": "female",
        "birthDate": "1980-02-28", "isExternal": False, "domain": "example.com", "thumbnail": "/nl/img/thumb.png",
        "blackList": False, "emailFormat": "unknown", "postalAddress": {"line1": "", "line2": "Ada BYRON"},
    }.items()
}  # fmt: skip
_RECORD = json.dumps(_FILLER, separators=(",", ":"))[1:].encode()


def _record(key: bytes, target: bytes) -> bytes:
    return b'{"PKey":"@%s","externalId":"%s","href":"%s/@%s",' % (key[-22:], key, target, key[-22:]) + _RECORD


class Counts:
    """What arrived. `twice`: requests whose key had come before."""

    def __init__(self) -> None:
        self.by_kind: Counter[str] = Counter()
        self.keys: set[int] = set()

    def add(self, kind: str, key: bytes) -> None:
        self.by_kind[kind] += 1
        self.by_kind["twice"] += hash(key) in self.keys
        self.keys.add(hash(key))

    def told(self) -> bytes:
        kinds = ("post", "patch", "get", "absent", "twice", "other")
        counts = {kind: self.by_kind[kind] for kind in kinds}
        return json.dumps({**counts, "keys": len(self.keys)}).encode()


class Wheel:
    """Answers that wait for their time, in one queue for each latency, let go by one clock."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[tuple[float, asyncio.Transport, bytes]]] = {}
        self._turning = False

    def add(self, milliseconds: bytes, transport: asyncio.Transport, content: bytes) -> None:
        queue = self._queues.setdefault(milliseconds, deque())
        queue.append((time.monotonic() + int(milliseconds) / 1000, transport, content))
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_later(TICK, self._turn)

    def _turn(self) -> None:
        now = time.monotonic() + TICK / 2
        self._turning = False
        for queue in self._queues.values():
            while queue and queue[0][0] <= now:
                _, transport, result = queue.popleft()
                if not transport.is_closing():
                    transport.write(result)
            self._turning |= bool(queue)
        if self._turning:
            asyncio.get_running_loop().call_later(TICK, self._turn)


class Campaign(Connection):
    counts = Counts()
    wheel = Wheel()

    def answered(self, method: bytes, target: bytes, head: bytes, body: bytes) -> None:
        if target == b"/counts":
            if method == b"DELETE":
                self.counts.__init__()
            self.transport.write(answer("200 OK", self.counts.told()))
            return
        if method == b"POST":
            at = body.find(KEY) + len(KEY)
            key = body[at : body.find(b'"', at)] if at >= len(KEY) else b""
            self.counts.add("post", key)
            result = answer("201 Created", _record(key, target))
        elif hash(key := target.rpartition(b"/")[2]) not in self.counts.keys:
            self.counts.by_kind["absent"] += 1
            result = answer("404 Not Found", b"Unable to find document with path '/profile' from key '%s'" % key)
        elif method == b"PATCH":
            self.counts.add("patch", key)
            result = answer("200 OK", b'{"PKey":"@%s","href":"%s"}' % (key[-22:], target))
        else:
            self.counts.by_kind["get" if method == b"GET" else "other"] += 1
            result = answer("200 OK", _record(key, target))
        milliseconds = target[1 : target.find(b"/", 1)]
        if milliseconds in (b"0", b"campaign"):
            self.transport.write(result)
        else:
            self.wheel.add(milliseconds, self.transport, result)


if __name__ == "__main__":
    serve(Campaign)
