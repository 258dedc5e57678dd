"""The switches of what the real Dataverse may do otherwise: tokens, repeats, large pages, clocks. Both positions."""

from typing import Any, Literal

import pytest

from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

TRACK = "odata.track-changes"
Taken = Literal["start", "end"]


def ids_of(items: list[dict[str, Any]]) -> list[str]:
    """Ids of changed rows, `-` before those of deletions."""
    return [f"-{item['id']}" if item.get("reason") == "deleted" else item["contactid"] for item in items]


@pytest.mark.parametrize("select", ["firstname", "contactid", "contactid,modifiedon"])
@pytest.mark.parametrize("taken", ["start", "end"])
def test_changes_of_rows_already_read_during_a_first_read(api: WebApi, taken: Taken, select: str) -> None:
    api.org.switches.delta_link_taken = taken
    first, second, *_ = sorted(api.new(firstname="old") for _ in range(4))
    page = api.get(f"contacts?$select={select}", f"{TRACK},odata.maxpagesize=2").json
    assert ids_of(page["value"]) == [first, second]
    new = api.new(contactid="00000000-0000-4000-8000-000000000001", firstname="new")
    api.patch(f"contacts({first})", {"firstname": "changed"})
    api.delete(f"contacts({second})")
    last = api.get(page["@odata.nextLink"], "odata.maxpagesize=5").json
    assert new not in ids_of(last["value"]), "it was inserted before the place of the read"
    delta = api.get(last["@odata.deltaLink"]).json
    assert ids_of(delta["value"]) == ([new, first, f"-{second}"] if taken == "start" else [])
    api.patch(f"contacts({first})", {"firstname": "later"})
    assert ids_of(api.get(delta["@odata.deltaLink"]).rows) == [first], "what comes later is told in each position"


@pytest.mark.parametrize("taken", ["start", "end"])
def test_changes_during_a_delta_of_several_pages(api: WebApi, taken: Taken) -> None:
    api.org.switches.delta_link_taken = taken
    delta = api.get("contacts?$select=firstname", TRACK).json["@odata.deltaLink"]
    contacts = [api.new(firstname="new") for _ in range(3)]
    page = api.get(delta, "odata.maxpagesize=2").json
    api.patch(f"contacts({contacts[0]})", {"firstname": "changed"})
    last = api.get(page["@odata.nextLink"], "odata.maxpagesize=2").json
    assert ids_of(last["value"]) == [contacts[2]]
    assert ids_of(api.get(last["@odata.deltaLink"]).rows) == ([contacts[0]] if taken == "start" else [])


def delta_after_changes(api: WebApi) -> tuple[str, list[str]]:
    """A row changed twice, one made and changed, one made, one deleted; the link, and their ids."""
    changed, gone = api.new(firstname="a1"), api.new(firstname="g1")
    delta = api.get("contacts?$select=firstname", TRACK).json["@odata.deltaLink"]
    for name in ("a2", "a3"):
        api.patch(f"contacts({changed})", {"firstname": name})
    made = api.new(firstname="m1")
    api.patch(f"contacts({made})", {"firstname": "m2"})
    new = api.new(firstname="n1")
    api.patch(f"contacts({gone})", {"firstname": "g2"})
    api.delete(f"contacts({gone})")
    return delta, [changed, made, new, gone]


def shown(items: list[dict[str, Any]]) -> list[str]:
    return ["-" if item.get("reason") == "deleted" else item["firstname"] for item in items]


@pytest.mark.parametrize(
    ("repeats", "names"), [(False, ["a3", "m2", "n1", "-"]), (True, ["a2", "m1", "a3", "m2", "n1", "-"])]
)
def test_a_page_of_changes_may_hold_the_earlier_state_of_a_row_first(
    api: WebApi, repeats: bool, names: list[str]
) -> None:
    api.org.switches.page_repeats = repeats
    delta, [changed, *_] = delta_after_changes(api)
    rows = api.get(delta).rows
    assert shown(rows) == names
    if repeats:
        versions = [int(row["@odata.etag"][3:-1]) for row in rows if row.get("contactid") == changed]
        assert versions == sorted(set(versions)), "an earlier state has an earlier version"
