"""Privacy holds by whole runs: Campaign hears nothing of a held contact and its children, whatever happens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_assets.commands import hold
from sync_assets.commands.values import builtins
from sync_assets.runtime.context import Runtime
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import Chain, forget_ledger
from sync_assets_tests.support.chain_configuration import RESOURCES
from sync_assets_tests.support.ledgers import read_anew
from sync_assets_tests.support.premises import POSITIONS
from sync_assets_tests.support.program import calls

Operation = Callable[[Runtime, str], Any]
MISTYPED = "ffffffff-1111-4222-8333-444444444444"


class TwoPeople(Chain):
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
            return builtins(operation(runtime, id_ or self.ada))
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
        for table in RESOURCES:
            read_anew(runtime.ledger, table, resend=True)
        runtime.close()

    def status(self, count: str) -> list[int]:
        tables = self.program.json("status")[1]["tables"]
        return [tables[table][count] for table in RESOURCES]

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
def people(sandbox_factory: SandboxFactory, tmp_path: Path) -> TwoPeople:
    return TwoPeople(sandbox_factory, tmp_path)


def test_campaign_gets_no_write_about_held_ids(people: TwoPeople) -> None:
    assert people.sync()[0] == 0
    before = {resource: dict(records) for resource, records in people.held().items()}
    since = people.admin.last()
    added = people.do(hold.add)
    assert (added["records"], added["known"], added["new"], added["in_flight"]) == (3, True, True, 0)

    people.admin.change("contact", [people.ada, people.bob], firstname="Eve")
    people.admin.change("new_order", [people.adas_order, people.bobs_order], new_name="Changed")
    late_order, late_line = people.order(people.ada)
    status, made = people.sync()
    assert (status, made) == (2, calls(update=2))

    people.admin.change("new_order", [people.bobs_order], new_contactid=people.ada)  # comes to a held contact
    people.admin.delete("new_orderline", [people.adas_line])
    people.read_all_again()
    assert people.program.run("retry")[0] == 0
    status, made = people.sync()
    assert (status, made) == (2, calls(update=1))  # Bob himself
    assert people.quietly(since, *people.adas, late_order, late_line)
    tables = people.program.json("status")[1]["tables"]
    assert [tables[table]["held"] for table in RESOURCES] == [1, 3, 3]

    now = people.held()
    for resource, records in before.items():
        for id_ in people.adas & records.keys():
            assert now[resource][id_] == records[id_]

    released = people.do(hold.release)
    assert (released["released"], released["gone"], released["excluded"]) == (7, False, 0)
    assert people.sync()[0] == 0
    assert people.status("excluded") == [0, 0, 0]
    people.assert_no_hidden_child()
    held = people.held()
    assert people.adas_line not in held["cusOrderLine"]
    assert held["profile"][people.ada]["firstName"] == "Eve"
    assert held["cusOrder"][people.adas_order]["cusName"] == "Changed"
    assert held["cusOrder"][people.bobs_order]["cusContactLink"] is not None
    assert {late_order, late_line} <= held["cusOrder"].keys() | held["cusOrderLine"].keys()
    assert people.sync() == (0, calls())


def test_after_a_privacy_delete_nothing_is_made_again(people: TwoPeople) -> None:
    people.sync()
    people.do(hold.add)
    people.admin.change("contact", [people.ada], firstname="Eve")  # a pending update must not bring her back
    people.admin.change("new_order", [people.adas_order], new_name="Changed")
    people.sync()
    whereabouts = people.do(hold.verify)
    assert whereabouts["gone"] is False
    assert whereabouts["d365"]["found"] == {
        "contact": [people.ada],
        "new_order": [people.adas_order],
        "new_orderline": [people.adas_line],
    }
    assert whereabouts["campaign"]["found"] == whereabouts["d365"]["found"]
    assert whereabouts["ledger"]["records"] == dict.fromkeys(RESOURCES, 1)
    assert (whereabouts["ledger"]["with_content"], whereabouts["ledger"]["in_flight"]) == (0, 0)

    people.privacy_delete()
    assert people.do(hold.verify)["gone"]
    assert people.sync() == (2, calls())
    assert people.do(hold.verify)["gone"]

    since = people.admin.last()
    assert people.do(hold.release)["released"] == 3
    status, made = people.sync()
    assert status == 0
    assert (made["insert"], made["update"], made["delete"]) == (0, 0, 3)
    sent = {(entry["method"], entry["status"] < 300) for entry in people.admin.journal("campaign", since)}
    assert {of for of in sent if of[0] != "GET"} == {("DELETE", False)}, "each delete finds nothing"
    assert not people.adas & {id_ for records in people.held().values() for id_ in records}
    runtime = people.program.runtime()
    assert runtime.ledger.holds.related(people.ada) == []
    runtime.close()
    assert people.sync() == (0, calls())


def test_verify_shows_remaining_records_of_either_side_and_counts_its_reads(people: TwoPeople) -> None:
    people.sync()
    people.do(hold.add)
    before = people.program.json("status")[1]["engine_calls"]
    pkey = people.held()["profile"][people.ada]["PKey"]
    people.admin.post("/campaign/delete", {"resource": "profile", "pkeys": [pkey]})
    whereabouts = people.do(hold.verify)
    assert whereabouts["gone"] is False
    assert "contact" not in whereabouts["campaign"]["found"]
    assert whereabouts["d365"]["found"]["contact"] == [people.ada]
    after = people.program.json("status")[1]["engine_calls"]
    # One for each of hers, and where none was found one with the id in capitals and one of Bob's, which shows that
    # Campaign finds records by the key.
    assert {kind: after[kind] - before[kind] for kind in after} == calls(read=7)

    people.delete_in_campaign()
    people.admin.add_profiles({"lastName": "Ada", "externalId": people.ada.upper()})
    assert people.do(hold.verify)["campaign"]["found"] == {"contact": [people.ada]}
    people.admin.on_parent_delete(new_order="remove_link")
    people.admin.delete("contact", [people.ada])
    only_the_ledger_relates = {"new_order": [people.adas_order], "new_orderline": [people.adas_line]}
    assert people.do(hold.verify)["d365"]["found"] == only_the_ledger_relates


def test_a_system_that_cannot_be_asked_to_the_end_is_not_taken_for_empty(people: TwoPeople) -> None:
    people.sync()
    secrets = {"D365_CLIENT_SECRET": "Campaign", "CAMPAIGN_CLIENT_SECRET": "Dynamics 365"}
    people.program.more |= dict.fromkeys(secrets, "wrong")
    status, output, _ = people.program.run("hold", "add", people.ada)  # it stands all the same
    assert (status, output.count("Not all of this person's records could be asked for")) == (0, 2)
    assert people.status("held") == [1, 1, 1]
    people.program.more = {}
    # A next link leads back: the person's other records may be on a page that never comes.
    people.admin.fault("campaign", "circular", method="GET")
    status, output, errors = people.program.run("hold", "verify", people.ada)
    assert status == 1
    assert "gone from both" not in output
    assert "back to one that was read before" in errors + output
    people.admin.clear_faults()

    people.program.more["D365_CLIENT_SECRET"] = "wrong"
    status, _, errors = people.program.run("hold", "release", people.ada)
    assert (status, "The hold stays" in errors) == (1, True)
    status, _, errors = people.program.run("hold", "add", MISTYPED)
    assert (status, "not every system could be asked" in errors) == (1, True)
    assert [one["id"] for one in people.do(lambda runtime, _: hold.listed(runtime.ledger))["holds"]] == [people.ada]
    people.program.more = {}

    people.admin.on_parent_delete(contact="cascade", new_order="cascade")
    people.admin.delete("contact", [people.ada])
    # Inserts work as ever; without a published filter no request can find what they created.
    with POSITIONS["no keys in URLs"].on(people.admin):
        status, output, errors = people.program.run("hold", "verify", people.ada)
        assert (status, "Campaign: gone" in output) == (1, False)
        assert "none of the others that it acknowledged" in output + errors
    status, output, errors = people.program.run("hold", "verify", people.ada)
    assert f"Campaign: still there: profile {people.ada}" in output
    assert errors.splitlines()[-1].endswith(f"then `sync-assets hold verify {people.ada}`.")

    people.delete_in_campaign()
    for secret, other in secrets.items():
        people.program.more = {secret: "wrong"}
        status, output, errors = people.program.run("hold", "verify", people.ada)
        shown = "shows none" if other == "Campaign" else "gone"
        assert (status, f"{other}: {shown}" in output, secret in errors) == (1, True, True)
        assert "Traceback" not in errors


def test_the_command_line(people: TwoPeople) -> None:
    people.sync()
    shown = "{" + people.ada.upper() + "}"  # as Dynamics 365 shows it
    status, output, errors = people.program.run("hold", "add", shown)
    assert (status, errors) == (0, "")
    assert output.startswith(f"{people.ada} is on hold since ")
    assert "3 records are written to neither system" in output
    status, document = people.program.json("hold", "add", people.ada)
    assert (status, document["new"], document["records"]) == (0, False, 3)

    status, document = people.program.json("hold", "list")
    assert status == 0
    [listed] = document["holds"]
    assert (listed["id"], listed["records"], listed["known"], listed["in_flight"]) == (people.ada, 3, True, 0)
    assert people.program.run("hold", "list")[1].startswith(f"{people.ada}  since ")

    assert people.program.run("hold", "release", people.ada)[0] == 0
    status, _, errors = people.program.run("hold", "release", people.ada)
    assert status == 1
    assert f"{people.ada} is not on hold" in errors
    assert people.program.run("hold", "list")[1].strip() == "No contact is on hold."


def test_an_unknown_id_is_held_by_force_alone_and_never_certified_as_deleted(people: TwoPeople) -> None:
    """It may be mistyped, or that of a person who was deleted before."""
    assert people.sync()[0] == 0
    status, output, errors = people.program.run("hold", "add", MISTYPED)
    assert (status, output) == (1, "")
    assert f"Neither the ledger nor Dynamics 365 nor Campaign has a contact {MISTYPED}" in errors
    assert "--force" in errors
    assert people.program.json("hold", "list") == (0, {"holds": []})
    assert people.status("held") == [0, 0, 0]
    status, output, errors = people.program.run("hold", "verify", MISTYPED)
    assert status == 1
    assert errors.endswith(f"Check the id: `sync-assets explain {MISTYPED}` finds it in other tables, too.\n")
    assert "Dynamics 365: not known\nCampaign: not known\n" in output
    assert "gone" not in output

    for operation in ("add", "release", "verify"):  # a text that is no id may be a name or an address
        status, _, errors = people.program.run("hold", operation, "Ada Lovelace")
        assert (status, "a GUID such as" in errors, "Ada" in errors) == (1, True, False)

    assert people.program.json("hold", "add", MISTYPED, "--force")[1]["records"] == 1
    status, document = people.program.json("hold", "verify", MISTYPED)
    assert (status, document["known"], document["gone"]) == (1, False, False)
    people.admin.create("contact", {"contactid": MISTYPED, "firstname": "Back"})
    assert people.do(hold.add, MISTYPED)["new"] is False  # finds the contact now
    people.admin.delete("contact", [MISTYPED])
    assert people.program.run("hold", "verify", MISTYPED)[0] == 0


def test_a_contact_whose_deletion_the_ledger_carried_out_is_certified_if_its_history_is_kept(people: TwoPeople) -> None:
    people.admin.on_parent_delete(contact="cascade", new_order="cascade")
    assert people.sync()[0] == 0
    for history, id_, status in (({"days": 30}, people.ada, 0), ({}, people.bob, 1)):
        people.program.history = history
        people.admin.delete("contact", [id_])
        assert people.sync()[0] == 0
        assert people.program.run("hold", "verify", id_)[0] == status


def test_orders_whose_lookup_the_deletion_cleared_are_named_never_made_again_and_anothers_once_they_are_given(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """Dynamics 365 deletes the held contact and keeps the orders. The customer deletes the records in Campaign."""
    people = TwoPeople(sandbox_factory, tmp_path, cardinality="zero_or_one", apply_deletes=False)
    assert people.sync()[0] == 0
    people.do(hold.add)
    people.admin.on_parent_delete(new_order="remove_link", new_orderline="remove_link")
    people.admin.delete("contact", [people.ada])
    people.delete_in_campaign()
    assert people.sync()[0] == 2
    assert people.status("held") == [1, 1, 1]
    status, document = people.program.json("hold", "verify", people.ada)
    assert (status, document["gone"]) == (1, False)
    assert document["d365"]["found"] == {"new_order": [people.adas_order], "new_orderline": [people.adas_line]}
    assert document["campaign"]["found"] == {}
    named = f"Dynamics 365: still there: new_order {people.adas_order}\n"
    assert people.program.run("hold", "verify", people.ada)[1].startswith(named)

    kept = [f"--kept=new_order/{people.adas_order.upper()}", f"--kept=new_orderline/{people.adas_line}"]
    status, output, errors = people.program.run("hold", "verify", people.ada, kept[0])
    assert (status, "name those that stay on purpose by `--kept TABLE/ID`" in errors) == (1, True)
    assert f"Dynamics 365: still there: new_orderline {people.adas_line}\n" in output
    status, output, _ = people.program.run("hold", "verify", people.ada, *kept)
    assert status == 0
    assert f"Dynamics 365: kept on purpose, as named: new_order {people.adas_order}\n" in output
    assert "Dynamics 365: all others gone\nCampaign: gone\n" in output
    status, document = people.program.json("hold", "verify", people.ada, *kept)
    assert (status, document["gone"], document["d365"]["found"]) == (0, True, {})
    assert document["d365"]["kept"] == {"new_order": [people.adas_order], "new_orderline": [people.adas_line]}
    for wrong, cause in (
        (f"contact/{people.ada}", "The contact itself cannot be kept"),
        (f"new_ordr/{people.adas_order}", "Did you mean new_order?"),
        ("new_order", "`--kept` needs TABLE/ID"),
    ):
        status, _, errors = people.program.run("hold", "verify", people.ada, "--kept", wrong)
        assert (status, cause in errors) == (1, True), errors

    released = people.do(hold.release)
    assert (released["gone"], released["released"]) == (True, 3)
    since = people.admin.last()
    for _ in range(2):
        assert people.sync()[0] == 0
    people.admin.change("new_order", [people.adas_order], new_name="Changed")
    people.read_all_again()
    assert people.sync()[0] == 0
    written = [one for one in people.admin.journal("campaign", since) if one["method"] in ("POST", "PATCH")]
    assert not [one for one in written if one["key"] in people.adas]
    assert not people.adas & {id_ for records in people.held().values() for id_ in records}
    assert people.status("excluded")[1:] == [1, 1]
    assert "new_order: 1 excluded: of a contact that was gone" in people.program.run("status")[1]
    released_again = f"If the contact was restored, run `sync-assets hold release {people.ada}`."
    assert released_again in " ".join(people.program.run("hold", "verify", people.ada)[1].split())
    status, _, error = people.program.run("explain", people.adas_order, "--table", "new_order")
    assert (status, error.count("`sync-assets "), released_again in " ".join(error.split())) == (2, 1, True)

    people.admin.change("new_order", [people.adas_order], new_contactid=people.bob)
    for _ in range(2):
        assert people.sync()[0] == 0
    held = people.held()
    assert held["cusOrder"][people.adas_order]["cusContactLink"]["PKey"] == held["profile"][people.bob]["PKey"]
    assert people.adas_line in held["cusOrderLine"]
    assert people.status("excluded") == [1, 0, 0]


def test_a_hold_covers_records_that_only_campaign_links_to_the_profile(people: TwoPeople) -> None:
    """Dynamics 365 answers with few rows at a time, for lack of memory."""
    people.sync()
    people.program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{people.program.home / 'new.db'}"
    forget_ledger(people.program)
    people.admin.on_parent_delete(new_order="remove_link")
    people.admin.change("new_order", [people.adas_order], new_contactid=None)
    before = people.program.json("status")[1]["engine_calls"]["read"]
    with POSITIONS["no memory for large pages"].on(people.admin):
        added = people.do(hold.add)
    assert (added["noted"], added["errors"]) == (dict.fromkeys(RESOURCES, 1), [])
    assert people.program.json("status")[1]["engine_calls"]["read"] - before == 3  # the profile, and two lists
    assert people.do(hold.verify)["d365"]["found"] == {
        "contact": [people.ada],
        "new_order": [people.adas_order],
        "new_orderline": [people.adas_line],
    }


def test_an_order_that_campaign_may_hide_is_named_before_the_release_and_after_it(people: TwoPeople) -> None:
    assert people.sync()[0] == 0
    people.do(hold.add)
    people.admin.post("/campaign/delete", {"resource": "cusOrderLine", "keys": [people.adas_line]})
    people.admin.post("/campaign/delete", {"resource": "profile", "keys": [people.ada]})
    for table, id_ in ("new_orderline", people.adas_line), ("new_order", people.adas_order), ("contact", people.ada):
        people.admin.delete(table, [id_])
    for released in (False, True):
        if released:
            people.do(hold.release)
            assert people.sync()[0] == 0
            assert people.admin.hidden("cusOrder"), "its delete found no record"
        status, output, _ = people.program.run("hold", "verify", people.ada)
        assert (status, "Campaign: gone" in output, "Campaign: shows none" in output) == (0, False, True)
        text = " ".join(output.split())
        assert "Campaign does not show 1 record of cusOrder: deleted, or hidden without a parent. Check" in text
    assert people.do(hold.verify)["campaign"]["not_seen"] == {
        "new_order": [people.adas_order],
        "new_orderline": [people.adas_line],  # the ledger purged it: that it was deleted is not known
    }
