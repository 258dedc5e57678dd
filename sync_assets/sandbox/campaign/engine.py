"""A Campaign instance: its settings and data model, and the operations on records: insert, update, delete, resolve.

Source: docs/dev/references/campaign.md 4 and 5.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sync_assets.sandbox.campaign import errors
from sync_assets.sandbox.campaign.export import Export
from sync_assets.sandbox.campaign.resources import OPT_OUTS, resources
from sync_assets.sandbox.campaign.schema import Filter, Resource
from sync_assets.sandbox.campaign.settings import BadSettings, Settings, changed
from sync_assets.sandbox.campaign.store import Record, Store, Table
from sync_assets.sandbox.campaign.tokens import COLLECTION, RECORD
from sync_assets.sandbox.campaign.values import time_text
from sync_assets.sandbox.campaign.view import View
from sync_assets.sandbox.campaign.workflows import EXPORT, Workflows
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.ims import Ims

_OPT_OUT_NAMES = OPT_OUTS.keys()


class Campaign(Store):
    """One instance. Not thread-safe."""

    def __init__(
        self,
        organization: str = "acme-mkt-stage",
        ims: Ims | None = None,
        *,
        faults: Faults | None = None,
        exports: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create an instance without records.

        Args:
            organization: First segment of the URL's path.
            ims: Validates tokens, and has the API key.
            faults: The active rules.
            exports: Folder of the SFTP server for files that workflows write.
            clock: Unix time in seconds.
        """
        super().__init__(clock)
        self.organization = organization
        self.ims = ims or Ims()
        self.faults = faults
        self.export = Export(self, exports)
        self.workflows = Workflows(self)
        if exports is not None:
            self.workflows.on_start[EXPORT] = lambda: self.export.write({"only_changed": True})
        self.admitted: deque[float] = deque()
        """Times of the requests of the last second."""
        self.views: dict[tuple[str, str], View] = {}
        self.apply(self.settings)

    def configure(self, values: dict[str, Any]) -> None:
        """Change some settings. Raises BadSettings; nothing is changed then."""
        former = self.settings
        try:
            self.apply(changed(former, values))
        except BadSettings:
            self.apply(former)
            raise

    def apply(self, settings: Settings) -> None:
        """Publish the data model with these settings. Raises BadSettings."""
        fresh = _published(settings)
        removed = [
            (table, attribute)
            for name, table in self.tables.items()
            for attribute in table.resource.fields.keys() - fresh[name].fields.keys()
        ]
        for name, table in self.tables.items():
            before, table.resource = table.resource, fresh[name]
            if _indexed(before) == _indexed(table.resource):
                continue  # the indexes of a million records take seconds
            if table.resource.unique and (duplicate := table.duplicate_key()) is not None:
                raise BadSettings(f"{name} has two records with the key {duplicate!r}")
            table.reindex()
        for table, attribute in removed:
            for record in table.records.values():
                record.values.pop(attribute, None)
        self.settings = settings
        self.ims.organization = self.organization if settings.provisioned else ""
        self.views = {
            (api, name): View(self, table, api) for name, table in self.tables.items() for api in table.resource.apis
        }

    def now(self) -> str:
        return time_text(datetime.fromtimestamp(self.clock(), UTC))

    def insert(self, view: View, body: dict[str, Any]) -> Record:
        """Execute a POST. Raises CampaignError; nothing is stored then."""
        table = view.table
        values, links = view.read(body, None)
        if (key := table.resource.identification) is not None:
            value = values.get(key, "")
            if value in table.by_key:  # includes keys of hidden records
                raise errors.duplicate_key(table.resource.label, value, *table.resource.constraint())
        return self.add(table, values, links, self.now())

    def add(
        self, table: Table, values: dict[str, Any], links: dict[str, int], now: str, *, opt_out_times: bool = True
    ) -> Record:
        """Store a new record of valid values. Without `opt_out_times` no change time of an opt-out is set."""
        serial = table.next_serial()
        values["created"] = values["lastModified"] = now
        if opt_out_times and _OPT_OUT_NAMES & values.keys():
            _note_opt_outs({}, values, now, table.resource)
        if table.resource.name == "service" and not values.get("name"):
            values["name"] = f"SVC{serial}"
        record = Record(serial, self.tokens.make(RECORD, table.number, serial), values, links)
        table.add(record)
        return record

    def update(self, view: View, record: Record, body: dict[str, Any]) -> None:
        """Execute a PATCH atomically. An empty body changes nothing, not even lastModified. Raises CampaignError."""
        table = view.table
        values, links = view.read(body, record)
        if (key := table.resource.identification) is not None and key in values:
            old, new = table.key_of(record), values[key]
            if new != old:
                if old:
                    raise errors.key_change(table.resource.name, old, new)
                if new in table.by_key:
                    raise errors.duplicate_key(table.resource.label, new, *table.resource.constraint())
        if not body:
            return
        self.change(table, record, values, links, self.now())

    def change(
        self,
        table: Table,
        record: Record,
        values: dict[str, Any],
        links: dict[str, int],
        now: str,
        *,
        opt_out_times: bool = True,
    ) -> None:
        """Store valid values and links of a record, as `add` does."""
        values["lastModified"] = now
        if opt_out_times and _OPT_OUT_NAMES & values.keys():
            _note_opt_outs(record.values, values, now, table.resource)
        table.change(record, values, links)

    def delete(self, table: Table, record: Record) -> None:
        """Execute a DELETE. Records that link to it keep a dangling link, unless `cascade_delete` is set."""
        for child, _link, serial in list(self.children(table, record)) if self.settings.cascade_delete else []:
            if (linked := child.records.get(serial)) is not None:
                self.delete(child, linked)
        table.remove(record)

    def resolve(self, view: View, segment: str, *, by_key: bool, part: bool = False) -> Record:
        """Return the visible record that a URL identifies. Raises CampaignError.

        Args:
            view: Of the endpoint.
            segment: PKey or identification key.
            by_key: True if the URL may contain an identification key.
            part: True if the URL leads to a part of the record. Only then the token of its collections is valid.
        """
        table, resource = view.table, view.table.resource
        if segment.startswith("@"):
            reference = self.tokens.read(segment)
            if reference is None:
                raise errors.undecodable_pkey(segment, resource.plural, resource.schema, view.path)
            is_record = reference.kind == RECORD or (part and reference.kind == COLLECTION)
            record = table.records.get(reference.number) if is_record and reference.table == table.number else None
        elif not (by_key and resource.unique) and self.settings.untaken_key == "bad_pkey":
            raise errors.undecodable_pkey(segment, resource.plural, resource.schema, view.path)
        else:
            record = table.by_key.get(segment) if by_key and resource.unique else None
        if record is None or not self.visible(table, record):
            raise errors.not_found(resource.label, resource.name, segment)
        return record


