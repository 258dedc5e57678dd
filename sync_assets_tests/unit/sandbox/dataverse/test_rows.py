"""Rows, a column that may not be read, a batch that fails: docs/dev/references/dataverse.md 2, 3 and 7."""

import json
import re
from typing import Any

import pytest

from sync_assets_tests.unit.sandbox.dataverse.web_api import Reply, WebApi

GUID = "0f0e0d0c-0b0a-4908-8706-050403020100"


def row(api: WebApi, row_id: str, set_name: str = "contacts") -> dict[str, Any]:
    reply = api.get(f"{set_name}({row_id})")
    assert reply.status == 200, reply.body
    return reply.json


@pytest.mark.parametrize(
    ("column", "written", "stored"),
    [
        ("firstname", "", None),
        ("creditlimit", 20000, "20000.0000"),
        ("creditlimit", 12.346, "12.3500"),
        ("new_balance", 3, "3.00"),
        ("address1_latitude", 51.5, "51.5"),
        ("birthdate", "1990-02-28", '"1990-02-28"'),
        ("new_lastvisit", "2024-03-15T12:20:30.987+02:00", '"2024-03-15T10:20:30Z"'),
        ("new_appointment", "2024-03-15T10:20:30Z", '"2024-03-15T10:20:30Z"'),
        ("new_membersince", "2024-03-15T10:20:30Z", '"2024-03-15T10:20:30Z"'),
        ("new_interests", " 9, 1", '"1,9"'),
        ("gendercode", 2, "2"),
        ("donotemail", True, "true"),
    ],
)
def test_how_values_are_shown(api: WebApi, column: str, written: Any, stored: str | None) -> None:
    body = api.get(f"contacts({api.new(**{column: written})})?$select={column}").body.decode()
    assert f'"{column}":{stored or "null"}' in body


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"nosuchcolumn": 1}, "0x80048d19"),
        ({"firstname": "x" * 51}, "0x80044331"),
        ({"firstname": "𠮷" * 26}, "0x80044331"),
        ({"firstname": 5}, "0x80048d19"),
        ({"gendercode": 99}, "0x80044330"),
        ({"gendercode": "Male"}, "0x80048d19"),
        ({"new_interests": "1,77"}, "0x80044330"),
        ({"donotemail": "true"}, "0x80048d19"),
        ({"birthdate": "1990-02-30"}, "0x80048d19"),
        ({"birthdate": "1990-02-28T00:00:00Z"}, "0x80048d19"),
        ({"new_lastvisit": "2024-03-15"}, "0x80048d19"),
        ({"new_score": 1.5}, "0x80048d19"),
        ({"numberofchildren": -1}, "0x80044330"),
        ({"statecode": None}, "0x80040203"),
        ({"_parentcustomerid_value": GUID}, "0x80048d19"),
        ({"new_contactid@odata.bind": f"/contacts({GUID})"}, "0x80048d19"),
    ],
)
def test_what_is_refused(api: WebApi, values: dict[str, Any], code: str) -> None:
    contact = api.new(firstname="Ada")
    version = row(api, contact)["versionnumber"]
    reply = api.patch(f"contacts({contact})", values, if_match="*")
    assert (reply.status, reply.error) == (400, code)
    assert row(api, contact)["versionnumber"] == version, "nothing was written"


