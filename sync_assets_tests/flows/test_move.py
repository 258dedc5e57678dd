"""The move to Campaign v8: the ledger's Campaign has another address, and the records have other PKeys."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import Chain, ledger_of
from sync_assets_tests.support.moved_campaign import OF_CAMPAIGN, OF_SFTP, copy_campaign, use_campaign
from sync_assets_tests.support.opt_outs import HEADER, in_d365, says, switch_on, write_file, writes
from sync_assets_tests.support.program import calls
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTACTS, LOST, EMPTIED = 40, 3, 5


@dataclass
class Moved:
    """A chain whose Campaign Standard was copied to v8: `lost` profiles are missing there, `emptied` have no e-mail."""

    chain: Chain
    v8: SandboxProcess
    lost: list[str]
    emptied: list[str]

    def switch(self) -> None:
        use_campaign(self.chain.program, self.v8)

    def json(self, *arguments: str) -> tuple[int, Any]:
        return self.chain.program.json(*arguments)

    def assert_equal(self) -> None:
        """Assert that v8 has each row's record once, with its values and links."""
        rows = {row["contactid"]: row for row in self.chain.admin.dump_d365()}
        profiles = {one["externalId"]: one for one in self.v8.admin.dump_campaign()}
        assert {id_: one["email"] for id_, one in profiles.items()} == {
            id_: row["emailaddress1"] for id_, row in rows.items()
        }
        ids = {one["PKey"]: id_ for id_, one in profiles.items()}
        orders = self.v8.admin.dump_campaign("cusOrder")
        found = {one["cusOrderId"]: ids[one["cusContactLink"]["PKey"]] for one in orders}
        wanted = self.chain.admin.dump_d365("new_order")
        assert found == {row["new_orderid"]: row["_new_contactid_value"] for row in wanted}
        assert len(orders) == len(wanted)


@pytest.fixture
def moved(new_chain: Callable[..., Chain], sandbox_factory: SandboxFactory) -> Iterator[Moved]:
    here, v8 = new_chain(cardinality="zero_or_one"), sandbox_factory(contacts=0)
    v8.admin.settings("campaign", dialect="v8")
    v8.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    v8.admin.publish_link("cusOrderLine", "cusOrderLink", "zero_or_one")
    for table in here.program.further:
        table["links"] = [link | {"style": "auto"} for link in table["links"]]
    people = here.admin.create("contact", *({"emailaddress1": f"p{n}@example.com"} for n in range(CONTACTS)))
    here.admin.create("new_order", *({"new_contactid": id_, "new_name": "N"} for id_ in people))
    assert here.sync()[0] == 0
    lost, emptied = people[:LOST], people[LOST : LOST + EMPTIED]
    copy_campaign(here.admin, v8.admin, lost, emptied)
    yield Moved(here, v8, lost, emptied)
    v8.stop()


def assert_found_out(made: dict[str, int], foretold: dict[str, int]) -> None:
    """Assert that beyond the plan only the first link was tried, and the key if the first record is one of the lost."""
    beyond = {kind: made[kind] - foretold[kind] for kind in made}
    assert beyond in [calls(update=1, read=reads) for reads in (2, 3)]


def test_after_the_move_nothing_is_called_synced_before_both_systems_were_compared(moved: Moved) -> None:
    moved.switch()
    status, shown = moved.json("accept-systems")
    assert (status, shown["accepted"]) == (0, False)
    assert shown["comparison"]["contact"] == {"rows": CONTACTS, "reads": 1}
    assert moved.json("status")[1]["tables"]["contact"]["comparison_due"] is False
    assert moved.json("accept-systems", "--yes")[1]["accepted"]

    tables = moved.json("status")[1]["tables"]
    assert [table["comparison_due"] for table in tables.values()] == [True] * 3
    assert "the comparison with Campaign's records is due" in moved.chain.program.run("status")[1]
    findings = moved.json("doctor")[1]["checks"]
    assert not [one for one in findings if one["outcome"] == "fail"]
    assert [one for one in findings if one["outcome"] == "warn" and "comparison" in one["message"]]
    _, planned = moved.json("plan")
    assert [note for note in planned["notes"] if "comparison with Campaign's records is due" in note]

    moved.v8.admin.clear_journal()
    status, done = moved.json("sync")
    assert status == 0
    made = done["engine_calls"]
    assert made == moved.v8.admin.engine_calls()
    assert made["insert"] == planned["engine_calls"]["insert"] == LOST
    assert_found_out(made, planned["engine_calls"])
    moved.assert_equal()
    assert [table["comparison_due"] for table in done["tables"].values()] == [False] * 3
    assert moved.json("sync")[1]["engine_calls"] == calls()


