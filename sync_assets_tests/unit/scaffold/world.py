"""Tables and resources for the suggestions, made of little."""

from typing import Any

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource
from sync_assets.dataverse.metadata import Column, ColumnType, Table
from sync_assets.scaffold.suggestions import MappedTables, Suggested, suggest_table

STATUS = {1: "Placed", 2: "Shipped"}


def column(name: str, type_: ColumnType = "string", **more: Any) -> Column:
    return Column(name, type_, **more)


def table(name: str, *columns: Column) -> Table:
    """With its key, called as Dynamics 365 calls it."""
    own = (column(f"{name}id", "guid"), column("modifiedon", "datetime"), *columns)
    return Table(name, f"{name}s", f"{name}id", change_tracking=True, columns={one.name: one for one in own})


def attribute(path: str, type_: AttributeType = "string", **more: Any) -> Attribute:
    return Attribute(path, type_, **more)


def resource(name: str, *attributes: Attribute, key: str | None = None, **more: Any) -> Resource:
    """With a key called `<name>Id`."""
    own = (attribute(key or f"{name}Id", length=100), *attributes)
    return Resource(name, "profileAndServicesExt", {one.path: one for one in own}, **more)


CONTACT = table(
    "contact",
    column("firstname", max_length=50),
    column("emailaddress1", max_length=100),
    column("donotemail", "boolean"),
)
PROFILE = resource(
    "profile",
    attribute("firstName", length=30),
    attribute("email", length=128),
    attribute("blackListEmail", "boolean"),
    key="externalId",
)
ORDER = table(
    "new_order",
    column("new_name", max_length=100),
    column("new_status", "picklist", labels=STATUS),
    column("new_contactid", "lookup", targets=("contact",)),
)
ORDER_RESOURCE = resource(
    "cusOrder",
    attribute("cusName", length=255),
    attribute("cusStatus", "enumeration", values=("draft", "placed", "shipped")),
    attribute("cusContactLink", "link", target="profile", mandatory=True),
)
TARGETS = {"contact": "profile", "new_order": "cusOrder"}


def suggested(of: Table = ORDER, to: Resource = ORDER_RESOURCE, **more: Any) -> Suggested:
    return suggest_table(of, "", to, MappedTables(TARGETS, {}), **more)
