"""What a record's parents mean for it, as a table: its links x the states of the parents that they name."""

import itertools
from typing import Any

import pytest

from sync_assets.ledger.model import BlockReason, Orphaned, State
from sync_assets.ledger.rules.dependencies import (
    Link,
    ParentStatus,
    is_acknowledged,
    parent_status,
    stands,
    status_of_parents,
)
from sync_assets.ledger.rules.record_state import Dependencies, RecordState
from sync_assets_tests.unit.ledger.rules.test_transitions import CHANGED, GONE, IN_DOUBT, NEW, SENT, stand

CHILD = stand(SENT)
OPEN, COMING, ABSENT = BlockReason.NONE, BlockReason.PARENT_PENDING, BlockReason.PARENT_UNAVAILABLE
NO, KEPT, DELETED = Orphaned

ROWS: dict[str, RecordState] = {
    "synced": stand(SENT, state=State.SYNCED, incarnation=2),
    "changed": stand(CHANGED, incarnation=2),
    "rejected update": stand(CHANGED, state=State.REJECTED, incarnation=2),
    "out of scope": stand(SENT, state=State.SYNCED, out_of_scope=1, incarnation=2),
    "in doubt": stand(CHANGED, IN_DOUBT, incarnation=2),
    "may vanish": stand(SENT, state=State.UNCONFIRMED, unknown_until=1, incarnation=2),
    "lost insert arrived": stand(SENT, state=State.UNCONFIRMED, unknown_until=1, incarnation=1),
    "pending": stand(NEW),
    "waiting": stand(NEW, state=State.WAITING, block_reason=BlockReason.PARENT_PENDING),
    "lost insert": stand(NEW, IN_DOUBT),
    "rejected": stand(NEW, state=State.REJECTED),
    "waiting for a rejected one": stand(NEW, state=State.WAITING, block_reason=BlockReason.PARENT_UNAVAILABLE),
    "deleted": stand(GONE, incarnation=2),
    "deleted before it was sent": stand(GONE, acked_hash=None),
    "kept orphan": stand(SENT, orphaned=KEPT, incarnation=2),
    "deleted orphan": stand(SENT, orphaned=DELETED, incarnation=2),
}
PARENTS = {("contact", id_): row for id_, row in ROWS.items()}
STATUS: dict[str | None, ParentStatus] = {
    "synced": ParentStatus.AVAILABLE,
    "changed": ParentStatus.AVAILABLE,
    "rejected update": ParentStatus.AVAILABLE,
    "out of scope": ParentStatus.AVAILABLE,
    "in doubt": ParentStatus.PENDING,
    "may vanish": ParentStatus.PENDING,
    "lost insert arrived": ParentStatus.AVAILABLE,
    "pending": ParentStatus.PENDING,
    "waiting": ParentStatus.PENDING,
    "lost insert": ParentStatus.PENDING,
    "rejected": ParentStatus.UNAVAILABLE,
    "waiting for a rejected one": ParentStatus.UNAVAILABLE,
    "not captured": ParentStatus.UNAVAILABLE,
    "deleted": ParentStatus.GONE,
    "deleted before it was sent": ParentStatus.GONE,
    "kept orphan": ParentStatus.GONE,
    "deleted orphan": ParentStatus.GONE,
    None: ParentStatus.GONE,
}


def link(parent: str | None, acked: str | None = None, incarnation: int | None = 2, **more: Any) -> Link:
    columns: dict[str, Any] = {"required": 1, "keyed": 1, "keep_orphans": 0}
    columns |= {"acked_id": acked, "acked_incarnation": incarnation if acked else None}
    return Link(1, "cusContact", "contact", parent, **columns | more)


def status(record: RecordState, *links: Link, read: tuple[str, ...] = ()) -> Dependencies:
    return status_of_parents(record, links, PARENTS, read)


REQUIRED: dict[str, Any] = {"required": 1, "keyed": 1}
OPTIONAL: dict[str, Any] = {"required": 0, "keyed": 1}
JOINED: dict[str, Any] = {"required": 1, "keyed": 0}
LOOSE: dict[str, Any] = {"required": 0, "keyed": 0}
"""A link is sent with the parent's key (keyed), or joined by a plain attribute; it may be required or not."""


@pytest.mark.parametrize("parent", STATUS, ids=str)
def test_a_parent_by_its_record_alone(parent: str | None) -> None:
    record = ROWS.get(parent or "")
    assert parent_status(link(parent), record, ()) == STATUS[parent]
    in_campaign = STATUS[parent] == ParentStatus.AVAILABLE or parent in ("in doubt", "may vanish")
    assert stands(record) is in_campaign, "a claim names the parents that Campaign holds"


@pytest.mark.parametrize(
    ("parent_loss", "read", "result"),
    [
        (0, (), ParentStatus.UNAVAILABLE),
        (0, ("order",), ParentStatus.UNAVAILABLE),
        (1, (), ParentStatus.GONE),
        (0, ("contact",), ParentStatus.GONE),
    ],
)
def test_a_parent_without_a_record_may_come_until_its_table_is_read_or_its_loss_is_known(
    parent_loss: int, read: tuple[str, ...], result: ParentStatus
) -> None:
    assert parent_status(link("not captured", parent_loss=parent_loss), None, read) == result


def test_a_parents_loss_is_forgotten_once_it_comes_back() -> None:
    assert parent_status(link("synced", parent_loss=1), ROWS["synced"], ("contact",)) == ParentStatus.AVAILABLE
    assert parent_status(link("rejected", parent_loss=1), ROWS["rejected"], ("contact",)) == ParentStatus.UNAVAILABLE


