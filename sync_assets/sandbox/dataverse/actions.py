"""Actions and functions of the Web API: writes of several rows, and queries about the organization.

Source: docs/dev/references/dataverse.md 2.3, 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import msgspec

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse.call import Call, json_answer, no_content
from sync_assets.sandbox.dataverse.describe import LANGUAGE
from sync_assets.sandbox.dataverse.errors import DataverseError, bad_payload, bad_query, not_built
from sync_assets.sandbox.dataverse.keys import parse_reference
from sync_assets.sandbox.dataverse.store import Store
from sync_assets.sandbox.dataverse.tables import BUSINESS_UNIT_ID, ORGANIZATION_ID, USER_ID

NAMESPACE = "Microsoft.Dynamics.CRM."


def bound(call: Call, store: Store, name: str) -> Answer:
    """Execute CreateMultiple, UpdateMultiple or UpsertMultiple in one transaction."""
    act = _BOUND.get(name)
    if act is None:
        raise not_built(f"The action '{NAMESPACE}{name}'")
    body = call.json()
    targets = body.get("Targets") if isinstance(body, dict) else None
    if not isinstance(targets, list) or not all(isinstance(target, dict) for target in targets):
        raise bad_payload("The parameter 'Targets' must be a collection of rows.")
    if not targets:
        raise bad_payload("The collection 'Targets' is empty.")
    type_name = f"{NAMESPACE}{store.table.name}"
    for target in targets:
        if target.get("@odata.type", "").lstrip("#") != type_name:
            raise bad_payload(f"Each target needs '@odata.type': '{type_name}'.")
    with call.org.transaction():
        return act(call, store, targets)


def _create_multiple(call: Call, store: Store, targets: list[dict[str, Any]]) -> Answer:
    call.touches("insert")
    ids = [call.org.create(store, target) for target in targets]
    return _response(call, "CreateMultiple", Ids=ids)


def _update_multiple(call: Call, store: Store, targets: list[dict[str, Any]]) -> Answer:
    call.touches("update")
    for target in targets:
        row_id, _ = _target_id(call, store, target)
        if row_id is None or row_id not in store.rows:
            raise DataverseError(404, "0x80040217", f"{store.table.schema_name} With Ids = {row_id} Do Not Exist")
        call.org.update(store, row_id, target)
    return no_content()


def _upsert_multiple(call: Call, store: Store, targets: list[dict[str, Any]]) -> Answer:
    call.touches("update")
    for target in targets:
        row_id, named = _target_id(call, store, target)
        if row_id is not None and row_id in store.rows:
            call.org.update(store, row_id, target)
        else:
            call.org.create(store, target, named if row_id is None else {store.table.key: row_id})
    return no_content()


def _target_id(call: Call, store: Store, target: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the row id and the key columns of a target, by its `@odata.id` or its primary key."""
    if isinstance(reference := target.get("@odata.id"), str):
        set_name, key = parse_reference(reference, call.org.url)
        if set_name != store.table.set_name:
            raise bad_payload(f"'@odata.id': '{reference}' is not of {store.table.set_name}.")
        return call.org.resolve(store, key)
    if isinstance(row_id := target.get(store.table.key), str):
        return call.org.resolve(store, row_id)
    raise bad_payload(f"Each target needs '{store.table.key}' or '@odata.id'.")


_BOUND: dict[str, Callable[[Call, Store, list[dict[str, Any]]], Answer]] = {
    "CreateMultiple": _create_multiple,
    "UpdateMultiple": _update_multiple,
    "UpsertMultiple": _upsert_multiple,
}


def _response(call: Call, name: str, **members: object) -> Answer:
    return json_answer({"@odata.context": f"{call.api}/$metadata#{NAMESPACE}{name}Response", **members})


def retrieve_total_record_count(call: Call, arguments: str) -> Answer:
    """Answer `RetrieveTotalRecordCount(EntityNames=['contact'])`. The value may be an alias."""
    _, _, value = arguments.partition("=")
    value = call.options.get(value, value) if value.startswith("@") else value
    try:
        names = msgspec.json.decode(value.replace("'", '"'), type=list[str])
    except msgspec.DecodeError:
        raise bad_query(f"Bad Request - Error in query syntax: '({arguments})'.") from None
    counts = [len(call.org.store(name)) for name in names]
    collection = {"Count": len(names), "IsReadOnly": False, "Keys": names, "Values": counts}
    return _response(call, "RetrieveTotalRecordCount", EntityRecordCountCollection=collection)


def bulk_delete(call: Call) -> Answer:
    """Execute a `BulkDelete` by ids at once; the real one starts a job.

    As in a job, a row that must not be deleted is skipped. Only the job's log, which is not emulated, would show that.
    """
    call.touches("delete")
    body = call.json()
    queries = body.get("QuerySet") if isinstance(body, dict) else None
    if not isinstance(queries, list):
        raise bad_payload("The parameter 'QuerySet' must be a collection of queries.")
    for query in queries:
        store = call.org.store(query["EntityName"])
        for condition in query["Criteria"]["Conditions"]:
            if condition["Operator"] != "In" or condition["AttributeName"] != store.table.key:
                raise not_built("BulkDelete by anything but a list of ids")
            for value in condition["Values"]:
                if value["Value"].lower() in store.rows:
                    with suppress(DataverseError):
                        call.org.delete(store, value["Value"].lower())
    return _response(call, "BulkDelete", JobId=str(uuid4()))


def merge(call: Call) -> Answer:
    """Execute `Merge`: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/reference/merge."""
    call.touches("update")
    body = call.json()
    parameters = body if isinstance(body, dict) else {}
    rows: list[tuple[Store, str]] = []
    for name in ("Target", "Subordinate"):
        row = parameters.get(name)
        table = str(row.get("@odata.type", "")).lstrip("#").removeprefix(NAMESPACE) if isinstance(row, dict) else ""
        if not isinstance(row, dict) or table not in ("account", "contact"):
            raise bad_payload(f"The parameter '{name}' must be an account or a contact with its '@odata.type'.")
        store = call.org.store(table)
        row_id, _ = _target_id(call, store, row)
        rows.append((store, row_id or ""))
    (store, target), (other, subordinate) = rows
    if store is not other:
        raise bad_payload("'Target' and 'Subordinate' must be of one type.")
    if not isinstance(parameters.get("PerformParentingChecks"), bool):
        raise bad_payload("The parameter 'PerformParentingChecks' must be a boolean.")
    if parameters["PerformParentingChecks"]:
        raise not_built("PerformParentingChecks")
    call.org.merge(store, target, subordinate, parameters.get("UpdateContent") or {})
    return no_content()


UNBOUND_FUNCTIONS: dict[str, Callable[[Call, str], Answer]] = {
    "WhoAmI": lambda call, _: _response(
        call, "WhoAmI", BusinessUnitId=BUSINESS_UNIT_ID, UserId=USER_ID, OrganizationId=ORGANIZATION_ID
    ),
    "RetrieveAvailableLanguages": lambda call, _: _response(call, "RetrieveAvailableLanguages", LocaleIds=[LANGUAGE]),
    "RetrieveVersion": lambda call, _: _response(call, "RetrieveVersion", Version="9.2.0.0"),
    "RetrieveTotalRecordCount": retrieve_total_record_count,
}
UNBOUND_ACTIONS: dict[str, Callable[[Call], Answer]] = {"BulkDelete": bulk_delete, "Merge": merge}
