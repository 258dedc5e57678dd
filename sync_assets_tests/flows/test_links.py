"""Contacts, their orders and the lines of those, by whole runs: link order, waiting, moving, deleting."""

import uuid
from collections.abc import Callable
from typing import Any, Literal

import pytest

from sync_assets.cli import sync_runs
from sync_assets.config.models import TableConfig
from sync_assets.flows import RunOutcome
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.chain import Chain, let_no_key_be_unique
from sync_assets_tests.support.chain_configuration import KEY_OF_RESOURCE, RESOURCES
from sync_assets_tests.support.program import calls


def test_a_chain_arrives_in_link_order_by_one_sign_in_changes_and_goes(chain: Chain) -> None:
    chain.program.further.reverse()  # the order of the tables in the file does not matter
    made = [chain.make() for _ in range(5)]
    assert chain.sync() == (0, calls(insert=15, read=8))  # a link each is read back
    tokens = [entry["path"] for system in ("login", "ims") for entry in chain.admin.journal(system)]
    assert sorted("/ims/" in path for path in tokens if "token" in path) == [False, True]
    chain.assert_parents_first()
    chain.assert_no_hidden_child()
    held = chain.held()
    assert {resource: len(records) for resource, records in held.items()} == dict.fromkeys(KEY_OF_RESOURCE, 5)
    assert chain.sync() == (0, calls())

    for table, ids in zip(RESOURCES, zip(*made, strict=True), strict=True):
        chain.admin.change(
            table, list(ids), **({"firstname": "Eve"} if table == "contact" else {"new_name": "Changed"})
        )
    assert chain.sync() == (0, calls(update=15))
    assert {record["cusName"] for record in chain.held()["cusOrderLine"].values()} == {"Changed"}

    contact, order, line = made[0]
    chain.admin.on_parent_delete(contact="cascade", new_order="cascade")
    chain.admin.delete("contact", [contact])
    status, made_calls = chain.sync()
    assert (status, made_calls) == (0, calls(delete=6, read=6))  # the first delete of each finds out how
    chain.assert_no_hidden_child()
    deletes = [e["key"] for e in chain.admin.journal("campaign") if e["method"] == "DELETE" and e["status"] < 300]
    assert len(deletes) == 3
    held = chain.held()
    assert contact not in held["profile"]
    assert order not in held["cusOrder"]
    assert line not in held["cusOrderLine"]
    assert chain.sync() == (0, calls())


@pytest.mark.parametrize("tables", [(), ("new_order", "new_orderline")])
def test_a_contact_that_is_made_with_its_order_after_contacts_were_read_is_read_in_the_same_sync(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, tables: tuple[str, ...]
) -> None:
    chain.make()
    assert chain.sync()[0] == 0
    chain.make()
    run_flow, late = sync_runs.run_flow, list[tuple[str, str, str]]()

    def then_more(runtime: Runtime, config: TableConfig, *more: Any) -> RunOutcome:
        outcome = run_flow(runtime, config, *more)
        if not late:
            late.append(chain.make())
        return outcome

    monkeypatch.setattr(sync_runs, "run_flow", then_more)
    done = chain.program.sync(only=tables)
    waiting = {table: counts["waiting"] for table, counts in done.document["tables"].items()}
    assert (done.status, chain.orphans()) == (2 if tables else 0, [])
    assert waiting == {"contact": 0, "new_order": len(tables), "new_orderline": len(tables)}
    assert (late[0][2] in chain.held()["cusOrderLine"]) == (not tables)


def keep(chain: Chain, orphans: str | None) -> None:
    """Let Campaign keep orders and lines that are deleted. orphans: of their links; None: the default."""
    for table in chain.program.further:
        table["apply_deletes"] = False
        if orphans:
            table["links"] = [{**table["links"][0], "orphans": orphans}]


@pytest.mark.parametrize("orphans", ["delete", pytest.param("keep", marks=pytest.mark.slow), None])
def test_the_orders_own_table_decides_whether_those_of_a_deleted_contact_stay(
    chain: Chain, orphans: str | None
) -> None:
    keep(chain, orphans)
    ada, order, line = chain.make()
    assert chain.sync() == (0, calls(insert=3, read=8))
    chain.admin.delete("contact", [ada])
    planned = " ".join(chain.program.json("plan")[1]["notes"])
    kept = orphans != "delete"
    result = {"new_order": order, "new_orderline": line}
    if kept:  # Campaign hides the order, whose contact is gone, and shows the line
        assert "1 of new_order and 1 of new_orderline stay in Campaign without a parent" in planned
        assert chain.sync() == (0, calls(delete=2, read=2))
        assert [len(records) for records in chain.held().values()] == [0, 1, 1]
        assert [one["cusOrderId"] for one in chain.admin.hidden("cusOrder")] == [order]
    else:
        assert "and with them 1 of new_order and 1 of new_orderline" in planned
        assert chain.sync() == (0, calls(delete=6, read=6))
        assert not any(chain.held().values())
    assert {one["table"]: one["id"] for one in chain.orphans()} == result
    assert {one["kept"] for one in chain.orphans()} == {kept}
    assert chain.sync() == (0, calls())


