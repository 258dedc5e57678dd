"""Build the Web API's metadata documents of tables, columns, relationships and options.

Source: docs/dev/references/dataverse.md 2.5.
"""

from __future__ import annotations

from typing import Any

from sync_assets.sandbox.dataverse.columns import CHOICES, Column, Table, metadata_id
from sync_assets.sandbox.dataverse.privileges import described as described_privileges
from sync_assets.sandbox.dataverse.relations import Relation
from sync_assets.sandbox.dataverse.store import Store

Document = dict[str, Any]
LANGUAGE = 1033


def label(text: str, *path: str) -> Document:
    localized = {
        "Label": text,
        "LanguageCode": LANGUAGE,
        "IsManaged": False,
        "MetadataId": metadata_id("label", *path),
        "HasChanged": None,
    }
    return {"LocalizedLabels": [localized], "UserLocalizedLabel": localized}


def managed(value: object, name: str) -> Document:
    """Return a managed property: a value that can be changed."""
    return {"Value": value, "CanBeChanged": True, "ManagedPropertyLogicalName": name}


def table(store: Store) -> Document:
    described = store.table
    images = (column.name for column in store.columns.values() if column.type == "Image")
    return {
        "MetadataId": metadata_id(described.name),
        "LogicalName": described.name,
        "SchemaName": described.schema_name,
        "EntitySetName": described.set_name,
        "LogicalCollectionName": described.set_name,
        "CollectionSchemaName": described.set_name,
        "PrimaryIdAttribute": described.key,
        "PrimaryNameAttribute": described.primary_name,
        "DisplayName": label(described.label, described.name),
        "DisplayCollectionName": label(f"{described.label}s", described.name, "s"),
        "Description": label("", described.name, "description"),
        "ObjectTypeCode": 10_000 + sum(map(ord, described.name)),
        "OwnershipType": "UserOwned",
        "TableType": "Standard",
        "PrimaryImageAttribute": next(images, None),
        "HasActivities": described.name in ("account", "contact"),
        "IsKnowledgeManagementEnabled": False,
        "IsActivity": False,
        "IsPrivate": False,
        "IsIntersect": False,
        "IsCustomEntity": described.name.startswith("new_"),
        "IsManaged": not described.name.startswith("new_"),
        "IsCustomizable": managed(True, "iscustomizable"),
        "CanCreateAttributes": managed(True, "cancreateattributes"),
        "IsOptimisticConcurrencyEnabled": True,
        "ChangeTrackingEnabled": store.change_tracking,
        "CanChangeTrackingBeEnabled": managed(True, "canchangetrackingbeenabled"),
        "Privileges": described_privileges(described),
        "HasChanged": None,
    }


def column(owner: Table, described: Column, number: int) -> Document:
    """Return the members that all columns have. number: position of the column, from 1."""
    return {
        "MetadataId": metadata_id(owner.name, described.name),
        "LogicalName": described.name,
        "SchemaName": described.schema_name,
        "EntityLogicalName": owner.name,
        "AttributeOf": None,
        "AttributeType": described.attribute_type,
        "AttributeTypeName": {"Value": described.attribute_type_name},
        "ColumnNumber": number,
        "DisplayName": label(described.label, owner.name, described.name),
        "Description": label("", owner.name, described.name, "description"),
        "RequiredLevel": managed(described.required, "canmodifyrequirementlevelsettings"),
        "IsValidForRead": described.readable,
        "IsSecured": described.secured,
        "IsValidForCreate": not described.read_only,
        "IsValidForUpdate": not described.read_only and described.name != owner.key,
        "IsValidForForm": described.type not in ("EntityName", "Uniqueidentifier", "BigInt"),
        "IsPrimaryId": described.name == owner.key,
        "IsPrimaryName": described.name == owner.primary_name,
        "IsCustomAttribute": described.name.startswith("new_"),
        "IsManaged": not described.name.startswith("new_"),
        "IsLogical": described.type == "EntityName",
        "SourceType": None,
        "HasChanged": None,
    }


_CASCADE = {"remove_link": "RemoveLink", "cascade": "Cascade", "restrict": "Restrict"}


