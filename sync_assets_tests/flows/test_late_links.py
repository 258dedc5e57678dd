"""A request for a parent or for its child takes effect late, while the other one is made, moved or deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.flows.test_late_requests import take_effect
from sync_assets_tests.support.chain import Chain

SCOPE = {
    "rules": [{"field": "jobtitle", "is": "ne", "value": "Ghost"}, {"field": "jobtitle", "is": "is_null"}],
    "match": "any",
    "delete_filtered_out": True,
}


def loaded(sandboxes: SandboxFactory, home: Path) -> tuple[Chain, str, str, str]:
    """Return a chain that is in sync, and a contact, its order and the line of that.

    A first chain was deleted, which found out how Campaign deletes.
    """
    chain = Chain(sandboxes, home, filters=SCOPE)
    chain.program.guardrails = {"max_delete_share": 1.0}
    chain.admin.settings("campaign", delete_by_key=True)
    chain.admin.on_parent_delete(contact="cascade", new_order="cascade")
    ids, first = chain.make(), chain.make("Eve")
    assert chain.sync()[0] == 0
    chain.admin.delete("contact", [first[0]])
    assert chain.sync()[0] == 0
    return chain, *ids


def lost(chain: Chain, method: str, path: str, **more: Any) -> None:
    """Let the next such request get no answer, and take effect with `take_effect`."""
    chain.admin.fault("campaign", "late", method=method, path=path, times=1, **more)


def waiting(chain: Chain) -> dict[str, int]:
    tables = chain.program.json("status")[1]["tables"]
    return {table: counts["waiting"] for table, counts in tables.items() if counts["waiting"]}


def assert_in_step(chain: Chain, contacts: int, orders: int) -> None:
    assert chain.sync()[0] == 0
    assert [len(records) for records in chain.held().values()] == [contacts, orders, orders]
    chain.assert_no_hidden_child()
    assert not any(chain.sync()[1].values())


def test_the_children_of_a_contact_whose_delete_got_no_answer_wait_until_it_cannot_vanish(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    chain, ada, _, _ = loaded(sandbox_factory, tmp_path)
    lost(chain, "DELETE", "/profile/")
    chain.admin.change("contact", [ada], jobtitle="Ghost")
    assert chain.sync()[0] == 0
    assert not any(chain.held().values())
    chain.admin.change("contact", [ada], jobtitle=None)
    assert chain.sync()[0] == 2
    assert waiting(chain) == {"new_order": 1, "new_orderline": 1}
    assert chain.held()["profile"].keys() == {ada}

    take_effect(chain.program)
    assert not chain.held()["profile"]

    chain.program.pass_horizon()
    assert_in_step(chain, 1, 1)


def test_a_former_parent_stays_while_a_late_request_may_link_a_child_to_it(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    chain, ada, order, _ = loaded(sandbox_factory, tmp_path)
    bob, cid = chain.admin.create("contact", {"firstname": "Bob"}, {"firstname": "Cid"})
    assert chain.sync()[0] == 0
    lost(chain, "PATCH", "/cusOrder/")
    chain.admin.change("new_order", [order], new_contactid=bob)
    assert chain.sync()[0] == 0
    chain.admin.change("new_order", [order], new_contactid=cid)
    assert chain.sync()[0] == 0

    take_effect(chain.program)
    held = chain.held()
    assert held["cusOrder"][order]["cusContactLink"]["PKey"] == held["profile"][bob]["PKey"]

    chain.admin.on_parent_delete(contact="remove_link")
    chain.admin.delete("contact", [bob])
    assert chain.sync()[0] == 2
    assert waiting(chain) == {"contact": 1}
    chain.assert_no_hidden_child()

    chain.program.pass_horizon()
    assert_in_step(chain, 2, 1)
    held = chain.held()
    assert held["profile"].keys() == {ada, cid}
    assert held["cusOrder"][order]["cusContactLink"]["PKey"] == held["profile"][cid]["PKey"]


def test_a_contact_stays_while_a_late_request_may_make_a_deleted_child_of_it_anew(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    chain, ada, _, _ = loaded(sandbox_factory, tmp_path)
    [bob] = chain.admin.create("contact", {"firstname": "Bob"})
    assert chain.sync()[0] == 0
    lost(chain, "POST", "/cusOrder$")
    order, line = chain.order(bob)
    assert chain.sync()[0] == 0
    chain.admin.delete("new_orderline", [line])
    chain.admin.delete("new_order", [order])
    assert chain.sync()[0] == 0

    take_effect(chain.program)
    assert order in chain.held()["cusOrder"]

    chain.admin.delete("contact", [bob])
    assert chain.sync()[0] == 2
    assert waiting(chain) == {"contact": 1}
    chain.assert_no_hidden_child()

    chain.program.pass_horizon()
    assert_in_step(chain, 1, 1)
    assert chain.held()["profile"].keys() == {ada}
