"""What is sent of a record: its stored form, its links by the parents' keys, and opt-outs while it is made."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from sync_assets.ledger import Claimed, LinkTo, Operation
from sync_assets.push.delivery import Delivery, OperationDone, body, outcome

TO_ADA = LinkTo("cusContactLink", "ada", keyed=True)
NOWHERE = LinkTo("cusContactLink", None, keyed=True)
HELD = LinkTo("cusContactLink", "ada", keyed=True, held=True)
JOINED = LinkTo("cusContactId", "ada", keyed=False)


def claimed(*links: LinkTo) -> Claimed:
    return Claimed(1, "order1", date(2026, 11, 24), "update", None, None, b"h", 0, False, links)


@pytest.mark.parametrize(
    ("form", "links", "post", "patch"),
    [
        ('{"k":"order1","n":1}', [], {"n": 1}, {"n": 1}),
        ('{"n":1.50,"k":"order1"}', [], {"n": 1.5}, {"n": 1.5}),
        ('{"k":"order1"}', [TO_ADA], {"cusContactLink": {"PKey": "ada"}}, {"cusContactLink": {"PKey": "ada"}}),
        ('{"k":"order1"}', [HELD], {"cusContactLink": {"PKey": "ada"}}, {}),  # Campaign's record holds it already
        ('{"k":"order1"}', [NOWHERE], {}, {"cusContactLink": None}),  # a PATCH takes back what an earlier one said
        ('{"k":"order1"}', [JOINED], {}, {}),  # stands in the form already
        (None, [NOWHERE], {}, {"cusContactLink": None}),  # the links alone
    ],
)
def test_links_are_put_behind_the_stored_form(
    form: str | None, links: list[LinkTo], post: dict[str, Any], patch: dict[str, Any]
) -> None:
    assert json.loads(body(form, claimed(*links), "k", patch=False)) == {"k": "order1", **post}
    assert json.loads(body(form, claimed(*links), "k", patch=True)) == patch


def test_a_patch_never_names_the_key_and_leaves_the_other_members_as_they_are() -> None:
    """Campaign may refuse the key, even with the value that it has; numbers keep their digits."""
    form = '{"a":1.50,"externalId":"ada","location":{"externalId":"x"},"z":"ë"}'
    kept = '{"a":1.50,"location":{"externalId":"x"},"z":"ë"}'
    assert body(form, claimed(), "externalId", patch=True) == kept.encode()


def test_a_link_is_sent_as_it_was_looked_up() -> None:
    sent = body('{"k":"order1"}', claimed(TO_ADA), "k", patch=True, values={"cusContactLink": "@p"})
    assert json.loads(sent) == {"cusContactLink": {"PKey": "@p"}}


BOTH = (("blackListEmail", True), ("blackListPhone", False))
NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def contact(operation: Operation = "insert", opt_outs: tuple[tuple[str, bool], ...] = BOTH) -> Claimed:
    return Claimed(1, "ada", date(2026, 11, 24), operation, None, None, b"h", 0, False, opt_outs=opt_outs)


@pytest.mark.parametrize("form", ['{"k":"ada","n":1}', None])
def test_a_post_carries_opt_outs_and_never_false(form: str | None) -> None:
    """Campaign's own default is no opt-out, and false would undo what a person said there a moment ago."""
    sent = {"k": "ada", **({"n": 1} if form else {})}
    assert json.loads(body(form, contact(), "k", patch=False)) == {**sent, "blackListEmail": True}
    none = contact(opt_outs=(("blackListEmail", False), ("blackListPhone", False)))
    assert json.loads(body(form, none, "k", patch=False)) == sent


def test_a_patch_carries_none() -> None:
    assert json.loads(body('{"k":"ada","n":1}', contact(), "k", patch=True)) == {"n": 1}


def test_opt_outs_stand_behind_the_links() -> None:
    record = Claimed(1, "ada", date(2026, 11, 24), "insert", None, None, b"h", 0, False, (TO_ADA,), BOTH)
    expected = {"k": "ada", "cusContactLink": {"PKey": "ada"}, "blackListEmail": True}
    assert json.loads(body('{"k":"ada"}', record, "k", patch=False)) == expected


@pytest.mark.parametrize(
    ("operation", "deed", "made", "met"),
    [
        ("insert", "inserted", BOTH, ()),
        ("insert", "updated", (), ("blackListEmail", "blackListPhone")),  # it was there before us
        ("update", "updated", (), ()),
        ("update", "inserted", BOTH, ()),  # Campaign had lost it
        ("delete", "deleted", (), ()),
        ("insert", None, (), ()),  # refused, or put off
    ],
)
def test_the_ledger_is_told_which_opt_outs_a_record_was_made_with_or_met(
    operation: Operation, deed: OperationDone | None, made: tuple[tuple[str, bool], ...], met: tuple[str, ...]
) -> None:
    told = outcome(contact(operation), Delivery("done" if deed else "refused", deed), NOW)
    assert (told.inserted_opt_outs, told.existing_opt_outs) == (made, met)
    assert told.inserted_at == (NOW if made else None)


@pytest.mark.parametrize(
    ("planned", "deed", "operation"),
    [
        ("insert", "inserted", "insert"),
        ("insert", "updated", "update"),  # it was there before us
        ("update", "inserted", "insert"),  # Campaign had lost it
        ("delete", "deleted", "delete"),
        ("insert", None, "insert"),
    ],
)
def test_the_history_names_what_campaign_did_else_what_was_asked_of_it(
    planned: Operation, deed: OperationDone | None, operation: str
) -> None:
    record = replace(contact(planned), payload="{}")
    assert outcome(record, Delivery("done" if deed else "refused", deed), NOW).operation == operation


@pytest.mark.parametrize("delivery", [Delivery("done", "updated"), Delivery("refused", reason="no")])
def test_the_history_tells_an_update_of_links_alone_from_others(delivery: Delivery) -> None:
    record = Claimed(7, "ada", date(2026, 11, 24), "update", None, None, b"h", 0, False, (TO_ADA,))
    assert outcome(record, delivery).operation == "link"


def test_an_outcome_says_what_became_of_the_record() -> None:
    record = Claimed(7, "ada", date(2026, 11, 24), "update", None, None, b"h", 0, False, (TO_ADA,))
    told = outcome(record, Delivery("later", reason="503", wait=3.0))
    assert (told.seq, told.result, told.hash, told.reason) == (7, "later", b"h", "503")
    assert (told.retry_after_seconds, told.links, told.inserted_opt_outs, told.existing_opt_outs) == (
        3.0,
        (TO_ADA,),
        (),
        (),
    )
