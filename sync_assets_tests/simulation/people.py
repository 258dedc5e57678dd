"""What people do in both services during a simulated run: users, marketers, and Campaign's export workflow."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sync_assets.sandbox.campaign.store import Record as StoredRecord
from sync_assets.sandbox.campaign.store import Table
from sync_assets_tests.simulation.observed import ExportFile, Moment, RecordChange
from sync_assets_tests.simulation.services import Services
from sync_assets_tests.simulation.timeline import OPT_OUTS, row_id
from sync_assets_tests.support.chain_configuration import IDS, LOOKUPS, PARENTS, RESOURCES


class People:
    """Methods named as kinds of moves carry them out. They do nothing if what they need is missing."""

    def __init__(self, services: Services) -> None:
        self._services = services

    # Dynamics 365

    def put_row(self, table: str, row: int, set: dict[str, Any]) -> None:
        """Insert the row, or change it if it exists. A lookup holds the id of the parent, None if that is missing."""
        org, id_ = self._services.org, row_id(table, row)
        store, bound = org.store(table), dict(set)
        if (lookup := LOOKUPS.get(table)) in bound:
            parents = org.store(PARENTS[table])
            parent = bound.pop(lookup)
            navigation = store.columns[lookup].targets[0].navigation
            reference = f"/{parents.table.set_name}({parent})" if parent in parents.rows else None
            bound[f"{navigation}@odata.bind"] = reference
        if id_ in store.rows:
            self._change_rows(lambda: org.update(store, id_, bound))
        else:
            self._change_rows(lambda: org.create(store, {IDS[table]: id_, **bound}))

    def delete_row(self, table: str, row: int, children: str) -> None:
        """Delete a row. children: what becomes of its children."""
        org, id_ = self._services.org, row_id(table, row)
        store = org.store(table)
        org.switches.change({"on_parent_delete": dict.fromkeys(PARENTS, children)})
        if id_ in store.rows:
            self._change_rows(lambda: org.delete(store, id_))

    def _change_rows(self, work: Callable[[], object]) -> None:
        with self._services.org.transaction():
            work()
        self._services.note_rows("user")

    # Campaign

    def opt_out_in_campaign(self, row: int, attribute: str, value: bool, ahead: float = 0.0) -> None:
        """Change an opt-out. ahead: seconds by which its time of change is ahead, as by a wrong clock."""
        record = self._services.campaign.tables["profile"].by_key.get(row_id("contact", row))
        if record is not None:
            moment = self._services.moment().at + timedelta(seconds=ahead)
            profiles = self._services.campaign.tables["profile"]
            changes = bool(self._services.shown(profiles, record)[attribute]) != value  # else its time stays
            raw = {f"{attribute}LastModified": f"{moment:%Y-%m-%d %H:%M:%S}.000Z"} if ahead and changes else {}
            self._change_record("profile", record, {attribute: value}, raw)

    def remove_record(self, table: str, row: int, children: bool) -> None:
        """Remove a record of ours. children: with all that is linked to it, as for a privacy request."""
        store = self._services.campaign.tables[RESOURCES[table]]
        if (record := store.by_key.get(row_id(table, row))) is not None:
            self._remove(store, record, children=children)

    def _remove(self, table: Table, record: StoredRecord, *, children: bool) -> None:
        services = self._services
        for child, _, serial in list(services.campaign.children(table, record)) if children else ():
            self._remove(child, child.records[serial], children=True)
        before = services.shown(table, record)
        services.campaign.delete(table, record)
        change = RecordChange(services.moment(), table.resource.name, record.pkey, before, None)
        services.others.append(change)

    def foreign_record(self, number: int, name: str) -> None:
        """Insert a profile without our id, or change it."""
        email = f"foreign{number}@example.org"
        records = self._services.campaign.tables["profile"].records.values()
        known = next((one for one in records if one.values.get("email") == email), None)
        self._change_record("profile", known, {"email": email, "firstName": name})

    def _change_record(
        self, resource: str, record: StoredRecord | None, values: dict[str, Any], raw: dict[str, Any] | None = None
    ) -> None:
        services, campaign = self._services, self._services.campaign
        table = campaign.tables[resource]
        view = campaign.views[table.resource.apis[-1], resource]
        before = services.shown(table, record) if record else None
        refused, services.refused = services.refused, set()  # they refuse the program only
        if record is None:
            record = campaign.insert(view, values)
        else:
            campaign.update(view, record, values)
        table.change(record, raw or {}, {})
        services.refused = refused
        services.others.append(
            RecordChange(services.moment(), resource, record.pkey, before, services.shown(table, record))
        )

    def export(self, *, only_changed: bool, seconds: float) -> None:
        """Write an export file, half of it at first if that takes some time."""
        options = {"only_changed": only_changed, "attributes": list(OPT_OUTS.values())}
        path = self._services.campaign.export.write(options)
        if path is None:
            return
        content, extracted = path.read_bytes(), self._services.moment()
        path.unlink()
        if seconds:
            self._upload(path.name, content[: len(content) // 2])
            asyncio.get_running_loop().call_later(seconds, self._complete, path.name, content, extracted)
        else:
            self._complete(path.name, content, extracted)

    def _upload(self, name: str, content: bytes) -> None:
        self._services.files[name] = content, self._services.clock.time()

    def _complete(self, name: str, content: bytes, extracted: Moment) -> None:
        self._upload(name, content)
        header, *lines = content.decode().splitlines()
        rows = tuple(dict(zip(header.split(","), line.split(","), strict=True)) for line in lines)
        self._services.exports.append(ExportFile(name, extracted, self._services.moment(), rows))
