"""The systems that a ledger belongs to: the first ones, until a person says that they moved."""

import pytest

from sync_assets.ledger import Ledger


def test_the_first_one_that_is_noted_stays(ledger: Ledger) -> None:
    assert ledger.systems.stored() == {}
    assert ledger.systems.note("d365", "https://a.example", "org-a").identity == "org-a"
    assert ledger.systems.note("d365", "https://b.example", "org-b").url == "https://a.example"
    ledger.systems.note("campaign", "https://c.example/acme", None)
    assert [(s.side, s.url, s.identity) for s in sorted(ledger.systems.stored().values())] == [
        ("campaign", "https://c.example/acme", None),
        ("d365", "https://a.example", "org-a"),
    ]


@pytest.mark.postgresql
def test_one_that_moved_takes_its_place(ledger: Ledger) -> None:
    ledger.systems.note("d365", "https://a.example", "org-a")
    ledger.systems.replace("d365", "https://b.example", "org-b")
    assert ledger.systems.stored()["d365"][1:3] == ("https://b.example", "org-b")
