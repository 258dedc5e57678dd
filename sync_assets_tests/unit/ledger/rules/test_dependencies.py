"""What a record's parents mean for it, as a table: its links x the states of the parents that they name."""

from __future__ import annotations

from typing import Any

import pytest

from sync_assets.ledger import State
from sync_assets.ledger.model import BlockReason
from sync_assets.ledger.rules.dependencies import (
    FORMER,
    OUTCOME_UNKNOWN,
    Link,
    ParentStatus,
    is_link_lost,
    status_of_parents,
)
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets_tests.unit.ledger.rules.test_transitions import CHANGED, GONE, IN_DOUBT, NEW, REFUSED, SENT, stand

CHILD = stand(SENT)
INVALID = stand(REFUSED, acked_hash=b"b" * 16)
OPEN, COMING, ABSENT = BlockReason.NONE, BlockReason.PARENT_PENDING, BlockReason.PARENT_UNAVAILABLE

SYNCED, PENDING, DELETED = stand(SENT, state=State.SYNCED), stand(NEW), stand(GONE)
FILTERED = stand(state=State.SYNCED, withdrawn=1)
"""Out of scope before Campaign acknowledged it, with nothing left to send: it may stand in Campaign."""
UNRESOLVED = stand(CHANGED, IN_DOUBT, state=State.FAILED)
"""The outcome of a request is unknown, and no further request is due."""
ROWS: dict[str, RecordState] = {
    "synced": SYNCED,
    "pending": PENDING,
    "deleted": DELETED,
    "filtered": FILTERED,
    "unresolved": UNRESOLVED,
    "unresolved, waiting": stand(CHANGED, IN_DOUBT, state=State.WAITING),
    "resolving": stand(CHANGED, IN_DOUBT),
    "waiting": stand(NEW, state=State.WAITING, gate=BlockReason.PARENT_PENDING),
    "rejected": stand(NEW, state=State.FAILED),
    "deleted before it was sent": stand(GONE, acked_hash=None),
}
PARENTS = {("contact", id_): row for id_, row in ROWS.items()}


def link(parent: str | None, held: int = 0, other: str | None = None, **more: Any) -> Link:
    columns: dict[str, Any] = {"required": 1, "keyed": 1, "wanted": 0, "held": held, "other_id": other}
    return Link(1, "cusContact", "contact", parent, **columns | more)


def status(record: RecordState, *links: Link, read: tuple[str, ...] = ()) -> ParentStatus:
    return status_of_parents(record, links, PARENTS, read)


REQUIRED: dict[str, Any] = {"required": 1, "keyed": 1}
OPTIONAL: dict[str, Any] = {"required": 0, "keyed": 1}
JOINED: dict[str, Any] = {"required": 1, "keyed": 0}
LOOSE: dict[str, Any] = {"required": 0, "keyed": 0}
"""A link is sent with the parent's key (keyed), or joined by a plain attribute; it may be required or not."""


