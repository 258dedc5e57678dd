"""Metadata of resources, as `resourceType` and `/metadata` serve them (docs/dev/references/campaign.md 3).

Inferred: the high-level types `date` and `datetime`, the shape of `values`, that a group such as `location` nests its
attributes in a `content` of its own, and `revIntegrity` of links, which is shown only if a setting says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_assets.sandbox.campaign.schema import Field, Filter
from sync_assets.sandbox.campaign.tokens import METADATA

if TYPE_CHECKING:
    from sync_assets.sandbox.campaign.engine import Campaign
    from sync_assets.sandbox.campaign.view import View

_TYPES = {
    "string": ("string", "string"),
    "integer": ("number", "long"),
    "float": ("number", "double"),
    "boolean": ("boolean", "boolean"),
    "date": ("date", "date"),
    "datetime": ("datetime", "datetime"),
    "enumeration": ("enumeration", "string"),
}
"""Campaign's type and resType, by the type in `schema.py`."""


def resource_type(campaign: Campaign, view: View, base: str) -> dict[str, Any]:
    """Return the metadata of a resource as one endpoint shows it."""
    resource = view.table.resource
    pkey = _pkey(campaign, view)
    return {
        "PKey": pkey,
        "apiName": "resourceType",
        "compatibleResources": {},
        "content": content(campaign, view),
        "data": f"{view.path}/",
        "filters": {"href": f"{base}/{view.api}/resourceType/{pkey}/filters/"},
        "help": resource.label,
        "href": f"{base}{view.path}/metadata",
        "label": resource.plural,
        "mandatory": False,
        "name": resource.name,
        "pkgStatus": "never",
        "readOnly": False,
        "schema": resource.schema,
        "type": "item",
    }


def content(campaign: Campaign, view: View) -> dict[str, Any]:
    """Return the metadata of the attributes by name: 19 members each, and more depending on the type."""
    resource = view.table.resource
    document: dict[str, Any] = {name: _field(campaign, view, field) for name, field in view.fields.items()}
    document["PKey"] = _field(campaign, view, Field("PKey", read_only=True))
    if campaign.settings.order_by_created == "refused" and "created" in document:
        document["created"]["sortable"] = False
    for name, group in resource.groups.items():
        parts = {field_name: _field(campaign, view, field) for field_name, field in group.fields.items()}
        read_only = {"readOnly": group.read_only, "content": parts}
        document[name] = (
            _members(campaign, view, name, "group", "") | {"metadata": "element", "sortable": False} | read_only
        )
    for name, link in view.links.items():
        extra = {"metadata": "link", "resTarget": link.target, "unbound": False, "sortable": False}
        extra["mandatory"] = link.cardinality == "one"
        if campaign.settings.integrity_in_metadata:
            extra["revIntegrity"] = "own" if campaign.settings.cascade_delete else "normal"
        document[name] = _members(campaign, view, name, "link", "link") | extra
        if not campaign.settings.mandatory_in_metadata:
            del document[name]["mandatory"]
    for name, collection in view.collections.items():
        extra = {"metadata": "link", "resTarget": collection.source or name, "unbound": True, "sortable": False}
        document[name] = _members(campaign, view, name, "collection", "link") | extra
    return dict(sorted(document.items()))


def filters(campaign: Campaign, view: View) -> dict[str, Any]:
    """Return the metadata of the filters by name, each with a sample URL."""
    return {name: _filter(campaign, view, filter_) for name, filter_ in sorted(view.table.resource.filters.items())}


def service_document(campaign: Campaign, api: str, base: str) -> dict[str, Any]:
    """Return the resources of an endpoint, as in `GET /profileAndServicesExt/`."""
    document: dict[str, Any] = {"apiName": "resourceType"}
    for (endpoint, name), view in sorted(campaign.views.items()):
        if endpoint == api:
            document[name] = {
                "content": content(campaign, view),
                "data": f"{view.path}/",
                "help": view.table.resource.label,
                "href": f"{base}{view.path}/metadata",
                "name": name,
                "type": "collection",
            }
    return document


def _field(campaign: Campaign, view: View, field: Field) -> dict[str, Any]:
    kind, technical = _TYPES[field.type]
    document = _members(campaign, view, field.name, kind, technical)
    document |= {
        "dataPolicy": field.policy,
        "label": field.label or field.name,
        "length": str(field.length) if field.type == "string" else "0",
        "mandatory": False,
        "readOnly": field.read_only,
    }
    if field.values:
        document["values"] = {
            name: {"apiName": name, "label": label, "name": name, "value": str(number)}
            for number, (name, label) in enumerate(field.values)
        }
    return document


def _members(campaign: Campaign, view: View, name: str, kind: str, technical: str) -> dict[str, Any]:
    return {
        "PKey": _pkey(campaign, view),
        "apiName": name,
        "category": "99_none" if name.startswith("cus") else "",
        "dataPolicy": "",
        "desc": "",
        "displayFormat": "",
        "help": "",
        "label": name,
        "lazyLoaded": kind == "collection",
        "length": "0",
        "mandatory": False,
        "metadata": "attribute",
        "privacy": "firstParty",
        "queryable": True,
        "readOnly": False,
        "resName": "",
        "resType": technical,
        "sortable": True,
        "type": kind,
    }


def _filter(campaign: Campaign, view: View, filter_: Filter) -> dict[str, Any]:
    return {
        "PKey": _pkey(campaign, view),
        "category": "99_none",
        "condition": f"@{filter_.attribute} {'LIKE' if filter_.operator != 'equal' else '='} $({filter_.parameter})",
        "data": f"{view.path}/{filter_.name}?{filter_.parameter}=$value",
        "formType": "none",
        "fragmentName": "",
        "label": filter_.name,
        "metadata": "filter",
        "resName": view.table.resource.name,
        "webPage": "",
        "webPageName": "",
    }


def _pkey(campaign: Campaign, view: View) -> str:
    """Return a PKey of metadata, which has no leading `@`."""
    return campaign.tokens.make(METADATA, view.table.number, 0)[1:]
