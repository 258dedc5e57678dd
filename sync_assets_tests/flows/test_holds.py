"""Privacy holds by whole runs: Campaign hears nothing of a held contact and its children, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_assets.errors import SyncAssetsError
from sync_assets.operations import privacy_hold
from sync_assets.runtime.context import Runtime
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import TABLES, Chain
from sync_assets_tests.support.premises import POSITIONS
from sync_assets_tests.support.program import calls

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

    def status(self, count: str) -> list[int]:
        tables = self.program.json("status")[1]["tables"]
        return [tables[table][count] for table in TABLES]

    def delete_in_campaign(self) -> None:
        for resource, records in self.held().items():
            pkeys = [record["PKey"] for id_, record in records.items() if id_ in self.adas]
            self.admin.post("/campaign/delete", {"resource": resource, "pkeys": pkeys})

    def privacy_delete(self) -> None:
        """What the customer does: Campaign's Privacy Service first, then Dynamics 365."""
        self.delete_in_campaign()
        self.admin.on_parent_delete(contact="cascade", new_order="cascade")
        self.admin.delete("contact", [self.ada])


@pytest.fixture
def house(sandbox_factory: SandboxFactory, tmp_path: Path) -> House:
    return House(sandbox_factory, tmp_path)


def test_a_hold_finds_a_persons_rows_where_dynamics_has_no_memory_for_large_pages(house: House) -> None:
    with POSITIONS["no memory for large pages"].on(house.admin):
        added = house.do(privacy_hold.add)
    assert added["errors"] == []
    assert added["noted"] == dict.fromkeys(TABLES, 1)


def test_campaign_hears_nothing_of_held_ids_whatever_happens(house: House) -> None:
    assert house.sync()[0] == 0
    before = {resource: dict(records) for resource, records in house.held().items()}
    since = house.admin.last()
    added = house.do(privacy_hold.add)
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

    released = house.do(privacy_hold.release)
    assert (released["released"], released["gone"], released["excluded"]) == (7, False, 0)
    assert house.sync()[0] == 0
    assert house.status("excluded") == [0, 0, 0]
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
    assert house.do(privacy_hold.add)["known"] is False
    assert house.sync() == (2, calls(insert=3, read=5))
    assert house.quietly(since)
    assert house.do(privacy_hold.release)["released"] == 3
    assert house.sync() == (0, calls(insert=3, read=2))
    house.assert_parents_first()


def test_after_a_privacy_delete_nothing_is_made_again(house: House) -> None:
    house.sync()
    house.do(privacy_hold.add)
    house.admin.change("contact", [house.ada], firstname="Eve")  # a pending update must not bring her back
    house.admin.change("new_order", [house.adas_order], new_name="Changed")
    house.sync()
    found = house.do(privacy_hold.verify)
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
    assert house.do(privacy_hold.verify)["gone"]
    assert house.sync() == (2, calls())
    assert house.do(privacy_hold.verify)["gone"]

    since = house.admin.last()
    assert house.do(privacy_hold.release)["released"] == 3
    status, made = house.sync()
    assert status == 0
    assert (made["insert"], made["update"], made["delete"]) == (0, 0, 0)
    assert {entry["method"] for entry in house.admin.journal("campaign", since)} == {"GET"}
    assert not house.adas & {id_ for records in house.held().values() for id_ in records}
    runtime = house.program.runtime()
    assert runtime.ledger.related("contact", house.ada) == []
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
    house.do(privacy_hold.add)
    house.admin.change("contact", [house.ada], firstname="Eve")
    house.admin.change("new_order", [house.adas_order], new_name="Changed")
    house.sync()
    house.privacy_delete()
    house.do(privacy_hold.release)
    since = house.admin.last()
    assert house.sync()[0] == 0
    assert {entry["method"] for entry in house.admin.journal("campaign", since)} <= {"GET"}
    assert not house.adas & {id_ for records in house.held().values() for id_ in records}


