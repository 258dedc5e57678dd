"""The benchmark's table as our own code sees it: metadata of both systems, the mapping, the payloads of its rows."""

from pathlib import Path

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.metadata import Column, ColumnType, Table
from sync_assets.dataverse.page_parser import PageParser, read_head
from sync_assets.mapping.table_mapping import TableMapping, compile_mapping
from sync_assets.mapping.transform import transform
from sync_assets.push.target import Target
from sync_assets_tests.bench.columns import COLUMNS, KEY, OPTIONS, SET_NAME, TABLE_NAME
from sync_assets_tests.bench.rows import PageTemplate, page_ids

PAGE = 1000
ELSEWHERE = 1_000_000
"""Numbers of pages that no feed has, so that peers send keys of their own."""

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
TARGET = Target(TableConfig(table=TABLE_NAME, resource=RESOURCE.name, key="externalId"))


def mapping() -> TableMapping:
    """Return a mapping of every column to an attribute of its own."""
    fields = {name: attribute.path for name, attribute in ATTRIBUTES.items()}
    given = {"table": TABLE_NAME, "resource": RESOURCE.name, "key": "externalId", "fields": fields}
    return compile_mapping(TableConfig.model_validate(given), TABLE, RESOURCE)


def write_bodies(file: Path, count: int) -> None:
    """Write the payloads of so many inserts, as our transform makes them of the feed's rows, a line each."""
    mapped, template = mapping(), PageTemplate(0, PAGE)
    parser = PageParser({name: mapped.column_types[name] for name in mapped.select})
    with file.open("w", encoding="utf-8") as lines:
        for number in range(-(-count // PAGE)):
            body = template.page(page_ids(ELSEWHERE + number, PAGE), ("deltaLink", ""))
            rows = transform(parser.parse(read_head(body)).rows, mapped).head(count - number * PAGE)
            lines.writelines(f"{payload}\n" for payload in rows["payload"])
