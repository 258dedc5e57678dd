"""A table, a resource and mappings for tests of the transform."""

from typing import Any

import polars as pl

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.metadata import Column, ColumnType, Table
from sync_assets.dataverse.page_parser import frame_type
from sync_assets.mapping.table_mapping import TableMapping, compile_mapping
from sync_assets.mapping.transform import transform

ID = "6f0c2a8e-0000-4000-8000-00000000000a"
GENDERS = {1: "Male", 2: "Female", 3: "Diverse"}


def columns(**types: ColumnType) -> dict[str, Column]:
    return {name: Column(name, type_) for name, type_ in types.items()}


CONTACT = Table(
    "contact",
    "contacts",
    "contactid",
    change_tracking=True,
    columns={
        **columns(
            contactid="guid",
            modifiedon="datetime",
            firstname="string",
            lastname="string",
            description="memo",
            score="integer",
            total="bigint",
            balance="decimal",
            limit="money",
            ratio="double",
            visit="datetime",
            birthdate="date",
            companyid="lookup",
            image="other",
        ),
        "statecode": Column("statecode", "state", labels={0: "Active", 1: "Inactive"}),
        "gendercode": Column("gendercode", "picklist", labels=GENDERS),
        "tier": Column("tier", "picklist", labels={10: "None", 11: "Gold member", 12: "Gold member"}),
        "vip": Column("vip", "boolean", labels={0: "No", 1: "Yes"}),
        "interests": Column("interests", "multiselect", labels={1: "Music", 2: "Travel", 9: "Other"}),
        "secret": Column("secret", "string", readable=False),
    },
)


def attributes(**types: AttributeType) -> dict[str, Attribute]:
    return {name: Attribute(name, type_) for name, type_ in types.items()}


PROFILE = Resource(
    "profile",
    "profileAndServicesExt",
    {
        **attributes(
            title="string",
            cusInteger="integer",
            cusFloat="float",
            cusBoolean="boolean",
            cusDate="date",
            cusTime="datetime",
            location="group",
            orgUnit="link",
            subscriptions="collection",
            cusContactLink="link",
        ),
        "externalId": Attribute("externalId", "string", 100),
        "firstName": Attribute("firstName", "string", 10),
        "cusText": Attribute("cusText", "string", 255),
        "cusNote": Attribute("cusNote", "string"),
        "cusShort": Attribute("cusShort", "string", 5),
        "age": Attribute("age", "integer", read_only=True),
        "gender": Attribute("gender", "enumeration", values=("unknown", "male", "female")),
        "location.city": Attribute("location.city", "string", 255),
        "location.height": Attribute("location.height", "float"),
    },
)


def mapping(fields: dict[str, Any], **more: Any) -> TableMapping:
    """Return a mapping of contact to profile with these fields."""
    given = {"table": "contact", "resource": "profile", "key": "externalId", "fields": fields, **more}
    return compile_mapping(TableConfig.model_validate(given), CONTACT, PROFILE)


def frame(of: TableMapping, *rows: dict[str, Any]) -> pl.DataFrame:
    """Return rows as in a page, with its column types. Missing values are null, ids are consecutive."""
    schema = {name: frame_type(type_) for name, type_ in of.column_types.items()}
    base = {"modifiedon": "2024-03-15T10:20:30Z"}
    full = [base | {"contactid": f"{ID[:-4]}{n:04x}"} | row for n, row in enumerate(rows)]
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in full], schema=schema, orient="row")


def transformed(of: TableMapping, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    return transform(frame(of, *rows), of).to_dicts()