@pytest.mark.parametrize("name", ["in doubt", "may vanish"])
def test_a_linked_child_goes_on_while_a_request_for_its_parent_is_unknown(name: str) -> None:
    """An unlinked one waits, also one that was linked to an earlier incarnation, or perhaps is not linked any more."""
    parent = ROWS[name]
    assert parent_status(link("1", "1"), parent._replace(id="1"), ()) == ParentStatus.AVAILABLE
    for one in (link("1"), link("1", "1", 1), link("1", "1", None), link("1", "2")):
        assert parent_status(one, parent, ()) == ParentStatus.PENDING


@pytest.mark.parametrize(
    ("kind", "acked", "incarnation", "wanted", "result"),
    [
        (REQUIRED, "synced", 2, True, True),
        (REQUIRED, "synced", 1, True, False),
        (REQUIRED, "synced", None, True, False),
        (REQUIRED, "deleted", 2, True, False),
        (REQUIRED, None, None, True, False),
        (JOINED, "synced", 1, True, True),
        (JOINED, "synced", None, True, False),
        (JOINED, "deleted", 2, True, False),
        (OPTIONAL, "synced", 2, False, False),
        (OPTIONAL, "synced", None, False, False),
        (OPTIONAL, None, None, False, True),
        (LOOSE, "synced", 2, False, True),
    ],
)
def test_an_acknowledged_link_names_parent_and_incarnation(
    kind: dict[str, Any], acked: str | None, incarnation: int | None, wanted: bool, result: bool
) -> None:
    one = link("synced", acked, incarnation, **kind)
    assert is_acknowledged(one, ROWS["synced"], wanted=wanted) is result


@pytest.mark.parametrize(
    ("kind", "parent", "acked", "expected"),
    [
        # The parent stands in Campaign: the child goes, with its link if that is not acknowledged.
        (REQUIRED, "synced", None, Dependencies(relink=True)),
        (OPTIONAL, "synced", None, Dependencies(relink=True)),
        (JOINED, "synced", None, Dependencies(relink=True)),
        (REQUIRED, "synced", "synced", Dependencies()),
        (REQUIRED, "synced", "deleted", Dependencies(relink=True)),
        # The parent will come: the child waits where the link names it.
        (REQUIRED, "pending", None, Dependencies(block_reason=COMING, relink=True)),
        (REQUIRED, "pending", "synced", Dependencies(block_reason=COMING, relink=True)),
        (OPTIONAL, "pending", None, Dependencies(block_reason=COMING, relink=False)),
        (JOINED, "pending", None, Dependencies(block_reason=COMING, relink=True)),
        # The parent may come: a child that requires it waits, another one is sent without it.
        (REQUIRED, "rejected", "synced", Dependencies(block_reason=ABSENT, relink=True)),
        (JOINED, "not captured", None, Dependencies(block_reason=ABSENT, relink=True)),
        (OPTIONAL, "rejected", "synced", Dependencies(relink=True)),
        (OPTIONAL, "rejected", None, Dependencies()),
        # The parent is gone for good: a child that requires it is orphaned, another one loses its link.
        (REQUIRED, "deleted", "deleted", Dependencies(orphaned=DELETED)),
        (JOINED, None, None, Dependencies(orphaned=DELETED)),
        # (but with the parent to which Campaign links it, if that stays)
        (JOINED, None, "synced", Dependencies(orphaned=KEPT)),
        (REQUIRED, "deleted", "synced", Dependencies(orphaned=KEPT)),
        (REQUIRED, "kept orphan", "kept orphan", Dependencies(orphaned=KEPT)),
        (REQUIRED, None, "deleted orphan", Dependencies(orphaned=DELETED)),
        (REQUIRED, None, "not captured", Dependencies(orphaned=DELETED)),
        (REQUIRED | {"keep_orphans": 1}, "deleted", "deleted", Dependencies(orphaned=KEPT)),
        (OPTIONAL, "deleted", "deleted", Dependencies(relink=True)),
        (OPTIONAL, None, None, Dependencies()),
    ],
)
def test_one_link(kind: dict[str, Any], parent: str | None, acked: str | None, expected: Dependencies) -> None:
    assert status(CHILD, link(parent, acked, **kind)) == expected


def test_a_record_out_of_scope_whose_link_was_forgotten_is_no_orphan() -> None:
    """Its parents have another target since then. Campaign keeps the record, and the link to the former parent."""
    kept = CHILD._replace(out_of_scope=1)
    assert status(kept, link(None, None, **REQUIRED)) == Dependencies()
    assert status(kept, link(None, "deleted", **REQUIRED)).orphaned == DELETED


def test_a_plain_attribute_that_needs_no_parent_means_nothing() -> None:
    for parent, outcome_unknown in itertools.product(STATUS, (0, 1)):
        assert (
            status(CHILD._replace(outcome_unknown=outcome_unknown), link(parent, "synced", **LOOSE)) == Dependencies()
        )


def test_the_links_of_a_record_in_doubt_are_to_be_sent() -> None:
    assert status(CHILD._replace(outcome_unknown=1), link("synced", "synced")).relink
    assert status(CHILD._replace(outcome_unknown=1)) == Dependencies()


def test_the_worst_parent_decides_and_no_other_link_takes_it_back() -> None:
    """Also, an orphan is deleted if one of the links that it lost says so."""
    kinds: list[dict[str, Any]] = [REQUIRED, REQUIRED | {"keep_orphans": 1}, OPTIONAL]
    every = [link(parent, **kind) for parent in STATUS for kind in kinds]
    for links in itertools.permutations(every[::3] + every[1::7], 2):
        result, alone = status(CHILD, *links), [status(CHILD, one) for one in links]
        assert result.block_reason == max(one.block_reason for one in alone)
        assert result.relink == any(one.relink for one in alone)
        assert result.orphaned == max(one.orphaned for one in alone)
