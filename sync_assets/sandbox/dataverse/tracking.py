"""Change tracking: first reads, delta reads, their tokens, and the expiry of these
(docs/dev/references/dataverse.md 1).

Both kinds of reads use the present data. A first read returns the rows by id, so it misses no row that exists during
the whole read. A delta read returns the rows written in (since, until] by version, then the tombstones. `until` is set
when the read begins, and is in its delta link, so the next delta read returns the changes made meanwhile (again).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import quote

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse import cookies
from sync_assets.sandbox.dataverse.call import Call, applied, json_answer, link
from sync_assets.sandbox.dataverse.cookies import Cookie
from sync_assets.sandbox.dataverse.errors import DataverseError, bad_query
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.dataverse.store import Row, Store, Tombstone

_STAMP_FORMAT = "%m/%d/%Y %H:%M:%S"
_REFUSED = {"$filter": "filter", "$orderby": "orderby", "$expand": "expand", "$top": "top"}


def is_tracked(call: Call) -> bool:
    """Return True if a read is one with change tracking: by preference, by token, or as a further page of one."""
    return (
        call.prefer.track_changes
        or "$deltatoken" in call.options
        or ("$skiptoken" in call.options and cookies.decode(call.options["$skiptoken"]).taken != "")
    )


def read(call: Call, store: Store) -> Answer:
    """Answer one page of a first read or a delta read."""
    cookie = _position(call, store)
    switches, prefer = call.org.switches, call.prefer
    projection = _projection(call, store, cookie)
    size = call.page_size()
    repeats = switches.page_repeats and cookie.since is not None and size > 1
    most = size // 2 if repeats else size
    page = list(islice(_items(call, store, cookie), most + 1))
    has_more = len(page) > most
    del page[most:]

    delta = "" if cookie.since is None else "/$delta"
    document: dict[str, Any] = {
        "@odata.context": f"{call.api}/$metadata#{store.table.set_name}{projection.context}{delta}"
    }
    if has_more:
        links = {"@odata.nextLink": _next_link(call, store, cookie, page[-1])}
    elif call.fault("missing_delta_link") is not None:
        links = {}
    else:
        links = {"@odata.deltaLink": _delta_link(call, cookie)}
    document |= links if switches.delta_link_first else {}
    gone = f"{call.api}/$metadata#{store.table.set_name}/$deletedEntity"
    earlier = _earlier(store, page) if repeats else []
    document["value"] = [projection.show(row) for row in earlier] + [
        {"@odata.context": gone, "id": item.id, "reason": "deleted"}
        if isinstance(item, Tombstone)
        else projection.show(item[1])
        for item in page
    ]
    document |= links
    return json_answer(
        document,
        *applied(
            "odata.track-changes" if prefer.track_changes else None,
            f"odata.maxpagesize={size}" if prefer.page_size else None,
            f'odata.include-annotations="{prefer.annotations}"' if prefer.annotations else None,
        ),
    )


def count(call: Call, store: Store) -> int:
    """Return the number of items in the delta of a `$deltatoken`."""
    return sum(1 for _ in _items(call, store, _position(call, store)))


def _position(call: Call, store: Store) -> Cookie:
    """Return the position of the read. Raises DataverseError for all reasons to refuse it."""
    switches, options = call.org.switches, call.options
    if not store.change_tracking:
        message = f"Entity {store.table.name} isn't enabled for change tracking."
        raise DataverseError(400, "0x80072491", message)
    if switches.depth(store.table.name, "Read") != "Global":
        message = f"Principal user is missing prvRead{store.table.schema_name} privilege at organization level."
        raise DataverseError(403, "0x80040220", message)
    for option, name in _REFUSED.items():
        if option in options:
            message = f'The "${{{name}}}" query parameter isn\'t supported when Change Tracking is enabled.'
            raise DataverseError(400, "0x80060888", message)
    now = call.org.now().strftime(_STAMP_FORMAT)
    if "$skiptoken" in options:
        cookie = cookies.decode(options["$skiptoken"])
        if cookie.since is not None:
            _check_age(call, store, cookie.since, cookie.taken)
        return cookie
    if "$deltatoken" not in options:
        return Cookie(until=call.org.version, taken=now)
    version, _, issued = options["$deltatoken"].partition("!")
    if not version.isdecimal():
        raise bad_query(f"Invalid delta token '{options['$deltatoken']}'.")
    _check_age(call, store, int(version), issued)
    return Cookie(since=int(version), until=call.org.version, taken=now, at_version=int(version))


def _check_age(call: Call, store: Store, version: int, issued: str) -> None:
    try:
        age = call.org.now() - datetime.strptime(issued, _STAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise bad_query(f"Invalid delta token '{version}!{issued}'.") from None
    is_later = version > call.org.version  # a token of another organization, or from before a restart or restore
    if is_later and call.org.switches.later_link_error == "bad_query":
        raise bad_query(f"Invalid delta token '{version}!{issued}'.")
    if (
        age > call.org.tracking_window()
        or version < store.expired_before
        or is_later
        or call.fault("expired_delta") is not None
    ):
        raise _expired(call)


def _expired(call: Call) -> DataverseError:
    message = "Version stamp associated with the client has expired. Please perform a full sync."
    return DataverseError(call.org.switches.status_expired, "0x80044352", message)


def _projection(call: Call, store: Store, cookie: Cookie) -> Projection:
    try:
        return Projection(store, call.org, call.options.get("$select"), call.prefer)
    except DataverseError:
        # A column in the link's $select was removed after the link was issued (section 8).
        if cookie.since is not None and call.org.switches.removed_column_error == "expired":
            raise _expired(call) from None
        raise


Item = tuple[int, Row] | Tombstone


def _items(call: Call, store: Store, cookie: Cookie) -> Iterable[Item]:
    """Return the items of the read after the position of the cookie."""
    if cookie.since is None:
        return ((row[store.version_at], row) for row in store.in_key_order(cookie.last or ""))
    return _delta(store, cookie, call.org.switches.delta_repeats)


def _delta(store: Store, cookie: Cookie, every: bool) -> Iterator[Item]:
    if not cookie.deletes:
        yield from store.changed(cookie.at_version, cookie.until, every)
    yield from store.deleted(cookie.at_version if cookie.deletes else cookie.since or 0, cookie.until, every)


def _earlier(store: Store, page: list[Item]) -> list[Row]:
    """Return the values that the rows of a page had before their last write; rows written once have none."""
    ids = (item[1][store.key_at] for item in page if not isinstance(item, Tombstone))
    return [store.previous[row_id] for row_id in ids if row_id in store.previous]


def _next_link(call: Call, store: Store, cookie: Cookie, last: Item) -> str:
    following = Cookie(page=cookie.page + 1, since=cookie.since, until=cookie.until, taken=cookie.taken)
    if isinstance(last, Tombstone):
        following.at_version, following.deletes = last.version, True
    elif cookie.since is not None:
        following.at_version = last[0]
    else:
        following.last = last[1][store.key_at]
    opaque = call.org.switches.tracked_skiptoken == "opaque"
    return link(call, "$skiptoken", cookies.encode(following, tracked=True, opaque=opaque))


def _delta_link(call: Call, cookie: Cookie) -> str:
    version, issued = cookie.until, cookie.taken
    if call.org.switches.delta_link_taken == "end":
        version, issued = call.org.version, call.org.now().strftime(_STAMP_FORMAT)
    return link(call, "$deltatoken", quote(f"{version}!{issued}", safe="").lower())
