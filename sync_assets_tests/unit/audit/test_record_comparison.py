"""What a record that Campaign holds is worth as an acknowledgement."""

from typing import Any

import pytest

from sync_assets.audit.record_comparison import found_to_hold
from sync_assets.campaign.metadata import Resource
from sync_assets.ledger.model import OTHER, Claimed, LinkTo
from sync_assets.runtime.pkeys import ListedKeys
from sync_assets_tests.support.sample_tables import attributes

ORDER = Resource(
    "cusOrder", "profileAndServicesExt", attributes(cusName="string", cusOwner="string", cusContactLink="link")
)
HASH = b"h" * 16
ANNA = "anna's id"
PKEYS = {"@anna": ANNA, "@bert": "bert's id"}


def order(payload: str | None = '{"cusName":"N"}', *links: LinkTo, update: str | None = None) -> Claimed:
    return Claimed(1, "id", "insert", payload, update, HASH, 0, True, links)


def by_key(id_: str | None) -> LinkTo:
    return LinkTo("cusContactLink", id_, True)


@pytest.mark.parametrize(
    ("record", "held", "hash_", "links"),
    [
        (order(), {"cusName": "N"}, HASH, ()),
        (order(), {"cusName": "Other"}, OTHER, ()),
        (order(), {}, OTHER, ()),
        (order(None), {"cusName": "N"}, OTHER, ()),  # what should be there is not known
        # What is sent once is not compared.
        (order('{"cusName":"N","cusOnce":"x"}', update='{"cusName":"N"}'), {"cusName": "N"}, HASH, ()),
        # Links by the parent's key: the ledger is told what Campaign holds, and sends what it should.
        (order('{"cusName":"N"}', by_key(ANNA)), {"cusName": "N", "cusContactLink": {"PKey": "@anna"}}, HASH, (ANNA,)),
        (order('{"cusName":"N"}', by_key(ANNA)), {"cusName": "N", "cusContactLink": None}, HASH, (None,)),
        (
            order('{"cusName":"N"}', by_key(ANNA)),
            {"cusName": "N", "cusContactLink": {"PKey": "@bert"}},
            HASH,
            ("bert's id",),
        ),
        # One that leads to somebody who is not ours is to go: an update of everything takes it back.
        (order('{"cusName":"N"}', by_key(None)), {"cusName": "N", "cusContactLink": {"PKey": "@eve"}}, OTHER, (None,)),
        # Joined by an attribute: it is part of what is sent.
        (
            order('{"cusName":"N","cusOwner":"a"}', LinkTo("cusOwner", "a", False)),
            {"cusName": "N", "cusOwner": "A"},
            HASH,
            ("a",),
        ),
        (
            order('{"cusName":"N","cusOwner":"a"}', LinkTo("cusOwner", "a", False)),
            {"cusName": "N", "cusOwner": ""},
            OTHER,
            (None,),
        ),
    ],
)
def test_a_record_is_acknowledged_if_it_holds_the_payload(
    record: Claimed, held: dict[str, Any], hash_: bytes, links: tuple[str | None, ...]
) -> None:
    outcome = found_to_hold(record, held, ORDER, lambda link, pkey: PKEYS.get(pkey))
    assert (outcome.result, outcome.hash) == ("done", hash_)
    assert tuple(link.id for link in outcome.links) == links


def test_pkeys_are_known_as_long_as_they_are_needed() -> None:
    keys = ListedKeys()
    keys.add("profile", [("1", {"PKey": "@a"}), ("2", {"PKey": "@b"})])
    keys.add("profile", [("3", {"PKey": "@b"})])
    keys.add("cusOrder", [("1", {"PKey": "@a"}), ("1", {"PKey": "@b"}), ("1", {"PKey": "@b"})])
    assert [keys.id_of("profile", pkey) for pkey in ("@a", "@b", "@c")] == ["1", "3", None]
    assert (keys.repeated("profile"), keys.repeated("cusOrder")) == (0, 1)
    keys.complete.add("profile")
    keys.forget("profile")
    assert (keys.id_of("profile", "@a"), keys.id_of("cusOrder", "@a"), keys.complete) == (None, "1", set())
    keys.close()
