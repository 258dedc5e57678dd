"""Data model of the emulated instance: the built-in resources that the sync uses, and some custom resources.

Names, lengths and types of profile: docs/dev/references/campaign.md 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sync_assets.sandbox.campaign.schema import Api, Collection, Field, FieldType, Filter, Group, Link, Resource

OPT_OUTS: dict[str, tuple[str, ...]] = {
    "blackList": ("blackListLastModified", "blackListAllLastModified"),
    "blackListEmail": ("blackListEmailLastModified",),
    "blackListFax": ("blackListFaxLastModified",),
    "blackListMobile": ("blackListMobileLastModified",),
    "blackListPhone": ("blackListPhoneLastModified",),
    "blackListPostalMail": ("blackListPostalMailLastModified",),
    "blackListPushnotification": (),
    "ccpaOptOut": ("ccpaOptOutLastModified",),
}
"""Opt-out attributes, each with its attributes for the time of change. That of push notifications has none."""

UNITS = ("orgUnitBase", "geoUnitBase")
_EXT: tuple[Api, ...] = ("profileAndServicesExt",)
_BOTH: tuple[Api, ...] = ("profileAndServices", "profileAndServicesExt")
_TIMES = [Field("created", "datetime", read_only=True), Field("lastModified", "datetime", read_only=True)]
_TITLE = Field("title", read_only=True, length=512)

GENDER = (("unknown", "Not specified"), ("male", "Male"), ("female", "Female"))
EMAIL_FORMAT = (("unknown", "Not specified"), ("text", "Text"), ("html", "HTML"))
LANGUAGE = (
    ("none", "Not specified"), ("en_gb", "English (UK)"), ("en_us", "English (US)"), ("fr_fr", "French"),
    ("de_de", "German"), ("es_es", "Spanish"), ("it_it", "Italian"), ("ja_jp", "Japanese"), ("pl_pl", "Polish"),
    ("bg_bg", "Bulgarian"), ("ar_sa", "Arabic"), ("zh_cn", "Chinese"),
)  # fmt: skip
TIME_ZONE = (
    ("none", "Default"), ("Europe_London", "Europe/London"), ("Europe_Paris", "Europe/Paris"),
    ("Europe_Berlin", "Europe/Berlin"), ("America_New_York", "America/New York"),
    ("America_Los_Angeles", "America/Los Angeles"), ("Asia_Tokyo", "Asia/Tokyo"), ("Asia_Kolkata", "Asia/Kolkata"),
    ("Gmt", "GMT"), ("Gmt_p3", "GMT+3"), ("Gmt_m5", "GMT-5"),
)  # fmt: skip
TIER = (("none", "None"), ("bronze", "Bronze"), ("silver", "Silver"), ("gold", "Gold"))
ORDER_STATUS = (("draft", "Draft"), ("placed", "Placed"), ("shipped", "Shipped"), ("cancelled", "Cancelled"))


def resources() -> dict[str, Resource]:
    """Return a new data model, by name of the resource, so that two sandboxes do not share settings."""
    return {resource.name: resource for resource in (_profile(), _service(), *map(_unit, UNITS), *_custom())}


def _profile() -> Resource:
    strings = [
        Field("acsId", length=36, read_only=True), Field("externalId", length=100, label="External ID"),
        Field("email", length=128, policy="email", label="Email"), Field("domain", read_only=True),
        Field("firstName", length=30, policy="smartCase"), Field("middleName", length=30, policy="smartCase"),
        Field("lastName", length=50, policy="smartCase"), Field("salutation", length=20), Field("phone", length=32),
        Field("mobilePhone", length=32), Field("fax", length=32), Field("cryptedId", read_only=True),
        Field("thumbnail", read_only=True, default="/nl/img/thumbnails/defaultProfil.png"), _TITLE,
    ]  # fmt: skip
    others = [
        Field("birthDate", "date"), Field("age", "integer", read_only=True),
        Field("gender", "enumeration", values=GENDER),
        Field("emailFormat", "enumeration", values=EMAIL_FORMAT),
        Field("preferredLanguage", "enumeration", values=LANGUAGE), Field("timeZone", "enumeration", values=TIME_ZONE),
        Field("isExternal", "boolean", read_only=True), *_TIMES,
    ]  # fmt: skip
    opt_outs = [Field(name, "boolean") for name in OPT_OUTS]
    opt_out_times = [Field(name, "datetime", read_only=True) for names in OPT_OUTS.values() for name in names]
    custom = [
        Field("cusJobTitle", length=50), Field("cusScore", "integer"), Field("cusBalance", "float"),
        Field("cusLastVisit", "datetime"), Field("cusVip", "boolean"),
        Field("cusTier", "enumeration", values=TIER), Field("cusInterests"),
    ]  # fmt: skip
    places = {f"address{n}": 255 for n in (1, 2, 3, 4)}
    places |= {"city": 255, "countryCode": 8, "stateCode": 8, "zipCode": 20}
    postal = [
        Field("addrDefined", "boolean"), Field("addrErrorCount", "integer"), Field("addrLastCheck", "datetime"),
        Field("addrQuality", default="0"), Field("serialized", length=2048), *(Field(f"line{n}") for n in range(1, 7)),
    ]  # fmt: skip
    filters = [
        Filter("byEmail", "email", "email"),
        Filter("byKeysProfile", "email", "email"),
        Filter("byText", "text", "email", "text"),
        Filter("profile", "profile", "PKey", "record"),
        Filter("byExternalId", "externalId_parameter", "externalId"),
        Filter("birthday", "day", "birthDate", "not_built"),
        Filter("byStaticAudience", "audience", "audience", "not_built"),
        *(
            Filter(f"has{event}Delivery", "delivery", "delivery", "not_built")
            for event in ("Clicked", "Opened", "Received")
        ),
        Filter("subscribers", "service", "subscriptions", "not_built"),
    ]
    return Resource(
        "profile", "Profile", "Profiles", "nms:recipient", "externalId",
        _by_name([*strings, *others, *opt_outs, *opt_out_times, *custom]), _BOTH,
        groups={
            "location": Group("location", _by_name(Field(name, length=size) for name, size in places.items())),
            "postalAddress": Group("postalAddress", _by_name(postal), read_only=True),
        },
        links=_by_name([Link("orgUnit", "orgUnitBase"), Link("geoUnit", "geoUnitBase")]),
        collections=_by_name(
            [Collection("subscriptions", "", "", ext_only=False),
             Collection("cusOrderslink", "cusOrder", "cusContactLink")]
        ),
        filters=_by_name(filters),
    )  # fmt: skip


def _service() -> Resource:
    fields = [
        Field("name", length=64), Field("label"), Field("description", length=1024), _TITLE, *_TIMES,
        Field("messageType", "enumeration", values=(("email", "Email"), ("sms", "SMS"))),
        Field("start", "date"), Field("end", "date"), Field("limitedDuration", "boolean"),
        Field("validityDuration", "integer"), Field("isTemplate", "boolean"),
        Field("builtIn", "boolean", read_only=True), Field("targetResource", default="profile"),
        Field("mode", "enumeration", values=(("newsletter", "Newsletter"), ("viral", "Viral"))),
    ]  # fmt: skip
    return Resource(
        "service", "Service", "Services", "nms:service", "name", _by_name(fields), _BOTH,
        filters=_by_name([
            Filter("byText", "text", "label", "prefix"), Filter("byChannel", "channel", "messageType"),
            Filter("byTargetResource", "targetResource", "targetResource"),
            Filter("byPlanning", "startDate", "start", "not_built"),
        ]),
        collections=_by_name([Collection("subscriptions", "", "", ext_only=False)]),
    )  # fmt: skip


def _unit(name: str) -> Resource:
    fields = [
        Field("name", length=64), Field("label"), Field("desc", length=512), Field("parentTitle", read_only=True),
        _TITLE, *_TIMES,
    ]  # fmt: skip
    return Resource(name, name, name, f"nms:{name}", "name", _by_name(fields), _EXT)


def _custom() -> list[Resource]:
    order = _custom_resource(
        "cusOrder", "Order", _EXT,
        {"cusName": "string", "cusAmount": "float", "cusQuantity": "integer", "cusOrderDate": "date",
         "cusPlacedOn": "datetime", "cusExpress": "boolean", "cusWeight": "float", "cusTags": "string"},
        Field("cusStatus", "enumeration", values=ORDER_STATUS), Field("cusContactId", length=100),
    )  # fmt: skip
    order.links["cusContactLink"] = Link("cusContactLink", "profile", "one")
    order.collections["cusOrderLineslink"] = Collection("cusOrderLineslink", "cusOrderLine", "cusOrderLink")
    line = _custom_resource(
        "cusOrderLine", "Order line", _EXT, {"cusName": "string", "cusPrice": "float", "cusCount": "integer"},
        Field("cusOrderRef", length=100),
    )  # fmt: skip
    line.links["cusOrderLink"] = Link("cusOrderLink", "cusOrder", "one")
    # Holds personal data, but has no link to profile: the guardrail for personal data must find it.
    store = _custom_resource(
        "cusStore", "Store", ("customResources",),
        {"cusName": "string", "cusCity": "string", "cusOpened": "date", "cusActive": "boolean",
         "cusManagerFirstName": "string", "cusManagerLastName": "string", "cusEmail": "string", "cusPhone": "string",
         "cusStreet": "string"},
    )  # fmt: skip
    return [order, line, store]


def _custom_resource(
    name: str, label: str, apis: tuple[Api, ...], plain: dict[str, FieldType], *more: Field
) -> Resource:
    """Return a custom resource with the identification key `<name>Id` and a published filter on it."""
    key = f"{name}Id"
    plain_fields = (Field(field_name, type_) for field_name, type_ in plain.items())
    fields = [Field(key, length=100), *plain_fields, *more, _TITLE, *_TIMES]
    published = Filter(f"by{key[0].upper()}{key[1:]}", f"{key}_parameter", key)
    return Resource(name, label, f"{label}s", f"cus:{name}", key, _by_name(fields), apis, filters=_by_name([published]))


def _by_name(items: Iterable[Any]) -> dict[str, Any]:
    return {item.name: item for item in items}
