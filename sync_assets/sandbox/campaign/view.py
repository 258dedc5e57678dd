"""A resource as one API endpoint shows and accepts it: its attributes, and reading and writing of records as JSON."""

from __future__ import annotations

from datetime import date
from typing import Any

from sync_assets.sandbox.campaign import errors
from sync_assets.sandbox.campaign.errors import CampaignError
from sync_assets.sandbox.campaign.schema import Api, Link
from sync_assets.sandbox.campaign.store import Record, Store, Table
from sync_assets.sandbox.campaign.tokens import COLLECTION
from sync_assets.sandbox.campaign.values import Converter, converter


class View:
    """A resource at one endpoint. `/profileAndServices` has built-in attributes only, the other endpoints have all."""

    def __init__(self, store: Store, table: Table, api: Api) -> None:
        self.store = store
        self.table = table
        self.api: Api = api
        resource, settings = table.resource, store.settings
        all_of_it = api != "profileAndServices"
        self.fields = {name: field for name, field in resource.fields.items() if all_of_it or not field.extension}
        for name in () if all_of_it else settings.ext_only:
            self.fields.pop(name, None)
        self.links = {name: link for name, link in resource.links.items() if all_of_it or not link.ext_only}
        collections, groups = resource.collections.items(), resource.groups.items()
        self.collections = {name: reverse for name, reverse in collections if all_of_it or not reverse.ext_only}
        self.path = f"/{api}/{resource.name}"

        def converters(fields: dict[str, Any]) -> dict[str, Converter]:
            cut, bare = settings.cut_long_strings, settings.bare_data_policy
            return {
                name: converter(field, resource.schema, cut=cut, bare=bare)
                for name, field in fields.items()
                if not field.read_only
            }

        self._converters = converters(self.fields)
        self._groups = {name: converters(group.fields) for name, group in groups if not group.read_only}
        self._sparse = not all_of_it
        self._is_profile = resource.name == "profile"
        empty: dict[str, Any] = {name: field.empty for name, field in self.fields.items()}
        empty |= {name: group.empty for name, group in groups}
        empty |= dict.fromkeys((*self.links, *self.collections, "PKey", "href"))
        self.empty = {name: empty[name] for name in sorted(empty)}  # Campaign sorts the keys of objects

    def converter(self, name: str) -> Converter | None:
        """Return the converter of an attribute, or of a part of a group such as `location.city`.

        None if there is no such attribute, or if it is read-only.
        """
        group, dot, part = name.partition(".")
        return self._groups.get(group, {}).get(part) if dot else self._converters.get(name)

    def read(self, body: dict[str, Any], record: Record | None) -> tuple[dict[str, Any], dict[str, int]]:
        """Validate the body of a POST or PATCH. Return the values and link targets to store. Raises CampaignError."""
        values: dict[str, Any] = {}
        links: dict[str, int] = {}
        converters = self._converters
        for name, value in body.items():
            convert = converters.get(name)
            if convert is not None:
                values[name] = convert(value)
            elif (group := self._groups.get(name)) is not None:
                values[name] = self._read_group(name, group, value, record)
            elif (link := self.links.get(name)) is not None:
                self._read_link(link, value, links)
            elif name in self.empty:
                raise errors.read_only(name, self.table.resource.name)
            else:
                raise errors.unknown_property(name, self.table.resource.name)
        return values, links

    def _read_group(self, name: str, group: dict[str, Converter], value: Any, record: Record | None) -> dict[str, Any]:
        """Validate a group. Attributes that the body lacks keep their stored values."""
        if value is None:
            return self.table.resource.groups[name].empty
        if not isinstance(value, dict):
            raise errors.bad_value(value, "group", name)
        stored = record.values.get(name) if record is not None else None
        stored = dict(stored if stored is not None else self.empty[name])
        for part, given in value.items():
            convert = group.get(part)
            if convert is None:
                raise errors.unknown_property(f"{name}/{part}", self.table.resource.name)
            stored[part] = convert(given)
        return stored

    def _read_link(self, link: Link, value: Any, links: dict[str, int]) -> None:
        if value is None:
            links[link.name] = 0
        elif not isinstance(value, dict):
            raise errors.bad_value(value, "link", link.name)
        elif "PKey" in value and link.join is None:
            links[link.name] = self.store.resolve_link(link, value["PKey"])
        # A link given by other attributes than PKey is ignored without an error. A joined link follows its attribute.

    def show(self, record: Record, base: str, *, links: bool = True, href: bool = True) -> dict[str, Any]:
        """Return the whole record as JSON.

        Args:
            record: Of this resource.
            base: URL up to and including `/campaign`.
            links: True to show links, False for null.
            href: True to show the record's URL.
        """
        document = self.empty.copy()
        if self._sparse:
            document.update((name, value) for name, value in record.values.items() if name in document)
        else:
            document.update(record.values)
        document["PKey"] = record.pkey
        if href:
            document["href"] = self.href(record, base)
        else:
            del document["href"]
        if self._is_profile:
            _complete_profile(document, record)
        else:
            document["title"] = _title(self.table, record)
        if links:
            for name, link in self.links.items():
                document[name] = self.show_link(link, record, base)
        if self.collections:
            # One token for all collections of the record, which differs from its PKey.
            token = self.store.tokens.make(COLLECTION, self.table.number, record.serial)
            for name in self.collections:
                document[name] = {"href": f"{base}{self.path}/{token}/{name}/"}
        return document

    def show_link(self, link: Link, record: Record, base: str) -> dict[str, str] | None:
        target = self.store.target(link, record)
        if target is None:
            return None
        table = self.store.tables[link.target]
        href = f"{base}/{table.resource.apis[-1]}/{link.target}/{target.pkey}"
        return {"PKey": target.pkey, "href": href, "title": _title(table, target)}

    def href(self, record: Record, base: str) -> str:
        return f"{base}{self.path}/{record.pkey}"

    def value(self, record: Record, attribute: str) -> Any:
        """Return one stored or computed attribute. Raises CampaignError if there is no such scalar."""
        if attribute in record.values and attribute in self.fields:
            return record.values[attribute]
        if attribute not in self.fields and attribute != "PKey":
            raise self.unknown_attribute(attribute)
        return self.show(record, "")[attribute]

    def unknown_attribute(self, name: str) -> CampaignError:
        return errors.unknown_attribute(name, self.table.resource.plural, self.table.resource.schema)


