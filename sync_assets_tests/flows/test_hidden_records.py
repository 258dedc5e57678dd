"""Records that Campaign hides, since a link that it requires leads to no record."""

from collections.abc import Callable

import pytest

from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.program import calls


def test_an_order_out_of_scope_that_campaign_hides_keeps_its_lines(new_chain: Callable[..., Chain]) -> None:
    chain = new_chain(cardinality="one")
    chain.program.further[0]["filters"] = {"rules": [{"field": "new_quantity", "is": "ge", "value": 10}]}
    ada, order, line = chain.make()
    chain.admin.change("new_order", [order], new_quantity=50)
    assert chain.sync()[0] == 0
    chain.admin.change("new_order", [order], new_quantity=1)
    assert chain.sync() == (0, calls()), "Campaign keeps an order that left the filter"
    chain.admin.post("/campaign/delete", {"resource": "profile", "keys": [ada]})
    chain.admin.change("contact", [ada], firstname="Eve")
    status, made = chain.sync()
    assert (status, made["delete"], list(chain.held()["cusOrderLine"])) == (2, 0, [line])
    [rejected] = chain.program.json("rejects")[1]["rejects"]
    assert (rejected["id"], "is hidden without its parent" in rejected["reason"]) == (order, True)


def test_an_order_that_campaign_hides_is_named_by_explain_and_hold_verify_and_deleted_once_it_is_shown(
    new_chain: Callable[..., Chain],
) -> None:
    chain = new_chain(cardinality="one")
    ada, order, _ = chain.make()
    assert chain.sync()[0] == 0
    chain.admin.post("/campaign/delete", {"resource": "profile", "keys": [ada]})
    _, output, _ = chain.program.run("explain", order, "--table", "new_order")
    assert "it was deleted there, or is hidden, since cusContactLink leads to no record" in " ".join(output.split())
    chain.admin.change("contact", [ada], firstname="Eve")
    assert chain.sync()[0] == 2
    assert "Campaign does not show 1 record of cusOrder:" in chain.program.run("hold", "verify", ada)[1]
    chain.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    chain.admin.on_parent_delete(contact="cascade", new_order="cascade")
    chain.admin.delete("contact", [ada])
    assert chain.sync()[0] == 0
    assert not any(chain.held().values())


@pytest.mark.parametrize("shown", [False, True])
def test_a_delete_of_an_order_that_campaign_hides_is_reported_as_one_that_found_none(
    new_chain: Callable[..., Chain], shown: bool
) -> None:
    chain = new_chain(cardinality="one")
    for table in (chain.program.table, *chain.program.further):
        table["apply_deletes"] = table is chain.program.table
    ada, order, _ = chain.make()
    assert chain.sync()[0] == 0
    chain.admin.delete("contact", [ada])
    chain.sync()
    assert chain.admin.hidden("cusOrder")
    _, output, _ = chain.program.run("explain", order, "--table", "new_order")
    assert "shows no such record" in output
    if shown:
        chain.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    chain.program.further[0]["links"][0]["orphans"] = "delete"
    _, output, errors = chain.program.run("sync")
    text = " ".join((output + errors).split())
    said = "new_order: Campaign found no record for 1 delete: deleted there before, or hidden, since it lost a parent"
    assert (order in chain.held()["cusOrder"], said in text) == (not shown, not shown)
