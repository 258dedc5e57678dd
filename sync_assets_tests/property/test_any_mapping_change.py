"""Any sequence of mappings and changes ends with Campaign equal to the last one, and costs what differs."""

import json
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_assets.config.models import TableConfig
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Claimed, Outcome, Position
from sync_assets.ledger.prepared_page import CapturedPage, LedgerPage
from sync_assets.mapping.attribute_steps import value_at
from sync_assets.mapping.conversions import empty_value
from sync_assets.mapping.filters import filter_rows
from sync_assets.mapping.mapping_changes import configuration_text, earlier_mapping, rows_under_earlier_mapping
from sync_assets.mapping.table_mapping import TableMapping, compile_mapping
from sync_assets.mapping.transform import transform, written_attributes
from sync_assets.push.request_body import body
from sync_assets_tests.support.ledgers import Clock, Ledgers, capture, claim, guid, push, session_of
from sync_assets_tests.support.ledgers import row as ledger_row
from sync_assets_tests.support.sample_tables import CONTACT, ID, PROFILE, frame, mapping

ROWS = 6
TARGETS = {"firstname": "firstName", "lastname": "cusText", "score": "cusInteger", "description": "location.city"}
LINK = {"field": "companyid", "to": "cusContactLink", "table": "account", "cardinality": "zero_or_one"}
EVERYTHING = mapping(TARGETS, filters={"rules": [{"field": "total", "is": "ge", "value": 1}]}, links=[LINK])
COLUMNS = EVERYTHING.column_types


def id_of(number: int) -> str:
    return f"{ID[:-4]}{number:04x}"