def test_verify_finds_what_is_left_on_either_side_and_counts_its_reads(house: House) -> None:
    house.sync()
    house.do(privacy_hold.add)
    before = house.program.json("status")[1]["engine_calls"]
    pkey = house.held()["profile"][house.ada]["PKey"]
    house.admin.post("/campaign/delete", {"resource": "profile", "pkeys": [pkey]})
    found = house.do(privacy_hold.verify)
    assert found["gone"] is False
    assert "contact" not in found["campaign"]["found"]
    assert found["d365"]["found"]["contact"] == [house.ada]
    after = house.program.json("status")[1]["engine_calls"]
    # One for each of hers, and where none was found one with the id in capitals and one of Bob's, which shows that
    # Campaign finds records by the key.
    assert {kind: after[kind] - before[kind] for kind in after} == calls(read=7)


def test_verify_finds_a_record_whose_id_is_written_in_capitals(house: House) -> None:
    house.sync()
    house.do(privacy_hold.add)
    house.delete_in_campaign()
    house.admin.add_profiles({"lastName": "Ada", "externalId": house.ada.upper()})
    assert house.do(privacy_hold.verify)["campaign"]["found"]["contact"] == [house.ada]


def test_verify_finds_in_campaign_what_dynamics_has_unlinked(house: House) -> None:
    """There the order has no contact any more, but Campaign's hangs on the profile as ever."""
    house.sync()
    house.do(privacy_hold.add)
    house.admin.on_parent_delete(new_order="remove_link", new_orderline="remove_link")
    house.admin.delete("contact", [house.ada])
    house.sync()
    found = house.do(privacy_hold.verify)
    assert found["d365"]["found"] == {"new_order": [house.adas_order], "new_orderline": [house.adas_line]}
    assert found["campaign"]["found"].keys() == set(TABLES)
    house.delete_in_campaign()
    house.admin.delete("new_order", [house.adas_order])
    assert house.do(privacy_hold.verify)["d365"]["found"] == {"new_orderline": [house.adas_line]}
    house.admin.delete("new_orderline", [house.adas_line])
    assert house.program.run("hold", "verify", house.ada)[0] == 0


def test_a_system_that_cannot_be_asked_to_the_end_is_not_taken_for_empty(house: House) -> None:
    house.sync()
    house.do(privacy_hold.add)
    # A next link leads back: the person's other records may be on a page that never comes.
    house.admin.fault("campaign", "circular", method="GET")
    status, output, errors = house.program.run("hold", "verify", house.ada)
    assert status == 1
    assert "gone from both" not in output
    assert "back to one that was read before" in errors + output
    house.admin.clear_faults()

    house.program.more["D365_CLIENT_SECRET"] = "wrong"
    status, _, errors = house.program.run("hold", "release", house.ada)
    assert (status, "The hold stays" in errors) == (1, True)
    assert [one["id"] for one in house.do(lambda runtime, _: privacy_hold.listed(runtime))["holds"]] == [house.ada]

    house.privacy_delete()
    for secret, other in (("D365_CLIENT_SECRET", "Campaign"), ("CAMPAIGN_CLIENT_SECRET", "Dynamics 365")):
        house.program.more = {secret: "wrong"}
        status, output, errors = house.program.run("hold", "verify", house.ada)
        assert (status, f"{other}: gone" in output, secret in errors) == (1, True, True)
        assert "Traceback" not in errors


def test_a_campaign_that_finds_no_record_by_the_key_is_not_taken_for_empty(house: House) -> None:
    """Inserts work there as ever; without a published filter no request can find what they created."""
    house.sync()
    house.do(privacy_hold.add)
    for table, id_ in zip(reversed(TABLES), (house.adas_line, house.adas_order, house.ada), strict=True):
        house.admin.delete(table, [id_])
    with POSITIONS["no keys in URLs"].on(house.admin):
        status, output, errors = house.program.run("hold", "verify", house.ada)
        assert status == 1
        assert "Campaign: gone" not in output
        assert "none of the others that it acknowledged" in output + errors
    status, output, _ = house.program.run("hold", "verify", house.ada)
    assert f"Campaign: still there: profile {house.ada}" in output


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