@pytest.mark.parametrize(
    ("kind", "parent", "held", "other", "gate", "relink", "wanted"),
    [
        # The parent stands in Campaign: the child goes, with its link if the record there does not hold it.
        (REQUIRED, "synced", 0, None, OPEN, True, 1),
        (OPTIONAL, "synced", 0, None, OPEN, True, 1),
        (JOINED, "synced", 0, None, OPEN, False, 1),
        (LOOSE, "synced", 0, None, OPEN, False, 1),
        (REQUIRED, "synced", 1, None, OPEN, False, 1),
        (REQUIRED, "synced", FORMER, "deleted", OPEN, True, 1),
        (REQUIRED, "synced", FORMER, "synced", OPEN, True, 1),
        (REQUIRED, "filtered", 1, None, OPEN, False, 1),
        (REQUIRED, "filtered", 0, None, ABSENT, False, 0),
        (REQUIRED, "resolving", 1, None, OPEN, False, 1),
        # The parent will come: the child waits where the link names it.
        (REQUIRED, "pending", 0, None, COMING, False, 0),
        (OPTIONAL, "pending", 0, None, COMING, False, 0),
        (JOINED, "pending", 0, None, COMING, False, 0),
        (LOOSE, "pending", 0, None, OPEN, False, 0),
        (REQUIRED, "pending", FORMER, "synced", COMING, False, 0),
        (REQUIRED, "resolving", 0, None, COMING, False, 0),
        # The parent will not come: a child that requires it must not stand there, another one loses its link.
        (REQUIRED, "nowhere", 0, None, ABSENT, False, 0),
        (REQUIRED, "deleted", 1, None, ABSENT, True, 0),
        (JOINED, "deleted", 1, None, ABSENT, False, 0),
        (OPTIONAL, "nowhere", 0, None, OPEN, False, 0),
        (OPTIONAL, "deleted", 1, None, OPEN, True, 0),
        (OPTIONAL, "deleted", FORMER, "synced", OPEN, True, 0),
        (LOOSE, "deleted", 1, None, OPEN, False, 0),
        (OPTIONAL, None, 1, None, OPEN, True, 0),
        # Except that it stays with its former parent, as long as that one stands.
        (REQUIRED, "nowhere", FORMER, "synced", COMING, False, 0),
        (JOINED, "nowhere", FORMER, "synced", COMING, False, 0),
        (REQUIRED, "nowhere", FORMER, "filtered", COMING, False, 0),
        (REQUIRED, "nowhere", FORMER, "deleted", ABSENT, True, 0),
        (REQUIRED, "nowhere", FORMER, None, ABSENT, True, 0),
        (REQUIRED, "nowhere", 1, "synced", ABSENT, True, 0),
        (LOOSE, "nowhere", FORMER, "synced", OPEN, False, 0),
    ],
)
def test_one_link(
    kind: dict[str, Any], parent: str | None, held: int, other: str | None, gate: BlockReason, relink: bool, wanted: int
) -> None:
    one = link(parent, held, other, **kind)
    found = status(CHILD, one)
    assert (found.block_reason, found.relink, found.wanted) == (gate, relink, [(one, wanted)])


def test_a_record_without_links_depends_on_nothing() -> None:
    assert status(CHILD) == ParentStatus(OPEN, False, False, [])


def test_a_link_whose_last_request_is_unresolved_stays_as_it_is() -> None:
    assert status(CHILD, link("nowhere", OUTCOME_UNKNOWN, "synced")) == ParentStatus(OPEN, False, False, [])


def test_the_worst_parent_decides_and_no_later_link_takes_it_back() -> None:
    worst, coming, good = link("nowhere"), link("pending"), link("synced")
    for links in ((worst, coming, good), (good, coming, worst)):
        found = status(CHILD, *links, read=("contact",))
        assert (found.block_reason, found.relink, found.orphaned) == (ABSENT, True, True)
        assert found.wanted == [(one, int(one is good)) for one in links]
    unknown = link("nowhere", OUTCOME_UNKNOWN, "synced")
    assert status(CHILD, unknown, coming).block_reason == COMING


@pytest.mark.parametrize(
    ("parent", "parent_gone", "read", "lost"),
    [
        (None, 0, (), True),
        ("nowhere", 0, (), False),
        ("nowhere", 1, (), True),
        ("nowhere", 0, ("contact",), True),
        ("nowhere", 0, ("order",), False),
        ("deleted", 0, (), True),
        ("rejected", 1, ("contact",), False),
        ("deleted before it was sent", 0, (), True),
    ],
)
def test_a_required_parent_is_lost_once_it_cannot_come(
    parent: str | None, parent_gone: int, read: tuple[str, ...], lost: bool
) -> None:
    one = link(parent, parent_gone=parent_gone)
    assert status(CHILD, one, read=read).orphaned is lost
    assert is_link_lost(one, ROWS.get(parent or ""), read) is lost
    assert not status(CHILD, one._replace(required=0), read=read).orphaned


@pytest.mark.parametrize("parent", ["synced", "pending"])
def test_a_parent_that_stands_or_comes_is_not_lost(parent: str) -> None:
    assert not status(CHILD, link(parent, parent_gone=1), read=("contact",)).orphaned


def test_a_child_that_stays_with_its_former_parent_is_not_lost() -> None:
    assert not status(CHILD, link("nowhere", FORMER, "synced"), read=("contact",)).orphaned