def _published(settings: Settings) -> dict[str, Resource]:
    """Return the data model with these settings. Raises BadSettings."""
    fresh = resources()
    for name, links in settings.links.items():
        for link_name, setting in links.items():
            link = fresh[name].links.get(link_name) if name in fresh else None
            if link is None:
                raise BadSettings(f"there is no link {name}.{link_name}")
            if setting.join is not None and setting.join not in fresh[name].fields:
                raise BadSettings(f"{name} has no attribute {setting.join!r} to join {link_name} on")
            link.cardinality, link.join = setting.cardinality, setting.join
    for name, filters in settings.filters.items():
        for filter_name, setting in filters.items():
            if name not in fresh or setting.attribute not in fresh[name].fields:
                raise BadSettings(f"filter {filter_name}: there is no attribute {name}.{setting.attribute}")
            fresh[name].filters[filter_name] = Filter(filter_name, setting.parameter, setting.attribute)
    for resource in fresh.values() if settings.filters_without_by else ():
        _drop_by(resource)
    _set_up_profile(fresh["profile"], settings)
    for name, attributes in settings.removed_attributes.items():
        _remove(attributes, name, fresh)
    for setting in (settings.unique_keys, settings.keys_in_url):
        if unknown := setting.keys() - fresh.keys():
            raise BadSettings(f"there is no resource {sorted(unknown)[0]!r}; one of: {', '.join(fresh)}")
    for name, unique in settings.unique_keys.items():
        fresh[name].unique = unique
    return fresh


def _indexed(resource: Resource) -> tuple[Any, ...]:
    """Return what the indexes of a resource's table depend on."""
    return resource.key, resource.unique, [link.join for link in resource.links.values()]


def _drop_by(resource: Resource) -> None:
    """Name custom filters as Campaign v8 does: `externalId` in place of `byExternalId`."""
    for custom in [one for one in resource.filters.values() if one.parameter.endswith("_parameter")]:
        del resource.filters[custom.name]
        plain = f"{custom.name[2].lower()}{custom.name[3:]}"
        resource.filters[plain] = Filter(plain, custom.parameter, custom.attribute)


def _remove(attributes: list[str], name: str, fresh: dict[str, Resource]) -> None:
    for attribute in attributes:
        if name not in fresh or attribute not in fresh[name].fields or attribute == fresh[name].key:
            raise BadSettings(f"{name} has no attribute {attribute!r} that could be removed")
        del fresh[name].fields[attribute]


def _set_up_profile(profile: Resource, settings: Settings) -> None:
    if settings.profile_key is not None and settings.profile_key not in profile.fields:
        raise BadSettings(f"profile has no attribute {settings.profile_key!r} to be its key")
    profile.key = settings.profile_key
    for name in settings.opt_outs_without_time:
        if name not in OPT_OUTS:
            raise BadSettings(f"there is no opt-out {name!r}; one of: {', '.join(OPT_OUTS)}")
        for time_name in OPT_OUTS[name]:
            profile.fields.pop(time_name, None)


def _note_opt_outs(before: dict[str, Any], values: dict[str, Any], now: str, resource: Resource) -> None:
    """Set the change time of each opt-out whose value changes."""
    for name in _OPT_OUT_NAMES & values.keys():
        if values[name] != before.get(name, False):
            for time_name in OPT_OUTS[name]:
                if time_name in resource.fields:
                    values[time_name] = now