def _title(table: Table, record: Record) -> str:
    values = record.values
    if table.resource.name == "profile":
        return _profile_title(values.get("firstName", ""), values.get("lastName", ""), values.get("email", ""))
    label, key = values.get("label"), table.key_of(record)
    return f"{label} ({key})" if label and key else label or key


def _profile_title(first: str, last: str, email: str) -> str:
    name = f"{first} {last}".strip()
    return f"{name} ({email})" if email else name


def _complete_profile(document: dict[str, Any], record: Record) -> None:
    """Set the computed attributes: title, domain, age, cryptedId, postalAddress."""
    first, last, email = document["firstName"], document["lastName"], document["email"]
    document["title"] = _profile_title(first, last, email)
    document["domain"] = email.rpartition("@")[2].lower()
    document["cryptedId"] = record.pkey[20:44]
    if birth := document["birthDate"]:
        today = date.today().isoformat()  # noqa: DTZ011  the server's day is precise enough for an age
        document["age"] = int(today[:4]) - int(birth[:4]) - (today[5:] < birth[5:])
    lines = [f"{first} {last.upper()}".strip()]
    place = record.values.get("location")
    if place is not None:
        for name in ("address1", "address2", "address3", "address4"):
            if place[name]:
                lines.append(place[name].upper())
        if town := f"{place['zipCode']} {place['city']}".strip():
            lines.append(town.upper())
    lines = (lines + [""] * 6)[:6]
    document["postalAddress"] = {
        "addrDefined": place is not None and bool(place["address1"] and (place["city"] or place["zipCode"])),
        "addrErrorCount": 0,
        "addrLastCheck": "",
        "addrQuality": "0",
        **{f"line{n}": line for n, line in enumerate(lines, 1)},
        "serialized": "\n".join(lines),
    }