@pytest.mark.parametrize("direction", ["bidirectional", pytest.param("d365_to_campaign", marks=pytest.mark.slow)])
def test_an_opt_out_that_the_move_lost_is_written_again(moved: Moved, direction: str) -> None:
    program, [person, other] = moved.chain.program, moved.emptied[:2]
    switch_on(program, direction)
    moved.chain.admin.change("contact", [person], donotemail=True)
    assert program.sync().status == 0
    moved.v8.admin.post("/campaign/change", {"resource": "profile", "keys": [other], "set": {"blackListPhone": True}})
    moved.switch()
    program.more |= {name: program.sandbox.env[name] for name in OF_SFTP}
    assert program.run("accept-systems", "--yes")[0] == 0
    assert program.json("sync")[0] == 0
    held = {one["externalId"]: one for one in moved.v8.admin.dump_campaign()}
    assert (held[person]["blackListEmail"], held[person]["blackListPhone"]) == (True, False)
    assert held[other]["blackListPhone"] is (direction == "bidirectional")
    rows = {row["contactid"]: row for row in moved.chain.admin.dump_d365()}
    assert rows[other]["donotphone"] is (direction == "bidirectional")


@pytest.mark.parametrize("direction", [pytest.param("bidirectional", marks=pytest.mark.slow), "campaign_to_d365"])
def test_an_opt_in_that_v8_states_from_before_the_move_undoes_no_opt_out(moved: Moved, direction: str) -> None:
    program, person = moved.chain.program, moved.emptied[0]
    switch_on(program, direction)

    def state(value: int, *, at: datetime) -> bool:
        """Let the Campaign in use hold a value since `at` and state it; return what Dynamics 365 holds after a sync."""
        values = {"blackListEmail": bool(value), "blackListEmailLastModified": f"{at:%Y-%m-%d %H:%M:%S}.000Z"}
        for admin in (moved.chain.admin, moved.v8.admin):
            admin.post("/campaign/change", {"resource": "profile", "keys": [person], "raw": values})
        write_file(program, HEADER + says(person, value, f"{at:%Y-%m-%dT%H:%M:%S}.000Z"))
        assert program.json("sync")[0] == 0
        return in_d365(program, person)["donotemail"]

    assert state(1, at=datetime.now(UTC))
    copied_at = datetime.now(UTC) + timedelta(seconds=2)
    time.sleep(3)
    moved.switch()
    program.more |= {name: program.sandbox.env[name] for name in OF_SFTP}
    assert program.run("accept-systems", "--yes")[0] == 0
    assert state(0, at=copied_at)
    assert program.run("replay", "contact")[0] == 0
    assert program.json("sync")[0] == 0
    assert in_d365(program, person)["donotemail"]
    assert not state(0, at=datetime.now(UTC) + timedelta(seconds=2)), "a person's choice on v8"


def test_a_child_that_v8_hides_since_the_move_lost_its_parent_says_so_and_goes_once_it_was_deleted_there(
    new_chain: Callable[..., Chain], sandbox_factory: SandboxFactory
) -> None:
    """v8 names no cause. The parent is inserted again first, and all that links to it then is sent."""
    chain, v8 = new_chain(cardinality="one"), sandbox_factory(contacts=0)
    v8.admin.settings("campaign", dialect="v8")

    def publish(cardinality: str) -> None:
        for resource, link in (("cusOrder", "cusContactLink"), ("cusOrderLine", "cusOrderLink")):
            v8.admin.publish_link(resource, link, cardinality)

    publish("zero_or_one")
    for table in chain.program.further:
        table["links"] = [link | {"style": "auto"} for link in table["links"]]
    (ada, order, line), _ = chain.make(), chain.make()
    assert chain.sync()[0] == 0
    copy_campaign(chain.admin, v8.admin, [ada])
    publish("one")
    use_campaign(chain.program, v8)
    assert chain.program.run("accept-systems", "--yes")[0] == 0
    assert chain.program.run("sync")[0] == 2
    hidden = "Perhaps Campaign hides this record"
    assert hidden in str(chain.program.json("explain", order)[1]["tables"]["new_order"]["reasons"])
    assert hidden in chain.program.run("status")[1]
    assert hidden in str(chain.program.json("plan")[1]["notes"])
    for resource, key in (("cusOrderLine", line), ("cusOrder", order)):
        v8.admin.post("/campaign/delete", {"resource": resource, "keys": [key]})
    assert chain.program.run("retry", "new_order")[0] == 0  # at once, and not after the wait
    assert chain.program.run("sync")[0] == 0
    assert not v8.admin.hidden("cusOrder") + v8.admin.hidden("cusOrderLine")
    held = {one["cusOrderLineId"]: one["cusOrderLink"]["PKey"] for one in v8.admin.dump_campaign("cusOrderLine")}
    orders = {one["cusOrderId"]: one["PKey"] for one in v8.admin.dump_campaign("cusOrder")}
    assert held[line] == orders[order]


