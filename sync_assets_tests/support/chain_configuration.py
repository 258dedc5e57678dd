"""The sandbox's three linked tables as a configuration: contact, its orders, the lines of those."""

from dataclasses import dataclass, field
from typing import Any, Literal

from sync_assets_tests.support.premises import Position

RESOURCES = {"contact": "profile", "new_order": "cusOrder", "new_orderline": "cusOrderLine"}
"""By table, parents before their children."""
KEY_OF_RESOURCE = {"profile": "externalId", "cusOrder": "cusOrderId", "cusOrderLine": "cusOrderLineId"}
IDS = {table: f"{table}id" for table in RESOURCES}
PARENTS = {"new_order": "contact", "new_orderline": "new_order"}
LOOKUPS = {"new_order": "new_contactid", "new_orderline": "new_orderid"}
LINKS = {"new_order": "cusContactLink", "new_orderline": "cusOrderLink"}
JOINS = {"new_order": "cusContactId", "new_orderline": "cusOrderRef"}
BY_FILTER = Position(filters=True)

_FILE = """\
privacy_acknowledged: true
tables:
  - table: contact
    resource: profile
    key: externalId
    fields: {{firstname: firstName, lastname: lastName, emailaddress1: email}}
    apply_deletes: true
  - table: new_order
    resource: cusOrder
    key: cusOrderId
    address: {address}
{order_filter}    fields:
      new_name: cusName
      new_amount: cusAmount
      new_quantity: cusQuantity
      new_orderdate: cusOrderDate
      new_placedon: cusPlacedOn
      new_status: cusStatus
      new_express: cusExpress
      new_weight: cusWeight
      new_tags: cusTags
    links:
      - {{field: new_contactid, to: {to_contact}, table: contact, style: {style}, cardinality: {cardinality}}}
    apply_deletes: true
  - table: new_orderline
    resource: cusOrderLine
    key: cusOrderLineId
    address: {address}
{line_filter}    fields: {{new_name: cusName, new_price: cusPrice, new_count: cusCount}}
    links:
      - {{field: new_orderid, to: {to_order}, table: new_order, style: {style}, cardinality: {cardinality}}}
    apply_deletes: true
"""


def chain_configuration(
    style: Literal["key", "join"] = "key",
    cardinality: Literal["one", "zero_or_one"] = "one",
    address: Literal["url", "filter"] = "url",
) -> str:
    """The file's text. What it says of links the sandbox must be told, too: `CHAIN_LINKS` by `Admin.publish_link`."""
    by_filter = address == "filter"
    return _FILE.format(
        style=style,
        cardinality=cardinality,
        address=address,
        to_contact="cusContactLink" if style == "key" else "cusContactId",
        to_order="cusOrderLink" if style == "key" else "cusOrderRef",
        order_filter=by_filter * "    filter: {name: byCusOrderId, parameter: cusOrderId_parameter}\n",
        line_filter=by_filter * "    filter: {name: byCusOrderLineId, parameter: cusOrderLineId_parameter}\n",
    )


CHAIN_LINKS = {"cusOrder": ("cusContactLink", "cusContactId"), "cusOrderLine": ("cusOrderLink", "cusOrderRef")}
"""resource -> its link, and the plain attribute that it is joined on in style join"""


@dataclass
class TableRules:
    """The part of a table's configuration that a test changes."""

    more: bool = True
    """True if a further column is mapped."""
    filtered: bool = False
    delete_filtered_out: bool = False
    apply_deletes: bool = True
    picklists: Literal["labels", "codes"] = "labels"
    style: Literal["key", "auto", "join"] = "key"
    cardinality: Literal["one", "zero_or_one"] = "one"
    address: Literal["url", "auto", "filter"] = "url"
    """With auto, the program also detects if the key is unique."""
    keep_if_empty: bool = False
    """Of all its fields."""


FIELDS = {
    "contact": {"firstname": "firstName", "emailaddress1": "email", "new_interests": "cusInterests"},
    "new_order": {"new_name": "cusName", "new_weight": "cusQuantity"},
    "new_orderline": {"new_name": "cusName", "new_price": "cusCount"},
}
MORE = {
    "contact": {"jobtitle": "cusJobTitle"},
    "new_order": {"new_tags": "cusTags"},
    "new_orderline": {"new_count": "cusPrice"},
}
FILTERS = {
    "contact": {"field": "department", "is": "eq", "value": "in"},
    "new_order": {"field": "new_quantity", "is": "ge", "value": 10},
    "new_orderline": {"field": "new_count", "is": "ge", "value": 10},
}


@dataclass
class Configuration:
    """The configuration of an installation. `position`: determines what it needs in addition (`Position.table`)."""

    tables: dict[str, TableRules] = field(default_factory=lambda: {table: TableRules() for table in RESOURCES})
    position: Position = field(default_factory=Position)

    def document(self) -> dict[str, Any]:
        """Return the configuration file. Its tables are in reverse order, since their order must not matter."""
        return {"privacy_acknowledged": True, "tables": [self._table(table) for table in reversed(RESOURCES)]}

    def _table(self, table: str) -> dict[str, Any]:
        rules = self.tables[table]
        document: dict[str, Any] = {
            "table": table,
            "resource": RESOURCES[table],
            "key": KEY_OF_RESOURCE[RESOURCES[table]],
            "fields": FIELDS[table] | (MORE[table] if rules.more else {}),
            "apply_deletes": rules.apply_deletes,
            "picklists": rules.picklists,
        }
        if rules.keep_if_empty:
            fields = document["fields"].items()
            document["fields"] = {column: {"to": to, "keep_if_empty": True} for column, to in fields}
        document["address"] = rules.address
        if rules.address == "filter":
            document = BY_FILTER.table(document)
        if rules.filtered:
            document["filters"] = {"rules": [FILTERS[table]], "delete_filtered_out": rules.delete_filtered_out}
        if table in PARENTS:
            to = JOINS[table] if rules.style == "join" else LINKS[table]
            link = {"field": LOOKUPS[table], "to": to, "table": PARENTS[table]}
            document["links"] = [link | {"style": rules.style, "cardinality": rules.cardinality}]
        return self.position.table(document)
