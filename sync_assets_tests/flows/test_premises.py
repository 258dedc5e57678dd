"""A first load, changes and deletions of linked tables, whichever way the real services are."""

import time
from typing import Any

import pytest

from sync_assets_tests.flows.certifying import chained
from sync_assets_tests.support.chain_configuration import KEY_OF_RESOURCE
from sync_assets_tests.support.premises import DOCUMENTED, POSITIONS, PREMISE, V8, Position, on_positions
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess

HORIZON_SECONDS = 3.0
LOOKUPS = {"cusOrder": ("new_order", "new_contactid", "cusContactLink"),
           "cusOrderLine": ("new_orderline", "new_orderid", "cusOrderLink")}  # fmt: skip


@pytest.fixture
def chain(program: Program, position: Position) -> Program:
    program.guardrails = {"horizon_minutes": HORIZON_SECONDS / 60}
    return chained(program, position)


def assert_in_step(program: Program) -> None:
    """Every row has its one record, with its values and its parent, visible."""
    admin = program.sandbox.admin
    contacts = {row["contactid"]: row["lastname"] or "" for row in admin.dump_d365("contact")}
    profiles = program.profiles()
    assert {key: profile["lastName"].casefold() for key, profile in profiles.items()} == {
        key: name.casefold() for key, name in contacts.items()
    }
    keys = {
        record["PKey"]: record[key]
        for resource, key in KEY_OF_RESOURCE.items()
        for record in admin.dump_campaign(resource)
    }
    for resource, (table, lookup, link) in LOOKUPS.items():
        rows = {row[f"{table}id"]: row for row in admin.dump_d365(table)}
        records = admin.dump_campaign(resource)
        assert len(records) == len(rows), f"{resource}: records and rows"
        for record in records:
            row = rows[record[KEY_OF_RESOURCE[resource]]]
            assert record["cusName"] == (row["new_name"] or "")
            assert record["_visible"]
            assert keys[record[link]["PKey"]] == row[f"_{lookup}_value"]


def synced(program: Program) -> None:
    """At most two syncs, and those after the horizons of lost answers; then a further one has nothing to write."""
    for attempt in range(8):
        done = program.sync()
        assert not done.problems, done.problems
        unconfirmed = sum(counts["unconfirmed"] for counts in done.document["tables"].values())
        if done.status == 0 and not unconfirmed:
            break
        assert attempt == 0 or unconfirmed, done.document
        time.sleep(HORIZON_SECONDS if unconfirmed else 0)
    assert_in_step(program)
    again = program.sync()
    assert (again.status, again.document["engine_calls"] | {"read": 0}) == (0, calls())


@on_positions(quick=(V8,))  # the documented one: test_links.py
def test_a_first_load_changes_and_deletions_arrive_once_and_linked(chain: Program) -> None:
    admin = chain.sandbox.admin
    synced(chain)
    contacts = admin.change("contact", 3, lastname="Changed")
    admin.change("new_order", 3, new_name="Changed")
    [new] = admin.create("contact", {"lastname": "New"})
    admin.create("new_order", {"new_contactid": new, "new_name": "New"})
    admin.on_parent_delete(new_order="cascade", new_orderline="cascade")
    admin.delete("contact", contacts[:1])
    synced(chain)


@pytest.mark.premises
def test_a_move_from_campaign_standard_to_v8_between_two_syncs_loses_nothing(chain: Program) -> None:
    admin = chain.sandbox.admin
    synced(chain)
    POSITIONS[V8].apply(admin)
    contacts = admin.change("contact", 3, lastname="Changed")
    admin.create("new_order", {"new_contactid": contacts[1], "new_name": "New"})
    admin.on_parent_delete(new_order="cascade", new_orderline="cascade")
    admin.delete("contact", contacts[:1])
    synced(chain)


@on_positions(quick=())  # the documented one: test_first_load.py
def test_profiles_that_carry_our_ids_already_are_taken_as_ours(program: Program) -> None:
    admin = program.sandbox.admin
    carried = {row["contactid"]: row for row in admin.dump_d365("contact")[:10]}
    admin.add_profiles(
        *(
            {
                "externalId": key,
                "lastName": row["lastname"],
                "middleName": "Own",
                "location": {"city": row["address1_city"] or ""},
            }
            for key, row in carried.items()
        )
    )
    for _ in range(2):
        done = program.sync()
        assert not done.problems, done.problems
    program.assert_in_step()
    assert [key for key, profile in program.profiles().items() if profile["middleName"] == "Own"] == list(carried)


def test_a_sandbox_goes_into_each_position_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PREMISE, raising=False)
    with SandboxProcess(contacts=1) as sandbox:
        admin = sandbox.admin

        def switches() -> list[Any]:
            return [admin.settings("campaign"), admin.settings("d365"), admin.fault_rules()]

        documented = switches()
        for name, position in POSITIONS.items():
            with position.on(admin):
                assert (switches() == documented) is (name == DOCUMENTED), name
            assert switches() == documented, name
