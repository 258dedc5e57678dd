"""The JSON body of a request: the stored payload, links by the parents' keys, and opt-outs of new records."""

import json
from typing import Any

import pytest

from sync_assets.json_members import without
from sync_assets.ledger.model import Claimed, LinkTo, Operation
from sync_assets.push.request_body import body

TO_ADA = LinkTo("cusContactLink", "ada", keyed=True)
NOWHERE = LinkTo("cusContactLink", None, keyed=True)
HELD = LinkTo("cusContactLink", "ada", keyed=True, acknowledged=True)
JOINED = LinkTo("cusContactId", "ada", keyed=False)


def claimed(*links: LinkTo) -> Claimed:
    return Claimed(1, "order1", "update", None, None, b"h", 0, False, links)


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


BOTH = (("blackListEmail", True), ("blackListPhone", False))


def contact(operation: Operation = "insert", opt_outs: tuple[tuple[str, bool], ...] = BOTH) -> Claimed:
    return Claimed(1, "ada", operation, None, None, b"h", 0, False, opt_outs=opt_outs)


@pytest.mark.parametrize("form", ['{"k":"ada","n":1}', None])
def test_a_post_carries_opt_outs_and_never_false(form: str | None) -> None:
    """Campaign's own default is no opt-out, and false would undo what a person said there a moment ago."""
    sent = {"k": "ada", **({"n": 1} if form else {})}
    assert json.loads(body(form, contact(), "k", patch=False)) == {**sent, "blackListEmail": True}
    none = contact(opt_outs=(("blackListEmail", False), ("blackListPhone", False)))
    assert json.loads(body(form, none, "k", patch=False)) == sent


def test_opt_outs_stand_behind_the_links() -> None:
    record = Claimed(1, "ada", "insert", None, None, b"h", 0, False, (TO_ADA,), BOTH)
    expected = {"k": "ada", "cusContactLink": {"PKey": "ada"}, "blackListEmail": True}
    assert json.loads(body('{"k":"ada"}', record, "k", patch=False)) == expected


def test_a_post_without_links_and_opt_outs_is_the_stored_payload_to_the_byte() -> None:
    form = '{"k":"ada","n":1.50,"location":{"city":"\u0141\u00f3d\u017a"}}'
    assert body(form, contact(opt_outs=()), "k", patch=False) == form.encode()


@pytest.mark.parametrize(
    ("form", "left"),
    [
        ('{"a":1,"k":2,"z":"\u00eb"}', '{"a":1,"z":"\u00eb"}'),
        ('{ "a" : 1.50 }', '{ "a" : 1.50 }'),  # without the member the text is the same
        ('{"k":null}', "{}"),
        ("{}", "{}"),
        (None, "{}"),
    ],
)
def test_a_member_is_left_out_and_the_text_of_the_others_stays(form: str | None, left: str) -> None:
    assert without(form, "k") == left