@pytest.mark.parametrize(("cardinality", "changed"), [("zero_or_one", False), ("one", False), ("one", True)])
def test_the_orders_of_a_profile_that_was_removed_and_is_made_anew_do_not_count_as_synced(
    new_chain: Callable[..., Chain], cardinality: Literal["one", "zero_or_one"], changed: bool
) -> None:
    """An order that may lack its profile is linked to the new one.

    Campaign hides an order that requires its profile: it is rejected. changed: the row of the order changes, too; if
    not, the program reads it again to insert the order.
    """
    chain = new_chain(cardinality=cardinality)
    ada, order, line = chain.make()
    assert chain.sync()[0] == 0
    chain.admin.post("/campaign/delete", {"resource": "profile", "keys": [ada]})
    chain.admin.change("contact", [ada], firstname="Eve")
    if changed:
        chain.admin.change("new_order", [order], new_name="Changed")
    status, made = chain.sync()
    held = chain.held()
    if cardinality == "zero_or_one":
        assert (status, made["insert"], made["update"]) == (0, 1, 2)  # updates of the contact and of the link
        assert held["cusOrder"][order]["cusContactLink"]["PKey"] == held["profile"][ada]["PKey"]
        assert chain.sync() == (0, calls())
        return
    assert (status, made["insert"]) == (2, 2)
    [rejected] = chain.program.json("rejects")[1]["rejects"]
    assert rejected["id"] == order
    assert "Campaign hides this record" in rejected["reason"]
    assert "already exists" in rejected["reason"]
    chain.admin.create("new_orderline", {"new_orderlineid": str(uuid.uuid4()), "new_orderid": order, "new_name": "L"})
    assert chain.sync()[0] == 2
    reasons = {one["table"]: one["reason"] for one in chain.program.json("rejects")[1]["rejects"]}
    remedy = "sends it again. Its new_order is rejected, too: correct that first, then retry this record."
    assert [table for table, reason in reasons.items() if reason.endswith(remedy)] == ["new_orderline"]
    if changed:  # two remedies, as the reason says
        chain.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    else:
        for resource, key in (("cusOrderLine", line), ("cusOrder", order)):
            chain.admin.post("/campaign/delete", {"resource": resource, "keys": [key]})
    chain.program.run("retry")
    assert chain.sync()[0] == 0
    held = chain.held()
    assert held["cusOrder"][order]["cusContactLink"]["PKey"] == held["profile"][ada]["PKey"]


@pytest.mark.parametrize("cardinality", ["zero_or_one", "one"])
def test_orders_and_lines_that_others_removed_with_their_profile_are_read_again_and_inserted(
    new_chain: Callable[..., Chain], cardinality: Literal["one", "zero_or_one"]
) -> None:
    chain = new_chain(cardinality=cardinality)
    [ada, order, line], [bob, *_] = chain.make(), chain.make()
    assert chain.sync()[0] == 0
    for resource, key in (("cusOrderLine", line), ("cusOrder", order), ("profile", ada)):
        chain.admin.post("/campaign/delete", {"resource": resource, "keys": [key]})
    chain.admin.change("contact", [ada, bob], firstname="Eve")
    status, made = chain.sync()
    assert (status, made["insert"]) == (0, 3)  # none of Bob's
    assert [len(records) for records in chain.held().values()] == [2, 2, 2]
    chain.assert_no_hidden_child()
    assert chain.sync() == (0, calls())


def hide_one_order_and_remove_another(chain: Chain) -> tuple[list[str], list[str]]:
    """Of three orders Campaign hides the first, whose profile others removed; the second one they removed itself.

    Returns the contacts of these two, and the three orders.
    """
    [ada, hidden, _], [bob, removed, _], [_, third, _] = chain.make(), chain.make(), chain.make()
    assert chain.sync()[0] == 0
    chain.admin.post("/campaign/delete", {"resource": "profile", "keys": [ada]})
    chain.admin.post("/campaign/delete", {"resource": "cusOrder", "keys": [removed]})
    return [ada, bob], [hidden, removed, third]


