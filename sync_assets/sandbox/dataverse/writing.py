"""Convert the JSON body of a write into changes of columns (docs/dev/references/dataverse.md 2.5, 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sync_assets.sandbox.dataverse.columns import Column, Target
from sync_assets.sandbox.dataverse.errors import DataverseError, bad_payload, not_built
from sync_assets.sandbox.dataverse.store import Row, Store
from sync_assets.sandbox.dataverse.tables import CURRENCY_ID
from sync_assets.sandbox.dataverse.values import parse, scaled

Resolve = Callable[[str, str], str]
"""Returns the id of an existing row by table and reference, such as `/accounts(<guid>)`. Raises DataverseError."""

_BIND = "@odata.bind"


def changes(store: Store, payload: object, resolve: Resolve) -> dict[str, Any]:
    """Return the stored values of a payload by logical name, without read-only columns. Raises DataverseError."""
    if not isinstance(payload, dict):
        raise bad_payload("The request body must be a JSON object.")
    values: dict[str, Any] = {}
    for name, value in payload.items():
        if name.removesuffix(_BIND) in store.table.collections:
            raise not_built(f"Writing rows through the navigation property '{name.removesuffix(_BIND)}'")
        if name.endswith(_BIND):
            _bind(store, name.removesuffix(_BIND), value, resolve, values)
        elif "@" in name:
            continue  # @odata.type, @odata.id, and annotations of a row that was read and is written back
        elif (column := store.columns.get(name)) is not None and not column.is_lookup:
            if not column.read_only:
                values[name] = parse(column, store.table.name, value)
        elif navigation(store, name) is not None:
            if value is not None:
                raise not_built(f"Writing through the navigation property '{name}' other than by {_BIND}")
            _bind(store, name, None, resolve, values)
        elif (column := store.column(name)) is not None and column.is_lookup:
            raise bad_payload(
                "CRM do not support direct update of Entity Reference properties, Use Navigation properties instead."
            )
        else:
            raise bad_payload(
                f"Invalid property '{name}' was found in entity 'Microsoft.Dynamics.CRM.{store.table.name}'."
            )
    return values


def navigation(store: Store, name: str) -> tuple[Column, Target] | None:
    """Return the lookup column and the target of a navigation property (case-sensitive); None if there is none."""
    for column in store.columns.values():
        for target in column.targets:
            if target.navigation == name:
                return column, target
    return None


def _bind(store: Store, name: str, value: object, resolve: Resolve, values: dict[str, Any]) -> None:
    pair = navigation(store, name)
    if pair is None:
        raise bad_payload(
            f"An undeclared property '{name}' which only has property annotations in the payload but no property value "
            "was found in the payload."
        )
    column, target = pair
    if value is not None and not isinstance(value, str):
        raise bad_payload(f"'{name}{_BIND}' must be text such as '/{target.table}s(<id>)'.")
    if column.read_only:
        return
    values[column.name] = parse(column, store.table.name, None if value is None else resolve(target.table, value))
    if f"{column.name}type" in store.columns:
        values[f"{column.name}type"] = None if value is None else target.table


def set_state(store: Store, row_id: str, row: Row, values: dict[str, Any]) -> None:
    """Complete a change of state or status (3.1): a state sets its default status.

    Raises:
        DataverseError: The status does not belong to the state.
    """
    status = store.columns.get("statuscode")
    if status is None or not ("statecode" in values or "statuscode" in values):
        return
    state = values.get("statecode", row[store.position["statecode"]])
    if "statuscode" not in values:
        values["statuscode"] = next(code for code, of_state in status.states.items() if of_state == state)
    elif status.states[values["statuscode"]] != state:
        name = store.columns["statecode"].options[state]
        raise DataverseError(
            400,
            "0x80048408",
            f"{values['statuscode']} is not a valid status code for state code {store.table.schema_name}State.{name} "
            f"on {store.table.name} with Id {row_id}.",
        )


def derive(store: Store, row: Row) -> None:
    """Set the columns that the server computes from others: full name, base amounts, currency, exchange rate."""
    at = store.position
    if "fullname" in at and "firstname" in at:
        parts = (row[at["firstname"]], row[at["lastname"]])
        row[at["fullname"]] = " ".join(part for part in parts if part) or None
    if "exchangerate" not in at:
        return
    has_money = False
    for name, column in store.columns.items():
        if column.type == "Money" and not name.endswith("_base"):
            amount: Decimal | None = row[at[name]]
            row[at[f"{name}_base"]] = amount
            has_money = has_money or amount is not None
    if has_money and row[at["transactioncurrencyid"]] is None:
        row[at["transactioncurrencyid"]] = CURRENCY_ID
    if row[at["transactioncurrencyid"]] is not None:
        row[at["exchangerate"]] = scaled(store.columns["exchangerate"], Decimal(1))
