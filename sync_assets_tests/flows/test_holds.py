"""Privacy holds by whole runs: Campaign hears nothing of a held contact and its children, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_assets.errors import SyncAssetsError
from sync_assets.operations import hold
from sync_assets.runtime import Runtime
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.flows.test_links import TABLES, Chain
from sync_assets_tests.program import calls

Operation = Callable[[Runtime, str], dict[str, Any]]


class House(Chain):
    """Ada and Bob, each with an order with a line, in both systems; Ada is the one who is held."""

    def __init__(self, sandboxes: SandboxFactory, home: Path, **of_contact: Any) -> None:
        super().__init__(sandboxes, home, **of_contact)
        self.ada, self.adas_order, self.adas_line = self.make("Ada")
        self.bob, self.bobs_order, self.bobs_line = self.make("Bob")

    @property
    def adas(self) -> set[str]:
        return {self.ada, self.adas_order, self.adas_line}

    def do(self, operation: Operation, id_: str | None = None) -> dict[str, Any]:
        """A command as the command line calls it; about Ada if nothing else is said."""
        runtime = self.program.runtime()
        try:
            return operation(runtime, id_ or self.ada)
        finally:
            runtime.close()

    def quietly(self, since: int, *ids: str) -> bool:
        """Whether Campaign was asked for nothing about these (else Ada's) since that entry of its journal."""
        about = set(ids) or self.adas
        asked = [entry for entry in self.admin.journal("campaign", since) if entry["method"] != "GET"]
        assert asked, "nothing was written at all, so this proves nothing"
        return not any(entry["key"] in about or any(id_ in entry["path"] for id_ in about) for entry in asked)

    def read_all_again(self) -> None:
        """Every row, to be sent whether it is equal or not."""
        runtime = self.program.runtime()
        for table in TABLES:
            feed = runtime.ledger.feed(table)
            assert feed is not None
            runtime.ledger.reset_feed(table, feed.version, resend=True)
        runtime.close()

    def privacy_delete(self) -> None:
        """What the customer does: Campaign's Privacy Service first, then Dynamics 365."""
        for resource, records in self.held().items():
            pkeys = [record["PKey"] for id_, record in records.items() if id_ in self.adas]
            self.admin.post("/campaign/delete", {"resource": resource, "pkeys": pkeys})
        self.admin.on_parent_delete(contact="cascade", new_order="cascade")
        self.admin.delete("contact", [self.ada])


@pytest.fixture
def house(sandbox_factory: SandboxFactory, tmp_path: Path) -> House:
    return House(sandbox_factory, tmp_path)


def test_campaign_hears_nothing_of_held_ids_whatever_happens(house: House) -> None:
    assert house.sync()[0] == 0
    before = {resource: dict(records) for resource, records in house.held().items()}
    since = house.admin.last()
    added = house.do(hold.add)
    assert (added["records"], added["known"], added["new"], added["in_flight"]) == (3, True, True, 0)

    house.admin.change("contact", [house.ada, house.bob], firstname="Eve")
    house.admin.change("new_order", [house.adas_order, house.bobs_order], new_name="Changed")
    late_order, late_line = house.order(house.ada)
    status, made = house.sync()
    assert (status, made) == (2, calls(update=2))

    house.admin.change("new_order", [house.bobs_order], new_contactid=house.ada)  # comes to a held contact
    house.admin.delete("new_orderline", [house.adas_line])
    house.read_all_again()
    assert house.program.run("retry")[0] == 0
    status, made = house.sync()
    assert (status, made) == (2, calls(update=1))  # Bob himself
    assert house.quietly(since, *house.adas, late_order, late_line)
    tables = house.program.json("status")[1]["tables"]
    assert [tables[table]["held"] for table in TABLES] == [1, 3, 3]

    now = house.held()
    for resource, records in before.items():
        for id_ in house.adas & records.keys():
            assert now[resource][id_] == records[id_]

    assert house.do(hold.release)["released"] == 7
    assert house.sync()[0] == 0
    house.assert_no_hidden_child()
    held = house.held()
    assert house.adas_line not in held["cusOrderLine"]
    assert held["profile"][house.ada]["firstName"] == "Eve"
    assert held["cusOrder"][house.adas_order]["cusName"] == "Changed"
    assert held["cusOrder"][house.bobs_order]["cusContactLink"] is not None
    assert {late_order, late_line} <= held["cusOrder"].keys() | held["cusOrderLine"].keys()
    assert house.sync() == (0, calls())


def test_a_contact_that_is_held_before_it_is_known_never_gets_to_campaign(house: House) -> None:
    since = house.admin.last()
    assert house.do(hold.add)["known"] is False
    assert house.sync() == (2, calls(insert=3, read=3))
    assert house.quietly(since)
    assert house.do(hold.release)["released"] == 3
    assert house.sync() == (0, calls(insert=3))
    house.assert_parents_first()


def test_after_a_privacy_delete_nothing_is_made_again(house: House) -> None:
    house.sync()
    house.do(hold.add)
    house.admin.change("contact", [house.ada], firstname="Eve")  # a pending update must not bring her back
    house.admin.change("new_order", [house.adas_order], new_name="Changed")
    house.sync()
    found = house.do(hold.verify)
    assert found["gone"] is False
    assert found["d365"]["found"] == {
        "contact": [house.ada],
        "new_order": [house.adas_order],
        "new_orderline": [house.adas_line],
    }
    assert found["campaign"]["found"] == found["d365"]["found"]
    assert found["ledger"]["records"] == dict.fromkeys(TABLES, 1)
    assert (found["ledger"]["with_content"], found["ledger"]["in_flight"]) == (0, 0)

    house.privacy_delete()
    assert house.do(hold.verify)["gone"]
    assert house.sync() == (2, calls())
    assert house.do(hold.verify)["gone"]

    since = house.admin.last()
    assert house.do(hold.release)["released"] == 3
    status, made = house.sync()
    assert status == 0
    assert (made["insert"], made["update"], made["delete"]) == (0, 0, 0)
    assert {entry["method"] for entry in house.admin.journal("campaign", since)} == {"GET"}
    assert not house.adas & {id_ for records in house.held().values() for id_ in records}
    runtime = house.program.runtime()
    assert runtime.ledger.kin("contact", house.ada) == []
    runtime.close()
    assert house.sync() == (0, calls())


@pytest.mark.parametrize("apply_deletes", [True, False])
def test_a_release_before_the_deletes_were_captured_makes_nothing_again_either(
    sandbox_factory: SandboxFactory, tmp_path: Path, apply_deletes: bool
) -> None:
    house = House(sandbox_factory, tmp_path, apply_deletes=apply_deletes)
    for table in house.program.further:
        table["apply_deletes"] = apply_deletes
    house.sync()
    house.do(hold.add)
    house.admin.change("contact", [house.ada], firstname="Eve")
    house.admin.change("new_order", [house.adas_order], new_name="Changed")
    house.sync()
    house.privacy_delete()
    house.do(hold.release)
    since = house.admin.last()
    assert house.sync()[0] == 0
    assert {entry["method"] for entry in house.admin.journal("campaign", since)} <= {"GET"}
    assert not house.adas & {id_ for records in house.held().values() for id_ in records}


def test_verify_finds_what_is_left_on_either_side_and_counts_its_reads(house: House) -> None:
    house.sync()
    house.do(hold.add)
    before = house.program.json("status")[1]["engine_calls"]
    pkey = house.held()["profile"][house.ada]["PKey"]
    house.admin.post("/campaign/delete", {"resource": "profile", "pkeys": [pkey]})
    found = house.do(hold.verify)
    assert found["gone"] is False
    assert "contact" not in found["campaign"]["found"]
    assert found["d365"]["found"]["contact"] == [house.ada]
    after = house.program.json("status")[1]["engine_calls"]
    assert {kind: after[kind] - before[kind] for kind in after} == calls(read=3)


def test_verify_finds_in_campaign_what_dynamics_has_unlinked(house: House) -> None:
    """There the order is nobody's any more, but Campaign's hangs on the profile as ever."""
    house.sync()
    house.do(hold.add)
    house.admin.on_parent_delete(new_order="remove_link")
    house.admin.delete("contact", [house.ada])
    house.sync()
    found = house.do(hold.verify)
    assert found["d365"]["found"] == {}
    assert found["campaign"]["found"].keys() == set(TABLES)


@pytest.mark.parametrize("system", ["d365", "campaign"])
def test_a_system_that_cannot_be_asked_is_not_taken_for_empty(house: House, system: str) -> None:
    house.sync()
    house.do(hold.add)
    house.privacy_delete()
    secret = {"d365": "D365_CLIENT_SECRET", "campaign": "CAMPAIGN_CLIENT_SECRET"}[system]
    house.program.more[secret] = "wrong"
    status, output, errors = house.program.run("hold", "verify", house.ada)
    other = {"d365": "Campaign", "campaign": "Dynamics 365"}[system]
    assert status == 1
    assert f"{other}: gone" in output
    assert secret in errors
    assert "Traceback" not in errors


def test_the_command_line(house: House) -> None:
    house.sync()
    shown = "{" + house.ada.upper() + "}"  # as Dynamics 365 shows it
    status, output, errors = house.program.run("hold", "add", shown)
    assert (status, errors) == (0, "")
    assert output.startswith(f"{house.ada} is on hold since ")
    assert "3 records are written to neither system" in output
    status, document = house.program.json("hold", "add", house.ada)
    assert (status, document["new"], document["records"]) == (0, False, 3)

    status, document = house.program.json("hold", "list")
    assert status == 0
    [listed] = document["holds"]
    assert (listed["id"], listed["records"], listed["known"], listed["in_flight"]) == (house.ada, 3, True, 0)
    assert house.program.run("hold", "list")[1].startswith(f"{house.ada}  since ")

    status, output, _ = house.program.run("hold", "verify", house.ada)
    assert status == 1
    assert f"Campaign: still there: profile {house.ada}" in output
    assert f"Dynamics 365: still there: new_order {house.adas_order}" in output
    house.privacy_delete()
    status, document = house.program.json("hold", "verify", house.ada)
    assert (status, document["gone"]) == (0, True)

    assert house.program.run("hold", "release", house.ada)[0] == 0
    status, _, errors = house.program.run("hold", "release", house.ada)
    assert status == 1
    assert f"{house.ada} is not on hold" in errors
    assert house.program.run("hold", "list")[1].strip() == "Nobody is on hold."


@pytest.mark.parametrize("operation", [hold.add, hold.release, hold.verify])
@pytest.mark.parametrize("given", ["", "Ada Lovelace", "7b1e40aa", "7b1e40aa5b7d4e219a603c1d2e4f5a6c", "*"])
def test_what_is_no_id_is_refused_and_not_repeated(operation: Operation, given: str) -> None:
    """It may be a name or an address."""
    with pytest.raises(SyncAssetsError, match="a GUID such as") as refused:
        operation(Runtime({}), given)
    assert not given or given not in str(refused.value)


def test_nothing_about_the_person_is_kept_or_told(house: House) -> None:
    house.sync()
    house.admin.change("contact", [house.ada], firstname="Zebedee-of-Basel", emailaddress1="zebedee@example.com")
    house.do(hold.add)
    house.sync()
    status, output, errors = house.program.run("hold", "verify", house.ada, "--json")
    assert status == 1
    for text in ("Zebedee-of-Basel", "zebedee@example.com", "Ada"):
        assert text not in output + errors
    for path in house.program.home.rglob("*"):
        if path.is_file() and path.suffix in (".db", ".db-wal"):
            assert b"zebedee@example.com" not in path.read_bytes(), path.name
