"""ASGI app of the Web API: validation of tokens, routing, errors (docs/dev/references/dataverse.md 0, 3.4, 5)."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from typing import Protocol

from sync_assets.sandbox.asgi import Answer, App, Receive, Scope, Send, headers_of, read_body, send_answer
from sync_assets.sandbox.dataverse import actions, batch, listing, metadata, parts, privileges, records
from sync_assets.sandbox.dataverse.call import Call, below_base, error_answer, json_answer
from sync_assets.sandbox.dataverse.errors import DataverseError, no_such_segment, not_allowed, not_built
from sync_assets.sandbox.dataverse.organization import Organization
from sync_assets.sandbox.dataverse.store import Store
from sync_assets.sandbox.dataverse.tables import USER_ID
from sync_assets.sandbox.faults import Faults, Rule

ANSWERED_KINDS = frozenset({"forbidden"})
"""Kinds of faults of this system that `refuse` answers."""

TAKEN_KINDS = frozenset({"expired_delta", "wrong_host_link", "missing_delta_link"})
"""Kinds of faults that apply to tracked reads only (the second one to all paged reads), and count these only."""

_MOST_URL = 32_768


class Tokens(Protocol):
    """Validates tokens."""

    def is_valid(self, token: str, audience: str) -> bool: ...


def refuse(rule: Rule) -> Answer | None:
    """Return Dataverse's answer for an injected fault; None for the plain answer."""
    match rule.kind:
        case "throttle":  # as if the service protection limits were exceeded (docs/dev/references/dataverse.md 4)
            text = "Number of requests exceeded the limit of 6000 over time window of 300 seconds."
            answer, wait = error_answer(DataverseError(429, "0x80072322", text)), rule.parameters.get("retry_after", 1)
            return answer._replace(headers=[*answer.headers, (b"retry-after", str(math.ceil(wait)).encode())])
        case "unauthorized":
            return _unauthorized("https://login.invalid", "https://org.invalid")
        case "forbidden":
            text = (
                "Principal user (Id=5c0a1f00-0000-4000-8000-0000000000a1, type=8) is missing prvReadContact privilege"
            )
            return error_answer(DataverseError(403, "0x80040220", text))
        case _:
            return None


def app(org: Organization, tokens: Tokens, faults: Faults, authority: str) -> App:
    """Return the ASGI app.

    Args:
        org: The organization.
        tokens: Validates tokens.
        faults: The active rules.
        authority: URL of the sign-in host with the tenant, for the header of a 401.
    """
    faults.register("d365", TAKEN_KINDS)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        body = await read_body(receive)
        kind, _, token = headers.get("authorization", "").partition(" ")
        raw_path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        path = below_base(raw_path)
        if kind.lower() != "bearer" or not tokens.is_valid(token.strip(), org.url):
            answer = _unauthorized(authority, org.url)
        elif path is None:
            answer = error_answer(no_such_segment(raw_path))
        elif len(raw_path) + len(query) > _MOST_URL:
            answer = error_answer(
                DataverseError(414, "0x80060888", "The request address is longer than 32,768 characters.")
            )
        else:
            target = f"{raw_path}?{query}" if query else raw_path
            call = Call(org, faults, scope["method"], path, query, headers, body, scope["state"], target)
            answer = dispatch(call)
        request_id = (b"x-ms-service-request-id", str(uuid.uuid4()).encode())
        await send_answer(send, answer._replace(headers=[*answer.headers, request_id]))

    return serve


def dispatch(call: Call) -> Answer:
    """Execute one request, a single one or one of a batch. Errors of Dataverse become answers."""
    try:
        if not call.org.switches.application_user:
            raise DataverseError(403, "0x80072560", "The user is not a member of the organization.")
        for header in ("MSCRMCallerID", "CallerObjectId"):
            itself = header == "MSCRMCallerID" and call.headers.get("mscrmcallerid", "").lower() == USER_ID
            if header.lower() in call.headers and not itself:
                raise not_built(f"Another user by the header '{header}'")
        return _route(call)
    except DataverseError as error:
        return error_answer(error, call.prefer)


def _route(call: Call) -> Answer:
    if not call.segments:
        return _service_document(call)
    first = call.segments[0]
    if (answer := privileges.of_the_user(call)) is not None:
        return answer
    if (store := call.org.by_set.get(first.name)) is not None:
        return _rows(call, store)
    if (handler := _NAMED.get(first.name)) is not None:
        return handler(call)
    if call.method == "GET" and (function := actions.UNBOUND_FUNCTIONS.get(first.name)) is not None:
        call.touches("read")
        return function(call, first.key or "")
    if call.method == "POST" and (action := actions.UNBOUND_ACTIONS.get(first.name)) is not None:
        return action(call)
    if first.name in _NOT_BUILT or (call.method == "GET" and first.name.startswith("Retrieve")):
        raise not_built(f"'{first.name}'")
    raise no_such_segment(first.name)


def _batch(call: Call) -> Answer:
    if call.method != "POST":
        raise not_allowed(f"The method {call.method} is not allowed for a batch.")
    return batch.run(call, dispatch)


_NOT_BUILT = frozenset({"$metadata", "CreateEntities", "ManagedPropertyDefinitions", "sdkmessagefilters"})
_NAMED: dict[str, Callable[[Call], Answer]] = {
    "EntityDefinitions": metadata.definitions,
    "GlobalOptionSetDefinitions": metadata.global_option_sets,
    "RelationshipDefinitions": metadata.relationships,
    "$batch": _batch,
}


def _rows(call: Call, store: Store) -> Answer:
    first, *further = call.segments
    if "$expand" in call.options and (further or call.method == "DELETE"):
        raise not_built("The query option '$expand'")  # better than an answer without the expanded rows
    if first.key is not None:
        privileges.demand(call, store, "Read" if call.method == "GET" else "Write")
        if further:
            return parts.part(call, store, first.key, further)
        handlers: dict[str, Callable[[Call, Store, str], Answer]] = {
            "GET": records.retrieve, "PATCH": records.change, "DELETE": records.delete,
        }  # fmt: skip
        if (handler := handlers.get(call.method)) is None:
            raise not_allowed(f"The method {call.method} is not allowed for a row.")
        return handler(call, store, first.key)
    privileges.demand(call, store, "Read" if call.method == "GET" else "Write")
    if further:
        if further[0].name == "$count":
            return listing.count(call, store)
        if further[0].name.startswith(actions.NAMESPACE):
            return actions.bound(call, store, further[0].name.removeprefix(actions.NAMESPACE))
        raise no_such_segment(further[0].name)
    if call.method == "GET":
        return listing.list_rows(call, store)
    if call.method == "POST":
        return records.create(call, store)
    raise not_allowed(f"The method {call.method} is not allowed for a collection of rows.")


def _service_document(call: Call) -> Answer:
    sets = [{"name": name, "kind": "EntitySet", "url": name} for name in call.org.by_set]
    return json_answer({"@odata.context": f"{call.api}/$metadata", "value": sets})


def _unauthorized(authority: str, resource: str) -> Answer:
    challenge = f"Bearer authorization_uri={authority}/oauth2/authorize, resource_id={resource}/"
    return Answer(401, [(b"www-authenticate", challenge.encode()), (b"content-type", b"text/html")], b"")