@pytest.mark.parametrize("operation", [privacy_hold.add, privacy_hold.release, privacy_hold.verify])
@pytest.mark.parametrize("given", ["", "Ada Lovelace", "7b1e40aa", "7b1e40aa5b7d4e219a603c1d2e4f5a6c", "*"])
def test_what_is_no_id_is_refused_and_not_repeated(operation: Operation, given: str) -> None:
    """It may be a name or an address."""
    with pytest.raises(SyncAssetsError, match="a GUID such as") as refused:
        operation(Runtime({}), given)
    assert not given or given not in str(refused.value)


def test_nothing_about_the_person_is_kept_or_told(house: House) -> None:
    house.sync()
    house.admin.change("contact", [house.ada], firstname="Zebedee-of-Basel", emailaddress1="zebedee@example.com")
    house.do(privacy_hold.add)
    house.sync()
    status, output, errors = house.program.run("hold", "verify", house.ada, "--json")
    assert status == 1
    for text in ("Zebedee-of-Basel", "zebedee@example.com", "Ada"):
        assert text not in output + errors
    for path in house.program.home.rglob("*"):
        if path.is_file() and path.suffix in (".db", ".db-wal"):
            assert b"zebedee@example.com" not in path.read_bytes(), path.name


# --- a person who is gone, whose orders Dynamics 365 keeps ------------------------------------------------------------


def unlinked(sandboxes: SandboxFactory, home: Path, **of_links: Any) -> House:
    """In sync; then Ada is held and deleted in Dynamics 365, which clears the lookups of her orders and keeps them.
    Her records are deleted in Campaign, and the change feed was followed."""
    house = House(sandboxes, home, **of_links)
    assert house.sync()[0] == 0
    house.do(privacy_hold.add)
    house.admin.on_parent_delete(new_order="remove_link", new_orderline="remove_link")
    house.admin.delete("contact", [house.ada])
    house.delete_in_campaign()
    assert house.sync()[0] == 2
    return house


@pytest.mark.parametrize(
    ("apply_deletes", "cardinality"),
    [
        (True, "one"),
        (False, "zero_or_one"),
        pytest.param(True, "zero_or_one", marks=pytest.mark.slow),
        pytest.param(False, "one", marks=pytest.mark.slow),
    ],
)
def test_orders_whose_lookup_the_deletion_cleared_are_named_never_made_again_and_anothers_once_they_are_given(
    sandbox_factory: SandboxFactory, tmp_path: Path, cardinality: str, apply_deletes: bool
) -> None:
    house = unlinked(sandbox_factory, tmp_path, cardinality=cardinality, apply_deletes=apply_deletes)
    assert house.status("held") == [1, 1, 1]
    status, document = house.program.json("hold", "verify", house.ada)
    assert (status, document["gone"]) == (1, False)
    assert document["d365"]["found"] == {"new_order": [house.adas_order], "new_orderline": [house.adas_line]}
    assert document["campaign"]["found"] == {}
    named = f"Dynamics 365: still there: new_order {house.adas_order}\n"
    assert house.program.run("hold", "verify", house.ada)[1].startswith(named)

    released = house.do(privacy_hold.release)
    assert (released["gone"], released["released"]) == (True, 3)
    since = house.admin.last()
    for _ in range(2):
        assert house.sync()[0] == 0
    house.admin.change("new_order", [house.adas_order], new_name="Changed")
    house.read_all_again()
    assert house.sync()[0] == 0
    written = [one for one in house.admin.journal("campaign", since) if one["method"] in ("POST", "PATCH")]
    assert not [one for one in written if one["key"] in house.adas]
    assert not house.adas & {id_ for records in house.held().values() for id_ in records}
    assert house.status("excluded")[1:] == [1, 1]
    assert "new_order: 1 excluded: of a contact that was gone" in house.program.run("status")[1]

    house.admin.change("new_order", [house.adas_order], new_contactid=house.bob)
    for _ in range(2):
        assert house.sync()[0] == 0
    held = house.held()
    assert held["cusOrder"][house.adas_order]["cusContactLink"]["PKey"] == held["profile"][house.bob]["PKey"]
    assert house.adas_line in held["cusOrderLine"]
    assert house.status("excluded") == [0 if apply_deletes else 1, 0, 0]