@dataclass
class Table:
    """Plays Dynamics 365, a capture and Campaign for one table whose mapping changes."""

    ledger: Ledger
    random: Random
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    fields: dict[str, Any] = field(default_factory=lambda: {"lastname": "cusText"})
    replaced: bool = False
    filtered: bool = False
    linked: bool = False
    campaign: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    calls: int = 0
    changed: set[int] = field(default_factory=set[int])

    def run(self, steps: int) -> None:
        capture(self.ledger, ledger_row("a"), ledger_row("b"), table="account", complete=True)
        push(self.ledger, table="account")
        self.rows = [self.any_row() for _ in range(ROWS)]
        self.read_in_full()
        self.all_is_sent()
        doings = [
            self.a_row_changes,
            self.the_mapping_changes,
            self.half_is_read,
            self.some_is_sent,
            self.only_a_change,
        ]
        for _ in range(steps):
            doing = self.random.choice(doings)
            doing()
        self.only_a_change()

    def any_row(self) -> dict[str, Any]:
        values = self.random.choice
        row = {"firstname": values([None, "a", "b"]), "lastname": values([None, "a"]), "total": values([0, 1, 1])}
        row |= {"_companyid_value": values([None, guid("a"), guid("b")])}
        return {**row, "score": values([None, 0, 7]), "description": values([None, "x", "y"])}

    # What happens

    def a_row_changes(self) -> None:
        number = self.random.randrange(ROWS)
        self.rows[number] = self.any_row()
        self.changed.add(number)

    def the_mapping_changes(self) -> None:
        column = self.random.choice(list(TARGETS))
        if column in self.fields and len(self.fields) > 1 and self.random.random() < 0.6:
            del self.fields[column]
        else:
            self.fields[column] = {"to": TARGETS[column], "apply_updates": self.random.random() < 0.8}
        self.replaced ^= self.random.random() < 0.3
        self.filtered ^= self.random.random() < 0.3
        self.linked ^= self.random.random() < 0.3

    def half_is_read(self) -> None:
        """A read that is killed after its first page."""
        self.read_in_full(pages=1)

    def some_is_sent(self) -> None:
        for one in claim(self.ledger, limit=2):
            self.send(one, self.random.choice(["done", "done", "unknown", "refused"]))

    def only_a_change(self) -> None:
        """Only the mapping changes: that costs what differs, and Campaign holds the mapping."""
        self.read_in_full()
        self.all_is_sent()
        self.the_mapping_changes()
        before, self.calls = {id_: json.dumps(held) for id_, held in self.campaign.items()}, 0
        left = self.left_attributes()
        self.read_in_full()
        self.all_is_sent()
        differing = {id_ for id_, held in self.campaign.items() if json.dumps(held) != before.get(id_)}
        # A field that was left and is mapped again is sent wherever Campaign may hold a former value of it.
        again = {
            *written_attributes(self.mapping, updates_only=True),
            *(one.attribute for one in self.mapping.link_specs),
        }
        perhaps = {id_ for id_, names in left.items() if {"*", *again} & {*names.split(",")}}
        insert_only = any(not one.apply_updates for one in self.before.fields)
        assert self.calls <= len(differing | perhaps) or insert_only
        self.campaign_holds_the_mapping()

    # The program

    def config(self) -> TableConfig:
        document: dict[str, Any] = {
            "table": "contact",
            "resource": "profile",
            "key": "externalId",
            "fields": {**self.fields},
        }
        if self.replaced and "firstname" in self.fields:
            document["replacements"] = {"firstname": {"b": "B", None: "none"}}
        if self.linked:
            document["links"] = [LINK]
        if self.filtered:
            document["filters"] = {"rules": [{"field": "total", "is": "ge", "value": 1}]}
        return TableConfig.model_validate(document)

    def read_in_full(self, pages: int = 2) -> None:
        ledger, config = self.ledger, self.config()
        now = compile_mapping(config, CONTACT, PROFILE)
        feed = ledger.feeds.feed("contact")
        self.before = getattr(self, "mapping", now)
        self.mapping = now
        before = feed.fingerprint if feed else None
        ledger.mappings.change_mapping("contact", before, now.fingerprint, configuration_text(config), accepted=True)
        if feed:
            ledger.feeds.reset_feed("contact", feed.version)
        texts = ledger.mappings.configurations("contact", now.fingerprint)
        earlier = [one for text in texts if (one := earlier_mapping(text, CONTACT, PROFILE, {}))]
        for page in range(pages):
            self.save(now, earlier, range(ROWS // 2 * page, ROWS // 2 * (page + 1)), last=page == 1)
        if pages == 2:
            ledger.mappings.settle("contact", now.fingerprint)

    def save(self, now: TableMapping, earlier: list[TableMapping], numbers: range, *, last: bool) -> None:
        table = frame(replace(now, column_types=COLUMNS), *self.rows)[numbers.start : numbers.stop]
        passed, dropped = filter_rows(table, now.row_filter)
        under = [rows_under_earlier_mapping(passed, one, now) for one in earlier]
        page = LedgerPage(transform(passed, now), now.link_specs, under, written_attributes(now).keys())
        feed = self.ledger.feeds.feed("contact")
        left = dropped["contactid"].to_list()
        position = Position(
            "link", "delta" if last else "page", now.fingerprint, feed.read_id if feed else 1, last, last
        )
        captured = CapturedPage(page, out_of_scope=left, filtered_out=dict.fromkeys(left), links=now.link_specs)
        self.ledger.captures.save_page(
            "contact",
            captured,
            position,
            feed and feed.version,
            session=session_of(self.ledger),
            missing_are_deleted=False,
        )

    def left_attributes(self) -> dict[str, str]:
        """By id the attributes, links included, of which the ledger does not know what Campaign holds; `*`: of any."""
        statement = (
            "SELECT id, CASE WHEN unknown_until IS NULL THEN coalesce(left_attributes, '') ELSE '*' END || coalesce(("
            "SELECT ',' || attribute FROM sync_link l WHERE l.seq = r.seq AND acked_id IS NOT NULL AND "
            "acked_incarnation IS NULL), '') FROM sync_record r"
        )
        rows = self.ledger.database.write(lambda connection: connection.exec_driver_sql(statement).all())
        return {row[0]: row[1] for row in rows}

    def all_is_sent(self) -> None:
        self.ledger.claims.retry()
        while records := claim(self.ledger):
            for one in records:
                self.send(one, "done")

    def send(self, one: Claimed, result: Any) -> None:
        self.calls += 1
        if result == "done" or (result == "unknown" and self.random.random() < 0.5):
            patch = one.operation == "update"
            sent = json.loads(body(one.update if patch else one.payload, one, "externalId", patch=patch))
            held = self.campaign.setdefault(one.id, {})
            held |= {**sent, "location": held.get("location", {}) | sent.get("location", {})}
        outcome = Outcome(one.seq, result, one.hash, "why", operation=one.operation, links=one.links)
        self.ledger.claims.acknowledge(session_of(self.ledger), [outcome])

    def campaign_holds_the_mapping(self) -> None:
        table = frame(replace(self.mapping, column_types=COLUMNS), *self.rows)
        for row in transform(table, self.mapping).to_dicts():
            wanted = json.loads(row["update_payload"] or row["payload"])
            for path, attribute in written_attributes(self.mapping, updates_only=True).items():
                held = value_at(self.campaign[row["id"]], path)
                assert (empty_value(attribute) if held is None else held) == value_at(wanted, path), path
            if self.linked:
                held = self.campaign[row["id"]].get("cusContactLink")
                assert (held and held["PKey"]) == row["cusContactLink"]


def test_any_sequence_of_mappings_ends_with_the_last_one_and_costs_what_differs(ledgers: Ledgers) -> None:
    @settings(
        max_examples=15 if ledgers.kind == "sqlite" else 3, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(seed=st.integers(0, 2**32), steps=st.integers(1, 25))
    def any_sequence(seed: int, steps: int) -> None:
        with Ledger.open(ledgers.fresh(), clock=Clock(), horizon_seconds=0.001) as ledger:
            Table(ledger, Random(seed)).run(steps)

    any_sequence()