@pytest.mark.parametrize(
    ("style", "unique", "happens"),
    [
        ("pkey", False, "changed"),
        ("pkey", "auto", "changed"),
        ("join", "auto", "changed"),
        ("pkey", False, "replayed"),
        ("pkey", False, "imported"),
        ("pkey", False, "moved"),
    ],
)
def test_an_order_that_campaign_hides_gets_no_second_one_where_its_key_is_not_known_to_be_unique(
    new_chain: Callable[..., Chain], style: str, unique: Literal["auto", False], happens: str
) -> None:
    """Nor does one that others removed: the program cannot know which of the two it is."""
    chain = new_chain(cardinality="one", style="join" if style == "join" else "key")
    let_no_key_be_unique(chain, style, unique)
    [ada, bob], [order, removed, third] = hide_one_order_and_remove_another(chain)
    if happens == "imported":  # by others: it has the key, and another PKey
        chain.admin.post("/campaign/records", {"resource": "profile", "records": [{"externalId": ada}]})
    elif style != "join":  # else the order is shown again with its profile
        chain.admin.change("contact", [ada], firstname="Eve")
    chain.admin.change(
        "new_order", [order, removed], **({"new_contactid": bob} if happens == "moved" else {}), new_name="B"
    )
    if happens == "replayed":
        chain.program.run("replay", "new_order", "--force")
    assert chain.sync()[0] == 2
    reasons = {one["id"]: one["reason"] for one in chain.program.json("rejects", "new_order")[1]["rejects"]}
    assert reasons.keys() == {order, removed}
    assert all("could make a second record" in reason for reason in reasons.values())
    assert [one["cusOrderId"] for one in chain.admin.hidden("cusOrder")] == [order]
    assert chain.held()["cusOrder"].keys() == {order, third}


def test_orders_are_found_or_inserted_again_once_they_may_lack_their_profile(new_chain: Callable[..., Chain]) -> None:
    """The remedy in the reason."""
    chain = new_chain(cardinality="one")
    let_no_key_be_unique(chain, "pkey", unique=False)
    [ada, _], [order, removed, third] = hide_one_order_and_remove_another(chain)
    chain.admin.change("contact", [ada], firstname="Eve")
    chain.admin.change("new_order", [order, removed], new_name="Changed")
    assert chain.sync()[0] == 2
    chain.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    [link] = chain.program.further[0]["links"]
    chain.program.further[0]["links"] = [link | {"cardinality": "zero_or_one"}]
    chain.program.run("retry", "new_order")
    chain.sync()
    held = chain.held()
    assert held["cusOrder"].keys() == {order, removed, third}
    assert held["cusOrder"][order]["cusContactLink"]["PKey"] == held["profile"][ada]["PKey"]


def test_the_guard_counts_the_lines_of_a_profile_that_is_in_neither_system(new_chain: Callable[..., Chain]) -> None:
    """Campaign lost the profile, and its answer to the last update was lost, too: a look-up finds out."""
    chain = new_chain(cardinality="one")
    chain.program.guardrails = {"max_delete_share": 0.05}
    chain.program.table["filters"] = {"rules": [{"field": "jobtitle", "is": "eq", "value": "in"}]}
    [ada] = chain.admin.create("contact", {"firstname": "Ada", "jobtitle": "in"})
    orders = [str(uuid.uuid4()) for _ in range(110)]
    chain.admin.create("new_order", *({"new_orderid": order, "new_contactid": ada} for order in orders))
    assert chain.sync()[0] == 0
    chain.admin.fault("campaign", "cut_before", method="PATCH", times=1)
    chain.admin.change("contact", [ada], firstname="Eve")
    chain.program.sync()
    chain.admin.clear_faults()
    chain.admin.change("contact", [ada], jobtitle="out")
    chain.admin.post("/campaign/delete", {"resource": "profile", "keys": [ada]})
    chain.program.pass_horizon()
    held = [chain.program.sync().document["tables"]["new_order"]["deletes_held_back"] for _ in range(2)]
    assert (held[-1], len(chain.held()["cusOrder"])) == (110, 110)


def test_a_link_that_campaign_requires_and_the_configuration_does_not_stops_its_table_before_the_first_write(
    new_chain: Callable[..., Chain],
) -> None:
    chain = new_chain(cardinality="zero_or_one")
    chain.admin.publish_link("cusOrder", "cusContactLink", "one")
    chain.make()
    chain.order(None)  # Campaign would hide it
    for command in ("plan", "sync"):
        _, _, errors = chain.program.run(command)
        assert "Nothing of new_order is sent until both agree: write `cardinality: one`" in errors
    assert [len(records) for records in chain.held().values()] == [1, 0, 2], "other tables go on"
    chain.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    assert chain.program.sync().status == 0
    assert [len(records) for records in chain.held().values()] == [1, 2, 2]