def test_what_was_never_sent_of_a_person_under_a_hold_is_not_sent_once_she_is_gone(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """Campaign had no link to her to be remembered by."""
    house = House(sandbox_factory, tmp_path, cardinality="zero_or_one")
    house.do(privacy_hold.add)
    house.sync()
    house.admin.on_parent_delete(new_order="remove_link", new_orderline="remove_link")
    house.admin.delete("contact", [house.ada])
    assert house.sync()[0] == 2
    assert house.do(privacy_hold.verify)["d365"]["found"].keys() == {"new_order", "new_orderline"}
    house.do(privacy_hold.release)
    since = house.admin.last()
    assert house.sync() == (0, calls())
    assert house.admin.journal("campaign", since) == [] or house.adas.isdisjoint(house.held()["cusOrder"])


def test_orders_that_were_never_captured_are_held_as_either_system_names_them(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """The ledger begins anew; Campaign knows whose they are, and so does Dynamics 365 until the contact is deleted."""
    house = House(sandbox_factory, tmp_path, cardinality="zero_or_one")
    house.sync()
    house.program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{tmp_path / 'new.db'}"
    added = house.do(privacy_hold.add)
    assert (added["errors"], added["noted"]) == ([], dict.fromkeys(TABLES, 1))
    house.admin.on_parent_delete(new_order="remove_link", new_orderline="remove_link")
    house.admin.delete("contact", [house.ada])
    house.admin.change("contact", [house.bob], lastname="Changed")  # so that something is sent
    since = house.admin.last()
    house.sync()
    assert house.quietly(since)
    found = house.do(privacy_hold.verify)
    assert found["d365"]["found"].keys() == {"new_order", "new_orderline"}
    assert found["campaign"]["found"].keys() == set(TABLES)


def test_a_hold_finds_in_campaign_what_is_linked_to_the_profile_only_there(house: House) -> None:
    house.sync()
    runtime = house.program.runtime()
    runtime.close()
    house.program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{house.program.home / 'new.db'}"
    house.admin.on_parent_delete(new_order="remove_link")
    house.admin.change("new_order", [house.adas_order], new_contactid=None)
    before = house.program.json("status")[1]["engine_calls"]["read"]
    assert house.do(privacy_hold.add)["noted"] == dict.fromkeys(TABLES, 1)
    assert house.program.json("status")[1]["engine_calls"]["read"] - before == 3  # the profile, and two lists
    assert house.do(privacy_hold.verify)["d365"]["found"] == {
        "contact": [house.ada],
        "new_order": [house.adas_order],
        "new_orderline": [house.adas_line],
    }


def test_a_person_who_comes_back_is_as_before_after_another_release(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    house = unlinked(sandbox_factory, tmp_path)
    house.do(privacy_hold.release)
    house.sync()
    house.admin.create("contact", {"contactid": house.ada, "firstname": "Ada"})
    house.admin.change("new_order", [house.adas_order], new_contactid=house.ada)
    house.admin.change("new_orderline", [house.adas_line], new_orderid=house.adas_order)
    house.sync()
    assert not house.adas & {id_ for records in house.held().values() for id_ in records}
    assert house.do(privacy_hold.release)["gone"] is False
    for _ in range(2):
        assert house.sync()[0] == 0
    assert house.adas <= {id_ for records in house.held().values() for id_ in records}
    status, _, errors = house.program.run("hold", "release", house.ada)
    assert (status, "is not on hold" in errors) == (1, True)


def test_a_hold_stands_though_no_system_can_be_asked_and_says_so(house: House) -> None:
    house.sync()
    house.program.more |= {"D365_CLIENT_SECRET": "wrong", "CAMPAIGN_CLIENT_SECRET": "wrong"}
    status, output, _ = house.program.run("hold", "add", house.ada)
    assert (status, output.count("Not all of this person's records could be asked for")) == (0, 2)
    assert house.status("held") == [1, 1, 1]
