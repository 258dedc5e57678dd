"""Change tracking: docs/dev/references/dataverse.md 1, 7 (items 6 and 7) and the switches of 8."""

from typing import Any
from urllib.parse import urlparse

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

TRACK = "odata.track-changes"
QUERY = "contacts?$select=firstname"
EXPIRED = "0x80044352"


def names(items: list[dict[str, Any]]) -> list[str]:
    """First names of rows, `-` for deletions."""
    return ["-" if item.get("reason") == "deleted" else item["firstname"] for item in items]


def first_read(api: WebApi, query: str = QUERY) -> str:
    """Reads all; gives the delta link."""
    _, delta = api.pages(query, TRACK)
    assert delta is not None
    return delta


# Expiry


def test_a_token_expires_with_the_window_which_is_a_column_of_the_organization(api: WebApi) -> None:
    delta = first_read(api)
    api.org.switches.clock_offset_seconds = 7 * 86400 - 60
    assert api.get(delta).status == 200
    api.org.switches.clock_offset_seconds = 7 * 86400 + 60
    reply = api.get(delta)
    assert (reply.status, reply.error) == (400, EXPIRED)
    assert reply.message == ("Version stamp associated with the client has expired. Please perform a full sync.")
    [organization] = api.get("organizations?$select=expirechangetrackingindays").rows
    assert organization["expirechangetrackingindays"] == 7
    api.patch(f"organizations({organization['organizationid']})", {"expirechangetrackingindays": 30})
    assert api.get(delta).status == 200


def test_a_delta_that_expires_between_its_pages_is_told(api: WebApi) -> None:
    delta = first_read(api)
    for _ in range(3):
        api.new()
    page = api.get(delta, "odata.maxpagesize=2").json
    api.org.expire_tokens(api.org.stores["contact"])
    assert api.get(page["@odata.nextLink"], "odata.maxpagesize=2").error == EXPIRED


def test_a_metadata_change_expires_the_tokens_of_its_table(api: WebApi) -> None:
    delta, other = first_read(api), first_read(api, "accounts?$select=name")
    api.org.metadata_changed(api.org.stores["contact"])
    assert api.get(delta).error == EXPIRED
    assert api.get(other).status == 200
    api.org.switches.metadata_change_expires = False
    delta = first_read(api)
    api.org.metadata_changed(api.org.stores["contact"])
    assert api.get(delta).status == 200


# What no public source settles


def test_switch_a_delta_repeats_rows_and_tells_updates_of_deleted_ones(api: WebApi) -> None:
    api.org.switches.delta_repeats = True
    kept, gone = api.new(firstname="a"), api.new(firstname="g")
    delta = first_read(api)
    for name in ("a1", "a2"):
        api.patch(f"contacts({kept})", {"firstname": name})
    api.patch(f"contacts({gone})", {"firstname": "g1"})
    api.delete(f"contacts({gone})")
    assert names(api.get(delta).rows) == ["a2", "a2", "g1", "-"]


@pytest.mark.parametrize("as_deleted", [False, True])
def test_switch_rows_hidden_from_the_role(api: WebApi, as_deleted: bool) -> None:
    api.org.switches.hidden_is_deleted = as_deleted
    contact = api.new(firstname="Ada")
    delta = first_read(api)
    api.org.hide(api.org.stores["contact"], [contact])
    assert names(api.get(delta).rows) == (["-"] if as_deleted else [])
    assert api.get(f"contacts({contact})").status == 404
    assert api.get("contacts").rows == []


# Injected faults


def test_fault_wrong_host_link(api: WebApi) -> None:
    api.faults.add({"system": "d365", "kind": "wrong_host_link", "times": 1})
    assert urlparse(first_read(api)).netloc == "elsewhere.example"
    assert urlparse(first_read(api)).netloc == "org.example"


# Whatever happens, whenever it is read


class Follower(RuleBasedStateMachine):
    """A client that follows the feed page by page, while others write: at the end of a delta it has what D365 has."""

    @initialize()
    def start(self) -> None:
        self.api = WebApi()
        self.seen: dict[str, str] = {}
        self.link: str = QUERY
        self.complete = False

    @rule(name=st.text("ab", min_size=1, max_size=3))
    def create(self, name: str) -> None:
        self.api.new(firstname=name)

    @rule(data=st.data(), name=st.text("cd", min_size=1, max_size=3))
    def change(self, data: st.DataObject, name: str) -> None:
        if ids := self.api.org.stores["contact"].ids():
            self.api.patch(f"contacts({data.draw(st.sampled_from(ids))})", {"firstname": name})

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if ids := self.api.org.stores["contact"].ids():
            self.api.delete(f"contacts({data.draw(st.sampled_from(ids))})")

    @rule(size=st.integers(1, 3))
    def read_a_page(self, size: int) -> None:
        document = self.api.get(self.link, f"{TRACK},odata.maxpagesize={size}").json
        assert len(document["value"]) <= size
        for item in document["value"]:
            if item.get("reason") == "deleted":
                self.seen.pop(item["id"], None)
            else:
                self.seen[item["contactid"]] = item["firstname"]
        self.link = document.get("@odata.nextLink") or document["@odata.deltaLink"]

    @invariant()
    def nothing_is_missed(self) -> None:
        """Checked on a copy of what is known, so that the machine's own reading goes on where it was."""
        if not hasattr(self, "api"):
            return
        seen, link = dict(self.seen), self.link
        for _ in range(2):  # the rest of the read under way, and the delta after it
            pages, delta = self.api.pages(link, TRACK)
            for item in (item for page in pages for item in page):
                if item.get("reason") == "deleted":
                    seen.pop(item["id"], None)
                else:
                    seen[item["contactid"]] = item["firstname"]
            assert delta is not None
            link = delta
        rows = self.api.get(QUERY).rows
        assert seen == {row["contactid"]: row["firstname"] for row in rows}


TestFollower = Follower.TestCase
TestFollower.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
