"""Answer `GET /contacts`: filtered, ordered, paged reads of a table (docs/dev/references/dataverse.md 2.1 to 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any

import msgspec

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse import cookies, tracking
from sync_assets.sandbox.dataverse.call import Call, applied, json_answer, link
from sync_assets.sandbox.dataverse.errors import bad_query, no_such_property, not_built
from sync_assets.sandbox.dataverse.expand import projection
from sync_assets.sandbox.dataverse.filters import compile_filter
from sync_assets.sandbox.dataverse.relations import name_of
from sync_assets.sandbox.dataverse.store import Row, Store

_OPTIONS = frozenset({"$select", "$expand", "$filter", "$orderby", "$top", "$count", "$skiptoken", "$deltatoken"})


def list_rows(call: Call, store: Store) -> Answer:
    call.touches("read")
    _check_options(call)
    if tracking.is_tracked(call):
        return tracking.read(call, store)
    org, prefer, options = call.org, call.prefer, call.options
    projected = projection(call, store)
    top = None if prefer.page_size else _top(call)  # $top is ignored beside maxpagesize
    size = call.page_size(top)
    cookie = cookies.decode(options["$skiptoken"]) if "$skiptoken" in options else cookies.Cookie()
    if "$orderby" in options:
        rows = _in_order(call, store, cookie)
    else:
        rows = _matching(call, store, store.in_key_order(cookie.last or ""))
    page = list(islice(rows, size + 1))
    has_more = len(page) > size and top is None
    del page[size:]

    document: dict[str, Any] = {"@odata.context": f"{call.api}/$metadata#{store.table.set_name}{projected.context}"}
    counted = options.get("$count", "").lower() == "true"
    if counted:
        document["@odata.count"] = min(count_rows(call, store), org.switches.count_limit)
    document |= _page_annotations(call, document.get("@odata.count", -1), counted, store)
    next_link: dict[str, Any] = {}
    if has_more:
        order_values = [] if "$orderby" not in options else _order_values(call, store, page[-1])
        following = cookies.Cookie(page=cookie.page + 1, last=page[-1][store.key_at], order=order_values)
        next_link["@odata.nextLink"] = link(call, "$skiptoken", cookies.encode(following, tracked=False))
    document |= next_link if org.switches.delta_link_first else {}
    if org.switches.lagging_queries:
        page = [store.previous.get(row[store.key_at], row) for row in page]
    document["value"] = list(map(projected.show, page))
    document |= next_link
    return json_answer(
        document,
        *applied(
            f"odata.maxpagesize={size}" if prefer.page_size else None,
            f'odata.include-annotations="{prefer.annotations}"' if prefer.annotations else None,
        ),
    )


def count(call: Call, store: Store) -> Answer:
    """Answer `/contacts/$count`: a number up to the limit; with `$deltatoken` the number of changes."""
    call.touches("read")
    number = tracking.count(call, store) if tracking.is_tracked(call) else count_rows(call, store)
    if not tracking.is_tracked(call):
        number = min(number, call.org.switches.count_limit)
    return Answer(200, [(b"content-type", b"text/plain"), (b"odata-version", b"4.0")], str(number).encode())


def count_rows(call: Call, store: Store) -> int:
    if "$filter" not in call.options:
        return len(store) - len(store.hidden)
    return sum(1 for _ in _matching(call, store, store.in_key_order()))


def _check_options(call: Call) -> None:
    for name in call.options:
        if name in ("$apply", "fetchXml", "sql", "savedQuery", "userQuery"):
            if not tracking.is_tracked(call):
                raise not_built(f"The query option '{name}'")
        elif name.startswith("$") and name not in _OPTIONS:
            raise bad_query(f"The query parameter {name} is not supported")


def _top(call: Call) -> int | None:
    text = call.options.get("$top")
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise bad_query(
            f"Invalid value '{text}' for $top query option found. The $top query option requires a positive number."
        )
    return int(text)


def _matching(call: Call, store: Store, rows: Iterable[Row]) -> Iterable[Row]:
    text = call.options.get("$filter")
    if text is None:
        return rows
    return filter(compile_filter(text, store, call.org, call.options), rows)


def _page_annotations(call: Call, counted: int, is_counted: bool, store: Store) -> dict[str, Any]:
    prefix, limit = "Microsoft.Dynamics.CRM.", call.org.switches.count_limit
    notes = {
        f"@{prefix}totalrecordcount": counted,
        f"@{prefix}totalrecordcountlimitexceeded": is_counted and count_rows(call, store) > limit,
        f"@{prefix}globalmetadataversion": str(call.org.metadata_version),
    }
    return {name: value for name, value in notes.items() if call.prefer.wants(name[1:])}


# Order: null first, text case-insensitively, the key last so that the order is total. A lookup has the place of the
# primary name that it leads to: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/order-rows

Order = list[tuple[Callable[[Row], Any], bool]]


def _order(call: Call, store: Store) -> Order:
    """Return (function that returns the value, descending) of each column in `$orderby`."""
    order: Order = []
    for item in call.options["$orderby"].split(","):
        name, _, direction = item.strip().partition(" ")
        column = store.column(name)
        if column is None:
            raise no_such_property(name, store.table.name)
        if direction.strip() not in ("", "asc", "desc"):
            raise bad_query(f"Syntax error in the $orderby expression '{item.strip()}'.")
        get: Callable[[Row], Any] = itemgetter(store.position[column.name])
        if column.is_lookup:
            get = partial(name_of, call.org.stores, store, column)
        order.append((get, direction.strip() == "desc"))
    return order


def _sort_value(value: Any) -> tuple[bool, Any]:
    if value is None:
        return False, 0
    return True, value.casefold() if isinstance(value, str) else value


def _in_order(call: Call, store: Store, cookie: cookies.Cookie) -> Iterable[Row]:
    """Return the ordered rows after the position of the cookie, from the present data."""
    order = _order(call, store)
    rows = list(_matching(call, store, store.in_key_order()))
    for get, descending in reversed(order):  # a stable sort, least significant first, keeps the key order
        rows.sort(key=lambda row, get=get: _sort_value(get(row)), reverse=descending)
    if cookie.last is None:
        return rows
    if len(cookie.order) != len(order):
        raise bad_query("Malformed XML in the Paging Cookie")
    return (row for row in rows if _follows(row, cookie, order, store))


def _follows(row: Row, cookie: cookies.Cookie, order: Order, store: Store) -> bool:
    for (get, descending), before in zip(order, cookie.order, strict=True):
        value = get(row)
        ours, theirs = _sort_value(value), _sort_value(_comparable(before, value))
        if ours != theirs:
            return (ours < theirs) if descending else (ours > theirs)
    return row[store.key_at] > (cookie.last or "")


def _comparable(stored: Any, current: Any) -> Any:
    """Convert a value of the cookie, in which decimals are text, to the type of a row's value."""
    return (
        type(current)(stored)
        if stored is not None and isinstance(stored, str) and not isinstance(current, str | None)
        else stored
    )


def _order_values(call: Call, store: Store, row: Row) -> list[Any]:
    return [msgspec.to_builtins(get(row)) for get, _ in _order(call, store)]