def relationship(relation: Relation) -> Document:
    """Return the relationship of a lookup, the same document from either side; members that differ are omitted."""
    child, parent = relation.child.table, relation.parent.table
    custom = relation.column.name.startswith("new_")
    # A parental relationship, as of order lines: all operations on the parent apply to its children.
    cascade = "Cascade" if relation.on_delete == "cascade" else "NoCascade"
    return {
        "@odata.type": "#Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata",
        "MetadataId": metadata_id("relationship", relation.name),
        "SchemaName": relation.name,
        "RelationshipType": "OneToManyRelationship",
        "ReferencedEntity": parent.name,
        "ReferencedAttribute": parent.key,
        "ReferencedEntityNavigationPropertyName": relation.name,
        "ReferencingEntity": child.name,
        "ReferencingAttribute": relation.column.name,
        "ReferencingEntityNavigationPropertyName": relation.target.navigation,
        "CascadeConfiguration": {
            "Assign": cascade,
            "Delete": _CASCADE[relation.on_delete],
            "Archive": "RemoveLink",
            "Merge": "NoCascade",
            "Reparent": cascade,
            "Share": cascade,
            "Unshare": cascade,
            "RollupView": "NoCascade",
        },
        "IsCustomRelationship": custom,
        "IsManaged": not custom,
        "IsHierarchical": False,
        "IsValidForAdvancedFind": True,
        "SecurityTypes": "Append",
        "IsCustomizable": managed(True, "iscustomizable"),
        "HasChanged": None,
    }


def type_name(described: Column) -> str:
    """Return the name of the column's specific metadata type, without namespace."""
    kind = {"Customer": "Lookup", "Owner": "Lookup", "Uniqueidentifier": "UniqueIdentifier"}
    return f"{kind.get(described.type, described.type)}AttributeMetadata"


def details(described: Column) -> Document:  # noqa: PLR0911 - a table, one line per type
    """Return the members that only columns of this type have. They can be selected with a cast to the type only."""
    match described.type:
        case "String" | "Memo":
            return {
                "MaxLength": described.max_length,
                "Format": "Text",
                "FormatName": {"Value": "Text"},
                "ImeMode": "Auto",
            }
        case "Integer":
            return {"MinValue": described.minimum, "MaxValue": described.maximum, "Format": "None"}
        case "Decimal" | "Money" | "Double":
            return {"Precision": described.precision, "MinValue": -1e11, "MaxValue": 1e11, "ImeMode": "Auto"}
        case "DateTime":
            return {
                "Format": described.format or "DateAndTime",
                "DateTimeBehavior": {"Value": described.behavior},
                "CanChangeDateTimeBehavior": managed(False, "canchangedatetimebehavior"),
                "ImeMode": "Inactive",
            }
        case "Lookup" | "Customer" | "Owner":
            return {"Targets": [target.table for target in described.targets], "Format": "None"}
        case "Boolean":
            return {"DefaultValue": described.default, "FormulaDefinition": ""}
        case "Picklist" | "State" | "Status" | "MultiSelectPicklist":
            default = described.default if described.default is not None else -1
            return {"DefaultFormValue": default, "FormulaDefinition": ""}
        case _:
            return {}


def options(owner: Table, described: Column) -> Document | None:
    """Return the `OptionSet` of a choice or a boolean; None for other columns."""
    if described.type not in CHOICES:
        return None
    entries = [_option(owner, described, value) for value in described.options]
    document: Document = {
        "MetadataId": metadata_id(owner.name, described.name, "options"),
        "Name": f"{owner.name}_{described.name}",
        "IsGlobal": False,
        "IsCustomOptionSet": described.name.startswith("new_"),
        "OptionSetType": {"MultiSelectPicklist": "Picklist"}.get(described.type, described.type),
        "DisplayName": label(described.label, owner.name, described.name, "options"),
    }
    if described.type == "Boolean":
        by_value = {entry["Value"]: entry for entry in entries}
        return document | {"TrueOption": by_value[1], "FalseOption": by_value[0]}
    return document | {"Options": entries}


def _option(owner: Table, described: Column, value: int) -> Document:
    text = described.options[value]
    path = (owner.name, described.name, str(value))
    document: Document = {
        "Value": value,
        "Label": label(text, *path),
        "Description": label("", *path, "description"),
        "Color": "#0000ff",
        "IsManaged": False,
        "ExternalValue": "",
        "MetadataId": metadata_id(*path),
        "HasChanged": None,
    }
    if described.type == "Status":
        document |= {"State": described.states[value], "TransitionData": None}
    if described.type == "State":
        default = next((status for status, state in described.states.items() if state == value), value + 1)
        document |= {"DefaultStatus": default, "InvariantName": text}
    return document


def alternate_key(owner: Table, name: str) -> Document:
    return {
        "MetadataId": metadata_id(owner.name, "key", name),
        "LogicalName": name,
        "SchemaName": name,
        "EntityLogicalName": owner.name,
        "KeyAttributes": list(owner.keys[name]),
        "EntityKeyIndexStatus": "Active",
        "DisplayName": label(name, owner.name, "key", name),
        "IsManaged": False,
        "HasChanged": None,
    }