def test_stored_numbers_keep_their_meaning() -> None:
    assert (FORMER, OUTCOME_UNKNOWN, link("synced").parent_gone) == (2, 3, 0)


@pytest.mark.parametrize(
    ("child", "links", "gate"),
    [
        # Of a row with a validation error only keyed links are sent, and only if no request is unresolved.
        (INVALID, [link("deleted", 1, **LOOSE)], OPEN),
        (INVALID, [link("deleted", 1, **OPTIONAL)], OPEN),
        (INVALID._replace(uncertain=1), [link("deleted", 1, **OPTIONAL)], ABSENT),
        (INVALID._replace(uncertain=1), [link("deleted", 0, **OPTIONAL)], ABSENT),
        (CHILD._replace(uncertain=1), [link("deleted", 1, **OPTIONAL)], OPEN),
        (INVALID, [link("synced", FORMER, "deleted", **JOINED)], ABSENT),
        (INVALID, [link("synced", FORMER, "deleted", **REQUIRED)], OPEN),
        (INVALID._replace(uncertain=1), [link("synced", FORMER, "deleted", **OPTIONAL)], ABSENT),
        (INVALID._replace(uncertain=1), [link("synced", OUTCOME_UNKNOWN, "deleted", **OPTIONAL)], ABSENT),
        (INVALID._replace(uncertain=1), [link("synced", 1, "deleted", **OPTIONAL)], OPEN),
        (INVALID._replace(uncertain=1), [link("synced", 0, **OPTIONAL)], OPEN),
        (INVALID._replace(uncertain=1), [link("deleted before it was sent", 1, **OPTIONAL)], OPEN),
        (INVALID._replace(uncertain=1), [link(None, 1, **OPTIONAL)], OPEN),
        (INVALID._replace(uncertain=1), [link("nowhere", 1, **OPTIONAL)], OPEN),
        (CHILD, [link("synced", FORMER, "deleted", **JOINED)], OPEN),
        # A child that stays with its former parent delays the delete of another one.
        (CHILD, [link("nowhere", FORMER, "synced"), link("deleted", 1, **OPTIONAL)], ABSENT),
        (CHILD, [link("nowhere", FORMER, "synced"), link("deleted", 0, **OPTIONAL)], COMING),
        (CHILD, [link("nowhere", FORMER, "synced"), link("deleted", 1, **LOOSE)], COMING),
        # So does one whose new parent stays unresolved.
        (CHILD, [link("unresolved", FORMER, "deleted")], ABSENT),
        (CHILD, [link("unresolved, waiting", FORMER, "deleted")], ABSENT),
        (CHILD, [link("resolving", FORMER, "deleted")], COMING),
        (CHILD, [link("pending", FORMER, "deleted")], COMING),
        (CHILD, [link("waiting", FORMER, "deleted")], COMING),
        (CHILD, [link("unresolved", 1), link("deleted", 1, **OPTIONAL)], OPEN),
        (CHILD, [link("unresolved", FORMER, "synced")], COMING),
        (CHILD, [link("unresolved", FORMER, "deleted", **OPTIONAL)], ABSENT),
        (CHILD, [link("unresolved", FORMER, "deleted", **LOOSE)], OPEN),
        (CHILD, [link("synced", FORMER, "deleted"), link("synced", 1)], OPEN),
    ],
)
def test_a_child_that_cannot_be_relinked_goes_before_a_parent_that_is_to_be_deleted(
    child: RecordState, links: list[Link], gate: BlockReason
) -> None:
    assert status(child, *links).block_reason == gate


@pytest.mark.parametrize(("kind", "gate"), [(OPTIONAL, OPEN), (LOOSE, OPEN), (REQUIRED, ABSENT), (JOINED, ABSENT)])
def test_an_excluded_child_goes_only_before_a_parent_that_it_requires(kind: dict[str, Any], gate: BlockReason) -> None:
    child, links = INVALID._replace(uncertain=1), [link("synced", FORMER, "deleted", **kind)]
    assert status_of_parents(child, links, PARENTS, (), excluded=True).block_reason == gate
