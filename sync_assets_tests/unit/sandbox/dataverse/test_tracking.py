"""Change tracking: docs/dev/references/dataverse.md 1, 7 (items 6 and 7) and the switches of 8."""

from typing import Any

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


def test_a_delta_that_expires_between_its_pages_is_reported(api: WebApi) -> None:
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


def test_switch_a_delta_repeats_rows_and_has_updates_of_deleted_ones(api: WebApi) -> None:
    api.org.switches.delta_repeats = True
    kept, gone = api.new(firstname="a"), api.new(firstname="g")
    delta = first_read(api)
    for name in ("a1", "a2"):
        api.patch(f"contacts({kept})", {"firstname": name})
    api.patch(f"contacts({gone})", {"firstname": "g1"})
    api.delete(f"contacts({gone})")
    assert names(api.get(delta).rows) == ["a2", "a2", "g1", "-"]


def test_rows_hidden_from_the_role(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    delta = first_read(api)
    api.org.hide(api.org.stores["contact"], [contact])
    assert names(api.get(delta).rows) == []
    assert api.get(f"contacts({contact})").status == 404
    assert api.get("contacts").rows == []
