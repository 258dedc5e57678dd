"""The sandbox's three linked tables as a configuration file: contact, its orders, the lines of those."""

from __future__ import annotations

from typing import Literal

RESOURCES = {"contact": "profile", "new_order": "cusOrder", "new_orderline": "cusOrderLine"}
"""By table, parents before their children."""
KEY_OF_RESOURCE = {"profile": "externalId", "cusOrder": "cusOrderId", "cusOrderLine": "cusOrderLineId"}

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


CHAIN_LINKS = {
    "cusOrder": ("cusContactLink", "cusContactId"),
    "cusOrderLine": ("cusOrderLink", "cusOrderRef"),
}
"""resource -> its link, and the plain attribute that it is joined on in style join"""
