"""Contacts, their orders and the lines of those, in both systems; an installation that has lost its ledger."""

import uuid
from pathlib import Path
from typing import Any, Literal

import yaml

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain_configuration import KEY_OF_RESOURCE, chain_configuration
from sync_assets_tests.support.premises import NO_UNIQUE_KEYS
from sync_assets_tests.support.program import Program


class Chain:
    """The program with three linked tables against an empty sandbox."""

    def __init__(
        self,
        sandboxes: SandboxFactory,
        home: Path,
        style: Literal["key", "join"] = "key",
        cardinality: Literal["one", "zero_or_one"] = "one",
        **of_contact: Any,
    ) -> None:
        self.sandbox = sandboxes(contacts=0)
        self.admin = self.sandbox.admin
        tables = yaml.safe_load(chain_configuration(style, cardinality))["tables"]
        contact, *further = tables
        self.program = Program(self.sandbox, home, {**contact, **of_contact}, further=further)
        joins = ("cusContactId", "cusOrderRef") if style == "join" else (None, None)
        self.admin.publish_link("cusOrder", "cusContactLink", cardinality, join=joins[0])
        self.admin.publish_link("cusOrderLine", "cusOrderLink", cardinality, join=joins[1])

    def make(self, contact: str = "Ada") -> tuple[str, str, str]:
        """A contact with an order with a line: their ids."""
        [c] = self.admin.create("contact", {"firstname": contact})
        o, li = self.order(c)
        return c, o, li

    def order(self, contact: str | None) -> tuple[str, str]:
        order, line = str(uuid.uuid4()), str(uuid.uuid4())
        self.admin.create("new_order", {"new_orderid": order, "new_contactid": contact, "new_name": "N"})
        self.admin.create("new_orderline", {"new_orderlineid": line, "new_orderid": order, "new_name": "L"})
        return order, line

    def sync(self) -> tuple[int, dict[str, int]]:
        done = self.program.sync()
        assert not done.problems, done.problems
        return done.status, done.document["engine_calls"]

    def held(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What Campaign holds of ours: resource -> id -> record."""
        result: dict[str, dict[str, dict[str, Any]]] = {}
        for resource, key in KEY_OF_RESOURCE.items():
            records = [record for record in self.admin.dump_campaign(resource) if record[key]]
            result[resource] = {record[key]: record for record in records}
            assert len(result[resource]) == len(records), "an id stands in two records"
        return result

    def orphans(self, *table: str) -> list[dict[str, Any]]:
        status, document = self.program.json("rejects", *table, "--orphaned")
        assert status == 0
        return document["orphaned"]

    def assert_no_hidden_child(self) -> None:
        for resource in KEY_OF_RESOURCE:
            assert self.admin.hidden(resource) == []

    def assert_parents_first(self) -> None:
        """No request about a child began before its parent's insert was answered."""
        written: dict[str, int] = {}
        rows = {row["new_orderid"]: row["_new_contactid_value"] for row in self.admin.dump_d365("new_order")}
        rows |= {row["new_orderlineid"]: row["_new_orderid_value"] for row in self.admin.dump_d365("new_orderline")}
        seen = 0
        for entry in sorted(self.admin.journal("campaign"), key=lambda entry: entry["began"]):
            key = entry.get("key")
            if entry["method"] not in ("POST", "PATCH", "DELETE") or not key:
                continue
            parent = rows.get(key)
            if parent:
                assert parent in written, "a child was sent before its parent"
                assert written[parent] <= entry["began"]
                seen += 1
            if entry["method"] == "POST" and entry["status"] == 201:
                written[key] = entry["answered"]
        assert seen


def let_the_key_identify_nothing(program: Program) -> None:
    """Let an id occur in several profiles, which are found by a published filter on it."""
    program.sandbox.admin.settings("campaign", profile_key=None, key_in_url=False)
    published = {"profile": {"byOurId": {"attribute": "externalId", "parameter": "ourId_parameter"}}}
    program.sandbox.admin.settings("campaign", filters=published)
    ours = {"name": "byOurId", "parameter": "ourId_parameter"}
    program.table |= {"unique": False, "address": "filter", "filter": ours}


def let_no_key_be_unique(chain: Chain, style: str, unique: Literal["auto", False]) -> None:
    """Let Campaign take second records, which published filters find, and send links in this style."""
    NO_UNIQUE_KEYS.apply(chain.admin)
    chain.program.table = NO_UNIQUE_KEYS.table(chain.program.table)
    chain.program.further = [
        NO_UNIQUE_KEYS.table(
            table
            | {"address": "filter", "unique": unique, "links": [link | {"style": style} for link in table["links"]]}
        )
        for table in chain.program.further
    ]


def ledger_of(program: Program) -> Path:
    return Path(program.runtime().settings.ledger_url.removeprefix("sqlite:///"))


def lose(program: Program) -> None:
    """Remove the ledger, and what the configuration remembers of it."""
    for file in ledger_of(program).parent.glob(f"{ledger_of(program).name}*"):
        file.unlink()
    forget_ledger(program)


def forget_ledger(program: Program) -> None:
    """Remove what the configuration remembers of its ledger."""
    for file in program.home.glob(".*.ledgers"):
        file.unlink()


def load_by_adobes_tool(program: Program) -> None:
    """Every contact has its profile, made by another program; the ledger knows of none."""
    assert program.sync().status == 0
    lose(program)