def test_a_state_brings_its_status_and_the_pair_must_fit(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    assert api.patch(f"contacts({contact})", {"statecode": 1}).status == 204
    assert row(api, contact)["statuscode"] == 2
    wrong = api.patch(f"contacts({contact})", {"statecode": 1, "statuscode": 1})
    assert (wrong.status, wrong.error) == (400, "0x80048408")
    assert wrong.message.startswith("1 is not a valid status code for state code ContactState.Inactive on contact")
    assert api.patch(f"contacts({contact})", {"statuscode": 1}).error == "0x80048408"


def test_a_contact_with_orders_is_not_deleted_until_they_are_gone(api: WebApi) -> None:
    contact = api.new(lastname="Byron")
    order = api.new("new_orders", **{"new_ContactId@odata.bind": f"/contacts({contact})"})
    api.org.switches.change({"on_parent_delete": {"new_order": "restrict"}})
    version = api.org.version
    reply = api.delete(f"contacts({contact})", if_match="*")
    assert (reply.status, reply.error) == (405, "0x80040227")
    assert reply.message.endswith("is associated with another object and cannot be deleted.")
    assert api.org.version == version, "nothing was written"
    api.delete(f"new_orders({order})")
    assert api.delete(f"contacts({contact})").status == 204


CONTACT = "EntityDefinitions(LogicalName='contact')"


@pytest.mark.parametrize(
    ("change", "member", "shown"),
    [({"readable": False}, "IsValidForRead", False), ({"secured": True}, "IsSecured", True)],
)
def test_a_column_that_may_not_be_read_comes_as_null(
    api: WebApi, change: dict[str, Any], member: str, shown: bool
) -> None:
    api.new(firstname="Ada")
    store = api.org.stores["contact"]
    before = api.get("contacts", 'odata.include-annotations="*"').json["@Microsoft.Dynamics.CRM.globalmetadataversion"]
    api.org.change_column(store, "firstname", change)
    reply = api.get("contacts?$select=firstname", 'odata.include-annotations="*"')
    assert reply.rows[0]["firstname"] is None
    assert reply.json["@Microsoft.Dynamics.CRM.globalmetadataversion"] != before
    assert api.get("contacts?$select=firstname").rows[0]["firstname"] is None
    attribute = api.get(f"{CONTACT}/Attributes(LogicalName='firstname')?$select={member}").json
    assert attribute[member] is shown


PATH = "/api/data/v9.2"


def part(method: str, target: str, body: Any) -> str:
    """One request of a batch."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary", "", f"{method} {target} HTTP/1.1"]
    return "\r\n".join([*lines, "Content-Type: application/json; type=entry", "", json.dumps(body), ""])


def send(api: WebApi, *parts: str) -> Reply:
    body = "".join(f"--batch_1\r\n{text}\r\n" for text in parts) + "--batch_1--\r\n"
    return api.call("POST", "$batch", body.encode(), "", {"content-type": 'multipart/mixed; boundary="batch_1"'})


def test_the_first_error_ends_the_batch_and_keeps_the_parts_before(api: WebApi) -> None:
    reply = send(
        api,
        part("POST", f"{PATH}/contacts", {"firstname": "first"}),
        part("POST", f"{PATH}/contacts", {"firstname": "x" * 51}),
        part("POST", f"{PATH}/contacts", {"firstname": "never"}),
    )
    assert reply.status == 400
    assert re.findall(rb"HTTP/1\.1 (\d+)", reply.body) == [b"204", b"400"]
    assert "REQ_ID: " in reply.body.decode()
    assert api.query("statecode eq 0") == ["first"]


def test_a_merge_deactivates_the_subordinate_and_moves_what_refers_to_it(api: WebApi) -> None:
    subordinate, target = api.new(lastname="Byron", donotemail=True), api.new(lastname="Lovelace")
    order = api.new("new_orders", **{"new_ContactId@odata.bind": f"/contacts({subordinate})"})
    of_type = {"@odata.type": "Microsoft.Dynamics.CRM.contact"}
    body = {
        "Target": {"contactid": target, **of_type},
        "Subordinate": {"contactid": subordinate, **of_type},
        "UpdateContent": {"jobtitle": "Analyst", **of_type},
        "PerformParentingChecks": False,
    }
    assert api.post("Merge", body).status == 204
    row, master = api.get(f"contacts({subordinate})").json, api.get(f"contacts({target})").json
    assert (row["statecode"], row["statuscode"], row["merged"], row["_masterid_value"]) == (1, 2, True, target)
    assert (row["donotemail"], master["donotemail"], master["jobtitle"]) == (True, False, "Analyst")
    assert (master["statecode"], master["merged"]) == (0, False)
    assert api.get(f"new_orders({order})").json["_new_contactid_value"] == target
    for wrong in ({"Target": {"contactid": target}}, {"PerformParentingChecks": None}, {"Subordinate": body["Target"]}):
        assert api.post("Merge", {**body, **wrong}).status == 400
