"""What is sent of a record: its stored form, and its links by the parents' keys."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from sync_assets.ingress.delivery import body
from sync_assets.ledger import Claimed, LinkTo

TO_ADA = LinkTo("cusContactLink", "ada", keyed=True)
NOWHERE = LinkTo("cusContactLink", None, keyed=True)
JOINED = LinkTo("cusContactId", "ada", keyed=False)


def claimed(*links: LinkTo) -> Claimed:
    return Claimed(1, "order1", date(2026, 11, 24), "update", None, None, b"h", 0, False, links)


@pytest.mark.parametrize(
    ("form", "links", "post", "patch"),
    [
        ('{"k":"order1","n":1}', [], {"k": "order1", "n": 1}, {"k": "order1", "n": 1}),
        ('{"k":"order1"}', [TO_ADA], {"cusContactLink": {"PKey": "ada"}}, {"cusContactLink": {"PKey": "ada"}}),
        ('{"k":"order1"}', [NOWHERE], {}, {"cusContactLink": None}),  # a PATCH takes back what an earlier one said
        ('{"k":"order1"}', [JOINED], {}, {}),  # stands in the form already
        (None, [NOWHERE], {}, {"cusContactLink": None}),  # the links alone, addressed by the key
    ],
)
def test_links_are_put_behind_the_stored_form(
    form: str | None, links: list[LinkTo], post: dict[str, Any], patch: dict[str, Any]
) -> None:
    for is_patch, expected in ((False, post), (True, patch)):
        assert json.loads(body(form, claimed(*links), "k", patch=is_patch)) == {"k": "order1", **expected}
