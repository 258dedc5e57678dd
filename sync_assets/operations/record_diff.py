"""`plan --diff ID`: what the next sync would change in Campaign's record, made from its explanation."""

from __future__ import annotations

from typing import Any

from sync_assets.operations.explain import Explained


def record_diff(explained: Explained) -> dict[str, Any]:
    """Return for each table the next request and the attributes that it changes; empty for a delete, and without one.

    A first insert sends all attributes; those without a value are left out.
    """
    document = explained.document
    tables = {name: _diff(one) for name, one in document["tables"].items()}
    return {"id": document["id"], "values": document["values"], "tables": tables}


def _diff(one: dict[str, Any]) -> dict[str, Any]:
    operation = one["next_sync"]
    return {
        "resource": one["resource"],
        "operation": operation,
        "reasons": one["reasons"],
        "changes": [
            {"attribute": way["attribute"], "campaign": way["campaign"], "mapped": way["mapped"]}
            for way in one["attributes"]
            if _is_sent(way, operation)
        ],
        "links": [
            {"attribute": link["attribute"], "campaign": link["campaign"], "parent": link["id"]}
            for link in one["links"]
            if operation == "insert" or (operation == "update" and link["equal"] is False)
        ],
    }


def _is_sent(way: dict[str, Any], operation: str | None) -> bool:
    if operation == "insert":
        return way["equal"] is not True and way["mapped"] not in (None, "", "empty")
    return operation == "update" and way["equal"] is False and way["apply_updates"]