STEPS = ["last_sync", "holds", "accept", "set_up", "cost", "sync"]


def results(document: dict[str, Any]) -> dict[str, Any]:
    return {step["step"]: step["result"] for step in document["steps"]}


def test_the_walk_goes_from_the_last_sync_on_standard_to_the_first_on_v8(moved: Moved) -> None:
    held, admin = moved.lost[0], moved.v8.admin
    assert moved.chain.program.run("hold", "add", held)[0] == 0
    moved.chain.admin.change("contact", moved.emptied[:1], firstname="Changed")
    status, document = moved.json("move")
    assert (status, document["next"], document["steps"][-1]["todo"]) == (2, "last_sync", []), "a person confirms it"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moved.chain.program, "guardrails", {"engine_calls_per_day": 1})
        assert moved.json("sync")[0] == 2
    assert "1 pending" in moved.json("move")[1]["steps"][-1]["todo"][0]
    assert moved.json("sync")[1]["engine_calls"]["update"] == 1
    status, document = moved.json("move", "--yes")
    assert (status, document["next"]) == (2, "accept")
    assert results(document)["holds"] == {"holds": 1}
    assert "CAMPAIGN_URL" in document["steps"][-1]["todo"][0]
    moved.switch()
    status, document = moved.json("move")
    assert (status, document["next"], moved.json("sync")[0]) == (2, "accept", 1), "a person says that the records moved"
    assert len(document["steps"][-1]["details"]["notes"]) == 2
    status, document = moved.json("move", "--yes")
    assert (status, document["next"], [step["step"] for step in document["steps"]]) == (2, "sync", STEPS)
    assert admin.engine_calls()["insert"] == admin.engine_calls()["update"] == 0, "nothing is written before the end"
    foretold = results(document)["cost"]["cost"]["engine_calls"]
    admin.clear_journal()
    status, document = moved.json("move", "--yes", "--go")
    assert (status, document["next"]) == (0, None), document["steps"][-1]
    made = results(document)["sync"]["engine_calls"]
    assert made["insert"] == foretold["insert"] == LOST - 1
    assert_found_out(made, foretold)


def test_while_both_systems_have_the_person_hold_verify_asks_either_campaign_and_writes_nothing(moved: Moved) -> None:
    program, held, here = moved.chain.program, moved.lost[0], moved.chain.admin
    standard = program.home / "standard.env"
    standard.write_text("".join(f"{name}={program.sandbox.env[name]}\n" for name in OF_CAMPAIGN))
    assert program.run("hold", "add", held)[0] == 0
    assert "former_url" in moved.json("hold", "verify", held)[1]["campaign"]
    moved.switch()
    assert program.run("hold", "verify", held)[0] == 1, "the ledger belongs to Standard"
    assert program.run("accept-systems", "--yes")[0] == 0
    here.delete("contact", [held])

    status, now = moved.json("hold", "verify", held)
    assert now["campaign"]["url"] == moved.v8.env["CAMPAIGN_URL"]
    assert "contact" not in now["campaign"]["found"]
    assert "contact" not in now["d365"]["found"]
    shown = program.run("hold", "verify", held)[1]
    assert program.sandbox.env["CAMPAIGN_URL"] in shown, "the former one may have the person, too"

    ledger = ledger_of(program).read_bytes()
    since = here.last()
    status, before = moved.json("hold", "verify", held, "--env-file", str(standard))
    assert (status, before["gone"], before["campaign"]["found"]["contact"]) == (1, False, [held])
    assert before["campaign"]["url"] == program.sandbox.env["CAMPAIGN_URL"]
    assert writes(program, since) == {"d365": 0, "campaign": 0}
    assert ledger_of(program).read_bytes() == ledger
    for command in (["sync"], ["plan"], ["hold", "release", held]):
        assert program.run(*command, "--env-file", str(standard))[0] == 1, "nothing else runs with the former Campaign"