def orders_alone(new_chain: Callable[..., Chain], *, stated: bool) -> tuple[Chain, str]:
    """Orders without the link that Campaign requires; three of them. stated: in Campaign's metadata, too."""
    chain = new_chain(cardinality="one")
    chain.program.further = [{**chain.program.further[0], "links": []}]
    chain.admin.settings("campaign", mandatory_in_metadata=stated)
    [ada] = chain.admin.create("contact", {"firstname": "Ada"})
    for _ in range(3):
        chain.order(ada)
    return chain, ada


def test_a_mandatory_link_that_is_not_mapped_stops_its_table_before_the_first_write(
    new_chain: Callable[..., Chain],
) -> None:
    chain, _ = orders_alone(new_chain, stated=True)
    for command in ("plan", "sync"):
        status, _, errors = chain.program.run(command)
        assert (status, "add `to: cusContactLink` with its lookup to `links`" in errors) == (2, True)
    assert [len(records) for records in chain.held().values()] == [1, 0, 0]
    chain.program.further[0]["links"] = [{"field": "new_contactid", "to": "cusContactLink", "table": "contact"}]
    assert chain.sync()[0] == 0
    assert [len(records) for records in chain.held().values()] == [1, 3, 0]
    chain.assert_no_hidden_child()


def test_after_the_first_record_that_campaign_hides_no_other_is_sent_until_it_is_shown(
    new_chain: Callable[..., Chain],
) -> None:
    """The metadata does not state that the link is mandatory."""
    chain, _ = orders_alone(new_chain, stated=False)
    for number in range(2):
        done = chain.program.sync()
        assert (done.status, len(chain.held()["cusOrder"]), len(chain.admin.hidden("cusOrder"))) == (2, 1, 1), number
        assert done.document["tables"]["new_order"]["rejected"] == 1
    assert chain.program.run("plan")[0] == 2
    [hidden] = chain.admin.hidden("cusOrder")
    [rejected] = chain.program.json("rejects")[1]["rejects"]
    assert (rejected["id"], "and hides it" in rejected["reason"]) == (hidden["cusOrderId"], True)
    assert "hides it" in chain.program.run("explain", hidden["cusOrderId"])[1]
    # The remedy in the reason: published as 0 or 1, until all records have their link.
    chain.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    assert chain.program.sync().status == 2, "one is rejected"
    assert len(chain.held()["cusOrder"]) == 3, "the others go on by themselves"
    link = {"field": "new_contactid", "to": "cusContactLink", "table": "contact", "cardinality": "one"}
    chain.program.further[0]["links"] = [link]
    chain.program.run("retry", "new_order")
    assert chain.sync()[0] == 0
    chain.admin.publish_link("cusOrder", "cusContactLink", "one")
    chain.assert_no_hidden_child()
    assert len(chain.held()["cusOrder"]) == 3


def test_a_link_that_is_published_as_mandatory_later_hides_one_order_until_it_may_be_empty(
    new_chain: Callable[..., Chain],
) -> None:
    chain, ada = orders_alone(new_chain, stated=False)
    chain.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    assert chain.program.sync().status == 0
    chain.admin.publish_link("cusOrder", "cusContactLink", "one")
    for _ in range(3):
        chain.order(ada)
    assert chain.program.json("plan")[1]["engine_calls"] == calls(insert=3, read=1)
    for _ in range(2):
        assert (chain.program.sync().status, len(chain.held()["cusOrder"])) == (2, 4)
    chain.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    assert chain.program.sync().status == 2, "one is rejected"
    assert len(chain.held()["cusOrder"]) == 6
    assert chain.program.run("retry", "new_order")[0] == 0
    assert chain.sync()[0] == 0


@pytest.mark.parametrize("style", ["join", "key"])
def test_an_order_whose_row_is_invalid_is_linked_to_its_new_contact_before_the_former_one_is_deleted(
    new_chain: Callable[..., Chain], style: str
) -> None:
    """Nothing else of such a row is sent: a link that is a plain attribute must not be left out, too."""
    chain = new_chain(cardinality="one", style=style)
    chain.program.further[0]["fields"] = {"new_weight": "cusQuantity"}
    [ada, order, _], [bob, *_] = chain.make(), chain.make("Bob")
    assert chain.sync()[0] == 0
    chain.admin.change("new_order", [order], new_weight=1.5, new_contactid=bob)  # Campaign's attribute is an integer
    chain.admin.delete("contact", [ada])
    assert chain.sync()[0] == 2
    held = chain.held()
    assert held["profile"].keys() == {bob}
    assert held["cusOrder"][order]["cusContactLink"]["PKey"] == held["profile"][bob]["PKey"]
    chain.assert_no_hidden_child()
