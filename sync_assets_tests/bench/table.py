"""The benchmark's table as our own code sees it: metadata of both systems and the mapping between them."""

from __future__ import annotations

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.metadata import Column, ColumnType, Table
from sync_assets.mapping.table_mapping import TableMapping, compile_mapping
from sync_assets.push.dispatcher import Target
from sync_assets_tests.bench.columns import COLUMNS, KEY, OPTIONS, SET_NAME, TABLE_NAME

_TARGETS: dict[ColumnType, AttributeType] = {
    "boolean": "boolean",
    "integer": "integer",
    "decimal": "float",
    "money": "float",
    "double": "float",
    "date": "date",
    "datetime": "datetime",
}
"""What a column becomes in Campaign; all others become texts."""


def _attribute(name: str, type_: ColumnType) -> Attribute:
    to = _TARGETS.get(type_, "string")
    return Attribute(
        f"cus{name.replace('_', '').capitalize()}", to, 255 if to == "string" and type_ != "memo" else None
    )


ATTRIBUTES = {name: _attribute(name, type_) for name, type_ in COLUMNS.items()}
TABLE = Table(
    TABLE_NAME,
    SET_NAME,
    KEY,
    change_tracking=True,
    columns={
        KEY: Column(KEY, "guid"),
        "modifiedon": Column("modifiedon", "datetime"),
        **{name: Column(name, type_, labels=OPTIONS.get(name, {})) for name, type_ in COLUMNS.items()},
    },
)
RESOURCE = Resource(
    "profile",
    "profileAndServicesExt",
    {"externalId": Attribute("externalId", "string", 100), **{one.path: one for one in ATTRIBUTES.values()}},
)
TARGET = Target(TABLE_NAME, RESOURCE.name)


def mapping() -> TableMapping:
    """Every column to an attribute of its own."""
    fields = {name: attribute.path for name, attribute in ATTRIBUTES.items()}
    given = {"table": TABLE_NAME, "resource": RESOURCE.name, "key": "externalId", "fields": fields}
    return compile_mapping(TableConfig.model_validate(given), TABLE, RESOURCE)
