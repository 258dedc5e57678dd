"""Single rows and several at once: docs/references/dataverse.md 3.1, 3.2, 3.4, 2.4, 7 (items 4 and 8)."""

from __future__ import annotations

from typing import Any

import pytest

from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

GUID = "0f0e0d0c-0b0a-4908-8706-050403020100"


def row(api: WebApi, row_id: str, set_name: str = "contacts") -> dict[str, Any]:
    reply = api.get(f"{set_name}({row_id})")
    assert reply.status == 200, reply.body
    return reply.json


# Create


def test_create_answers_204_and_where_the_row_is(api: WebApi) -> None:
    reply = api.post("contacts", {"firstname": "Ada", "lastname": "Byron"})
    assert reply.status == 204
    assert reply.body == b""
    address = f"https://org.example/api/data/v9.2/contacts({reply.new_id})"
    assert reply.headers["odata-entityid"] == reply.headers["location"] == address
    assert row(api, reply.new_id)["fullname"] == "Ada Byron"


def test_create_gives_the_row_back_if_asked(api: WebApi) -> None:
    reply = api.post("contacts?$select=firstname", {"firstname": "Ada"}, "return=representation")
    assert reply.status == 201
    assert reply.headers["preference-applied"] == "return=representation"
    assert reply.json["firstname"] == "Ada"
    assert reply.json["@odata.context"].endswith("$metadata#contacts(firstname)/$entity")


def test_an_id_of_ones_own_is_taken_but_once(api: WebApi) -> None:
    assert api.new(contactid=GUID.upper(), firstname="Ada") == GUID
    again = api.post("contacts", {"contactid": GUID})
    assert (again.status, again.error) == (412, "0x80040237")


def test_defaults_of_a_contact(api: WebApi) -> None:
    found = row(api, api.new(lastname="x"))
    assert (found["statecode"], found["statuscode"], found["preferredcontactmethodcode"]) == (0, 1, 1)
    assert (found["donotemail"], found["followemail"]) == (False, True), "followemail has the opposite sense"
    assert found["createdon"] == found["modifiedon"]
    assert found["_ownerid_value"] == found["_createdby_value"]


def test_state_is_not_settable_on_create(api: WebApi) -> None:
    found = row(api, api.new(lastname="x", statecode=1, statuscode=2))
    assert (found["statecode"], found["statuscode"]) == (0, 1)


# Update and upsert


def test_a_patch_bumps_version_and_time_even_if_nothing_differs(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    before = row(api, contact)
    api.org.switches.clock_offset_seconds = 60
    assert api.patch(f"contacts({contact})", {"firstname": "Ada"}, if_match="*").status == 204
    after = row(api, contact)
    assert after["versionnumber"] > before["versionnumber"]
    assert after["@odata.etag"] == f'W/"{after["versionnumber"]}"'
    assert after["modifiedon"] > before["modifiedon"]
    assert after["createdon"] == before["createdon"]


def test_a_patch_with_if_match_never_creates(api: WebApi) -> None:
    reply = api.patch(f"contacts({GUID})", {"firstname": "Ada"}, if_match="*")
    assert (reply.status, reply.error) == (404, "0x80040217")
    assert reply.message == f"contact With Id = {GUID} Does Not Exist"


def test_a_patch_without_if_match_creates_under_the_id_given(api: WebApi) -> None:
    created = api.patch(f"contacts({GUID})", {"firstname": "Ada"}, "return=representation")
    assert (created.status, created.new_id) == (201, GUID)
    assert api.patch(f"contacts({GUID})", {"firstname": "Eve"}, "return=representation").status == 200


def test_if_none_match_creates_only(api: WebApi) -> None:
    assert api.patch(f"contacts({GUID})", {"firstname": "Ada"}, if_none_match="*").status == 204
    again = api.patch(f"contacts({GUID})", {"firstname": "Eve"}, if_none_match="*")
    assert (again.status, again.error) == (412, "0x80040237")
    assert row(api, GUID)["firstname"] == "Ada"


def test_a_stale_version_is_refused_for_update_and_delete(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    stale = row(api, contact)["@odata.etag"]
    api.patch(f"contacts({contact})", {"firstname": "Eve"}, if_match=stale)
    for reply in (
        api.patch(f"contacts({contact})", {"firstname": "X"}, if_match=stale),
        api.delete(f"contacts({contact})", if_match=stale),
    ):
        assert (reply.status, reply.error) == (412, "0x80060882")
    assert row(api, contact)["firstname"] == "Eve"


def test_a_conditional_get_of_an_unchanged_row_is_304(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    etag = row(api, contact)["@odata.etag"]
    assert api.get(f"contacts({contact})", if_none_match=etag).status == 304
    assert api.get(f"contacts({contact})", 'odata.include-annotations="*"', if_none_match=etag).status == 200
    assert api.get(f"contacts({contact})", if_none_match="null").status == 200
    api.patch(f"contacts({contact})", {"firstname": "Eve"})
    assert api.get(f"contacts({contact})", if_none_match=etag).status == 200


def test_delete_is_204_and_then_404(api: WebApi) -> None:
    contact = api.new()
    assert api.delete(f"contacts({contact})").status == 204
    assert api.delete(f"contacts({contact})").error == "0x80040217"
    assert api.get(f"contacts({contact})").status == 404


def test_collections_are_neither_patched_nor_deleted(api: WebApi) -> None:
    assert api.patch("contacts", {}).status == 405
    assert api.delete("contacts").status == 405


# Alternate keys


def test_upsert_by_alternate_key_with_a_quote_in_it(api: WebApi) -> None:
    address = "contacts(externaluseridentifier='O''Neill%2F1')"
    assert api.patch(address, {"firstname": "Ada"}).status == 204
    assert api.patch(address, {"lastname": "Byron"}).status == 204
    [found] = api.get("contacts?$select=fullname,externaluseridentifier").rows
    assert (found["fullname"], found["externaluseridentifier"]) == ("Ada Byron", "O'Neill/1")
    assert api.get(address).json["contactid"] == found["contactid"]


def test_an_alternate_key_is_unique_in_whatever_case(api: WebApi) -> None:
    api.new(externaluseridentifier="abc")
    other = api.new(externaluseridentifier="def")
    assert api.post("contacts", {"externaluseridentifier": "ABC"}).error == "0x80060892"
    assert api.patch(f"contacts({other})", {"externaluseridentifier": "Abc"}).status == 412
    assert api.patch(f"contacts({other})", {"externaluseridentifier": "DEF"}).status == 204


def test_only_columns_that_are_a_key_address_a_row(api: WebApi) -> None:
    assert api.get("contacts(emailaddress1='a@x.example')").status == 400
    assert api.get("contacts(externaluseridentifier='nobody')").status == 404


# Values


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


def test_fifty_characters_fit_fifty(api: WebApi) -> None:
    api.new(firstname="x" * 50, lastname="𠮷" * 25)


def test_what_the_server_sets_is_ignored_when_written(api: WebApi) -> None:
    values = {"fullname": "X", "modifiedon": "2000-01-01T00:00:00Z", "versionnumber": 1, "merged": True}
    found = row(api, api.new(firstname="Ada", **values))
    assert found["fullname"] == "Ada"
    assert found["modifiedon"] > "2024"
    assert found["versionnumber"] > 1
    assert found["merged"] is False


def test_annotations_of_a_row_that_was_read_are_passed_over(api: WebApi) -> None:
    contact = api.new(firstname="Ada", gendercode=2)
    found = api.get(f"contacts({contact})?$select=firstname,gendercode", 'odata.include-annotations="*"').json
    assert api.patch(f"contacts({contact})", found | {"firstname": "Eve"}).status == 204


def test_a_body_that_is_no_json_is_a_bad_payload(api: WebApi) -> None:
    assert api.call("POST", "contacts", b"{").error == "0x80048d19"
    assert api.call("POST", "contacts", b"[]").error == "0x80048d19"


# State


def test_a_state_brings_its_status_and_the_pair_must_fit(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    assert api.patch(f"contacts({contact})", {"statecode": 1}).status == 204
    assert row(api, contact)["statuscode"] == 2
    wrong = api.patch(f"contacts({contact})", {"statecode": 1, "statuscode": 1})
    assert (wrong.status, wrong.error) == (400, "0x80048408")
    assert wrong.message.startswith("1 is not a valid status code for state code ContactState.Inactive on contact")
    assert api.patch(f"contacts({contact})", {"statuscode": 1}).error == "0x80048408"


def test_whether_an_inactive_row_may_be_changed_is_a_switch(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    api.patch(f"contacts({contact})", {"statecode": 1})
    assert api.patch(f"contacts({contact})", {"donotemail": True}).status == 204
    api.org.switches.inactive_read_only = True
    assert api.patch(f"contacts({contact})", {"donotemail": False}).status == 400
    assert api.patch(f"contacts({contact})", {"statecode": 0}).status == 204
    assert api.patch(f"contacts({contact})", {"donotemail": False}).status == 204


# Lookups


def test_lookups_are_written_by_navigation_property_and_read_as_value(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    order = api.new("new_orders", **{"new_name": "o", "new_ContactId@odata.bind": f"/contacts({contact})"})
    assert row(api, order, "new_orders")["_new_contactid_value"] == contact
    absolute = {"new_ContactId@odata.bind": f"https://org.example/api/data/v9.2/contacts({api.new()})"}
    assert api.patch(f"new_orders({order})", absolute).status == 204
    assert api.patch(f"new_orders({order})", {"new_ContactId": None}).status == 204
    assert row(api, order, "new_orders")["_new_contactid_value"] is None


def test_a_lookup_needs_a_row_of_its_table(api: WebApi) -> None:
    account = api.new("accounts", name="A")
    missing = {"new_ContactId@odata.bind": f"/contacts({GUID})"}
    assert api.post("new_orders", missing).error == "0x80040217"
    assert api.post("new_orders", {"new_ContactId@odata.bind": f"/accounts({account})"}).status == 400


def test_a_customer_is_an_account_or_a_contact(api: WebApi) -> None:
    account = api.new("accounts", name="Works")
    contact = api.new(**{"parentcustomerid_account@odata.bind": f"/accounts({account})"})
    address = f"contacts({contact})?$select=_parentcustomerid_value"
    found = api.get(address, 'odata.include-annotations="*"').json
    name = "_parentcustomerid_value"
    assert found[name] == account
    assert found[f"{name}@Microsoft.Dynamics.CRM.lookuplogicalname"] == "account"
    assert found[f"{name}@Microsoft.Dynamics.CRM.associatednavigationproperty"] == "parentcustomerid_account"
    assert found[f"{name}@OData.Community.Display.V1.FormattedValue"] == "Works"


# Single properties


def test_a_single_property_is_read_written_and_emptied(api: WebApi) -> None:
    contact = api.new(firstname="Ada")
    address = f"contacts({contact})/firstname"
    assert api.get(address).json["value"] == "Ada"
    assert api.call("PUT", address, {"value": "Eve"}).status == 204
    assert row(api, contact)["firstname"] == "Eve"
    assert api.delete(address).status == 204
    assert api.get(address).status == 204
    assert api.get(f"contacts({contact})/nosuch").error == "0x80060888"


def test_a_property_as_plain_text(api: WebApi) -> None:
    contact = api.new(firstname="Ada", donotemail=True)
    reply = api.get(f"contacts({contact})/firstname/$value")
    assert (reply.body, reply.headers["content-type"]) == (b"Ada", "text/plain")
    assert api.get(f"contacts({contact})/donotemail/$value").body == b"true"
    assert api.get(f"contacts({contact})/lastname/$value").status == 204


def test_a_link_is_read_set_and_taken_away_by_its_reference(api: WebApi) -> None:
    account, contact = api.new("accounts", name="Works"), api.new(firstname="Ada")
    link = f"contacts({contact})/parentcustomerid_account"
    assert api.get(link).status == api.get(f"{link}/$ref").status == 204
    assert api.call("PUT", f"{link}/$ref", {"@odata.id": f"accounts({account})"}).status == 204
    assert row(api, contact)["_parentcustomerid_value"] == account
    assert (api.get(link).json["name"], api.get(f"{link}?$select=name").json["accountid"]) == ("Works", account)
    address = f"https://org.example/api/data/v9.2/accounts({account})"
    assert api.get(f"{link}/$ref").json["@odata.id"] == address
    assert api.get(f"contacts({contact})/parentcustomerid_contact").status == 204, "it leads to no contact"
    assert api.delete(f"contacts({contact})/parentcustomerid_contact/$ref").status == 204
    assert api.delete(link).status == api.call("PUT", link, {"value": None}).status == 405
    assert row(api, contact)["_parentcustomerid_value"] == account
    assert api.delete(f"{link}/$ref").status == 204
    assert row(api, contact)["_parentcustomerid_value"] is None
    assert api.call("PUT", f"{link}/$ref", {"@odata.id": f"accounts({GUID})"}).error == "0x80040217"
    assert api.call("PUT", f"{link}/$ref", {}).status == 400


# Several at once

TYPE = {"@odata.type": "Microsoft.Dynamics.CRM.contact"}


def multiple(name: str) -> str:
    return f"contacts/Microsoft.Dynamics.CRM.{name}"


def test_create_multiple_gives_the_ids_in_order(api: WebApi) -> None:
    targets = [TYPE | {"firstname": name} for name in ("a", "b", "c")]
    reply = api.post(multiple("CreateMultiple"), {"Targets": targets})
    assert [row(api, row_id)["firstname"] for row_id in reply.json["Ids"]] == ["a", "b", "c"]


def test_update_multiple_by_id_and_by_reference(api: WebApi) -> None:
    one, two = api.new(), api.new(externaluseridentifier="k")
    targets = [
        TYPE | {"contactid": one, "firstname": "a"},
        TYPE | {"@odata.id": "contacts(externaluseridentifier='k')", "firstname": "b"},
    ]
    assert api.post(multiple("UpdateMultiple"), {"Targets": targets}).status == 204
    assert (row(api, one)["firstname"], row(api, two)["firstname"]) == ("a", "b")


def test_upsert_multiple_creates_and_updates(api: WebApi) -> None:
    known = api.new(externaluseridentifier="k", firstname="old")
    targets = [
        TYPE | {"@odata.id": f"contacts(externaluseridentifier='{key}')", "firstname": "new"} for key in ("k", "l")
    ]
    assert api.post(multiple("UpsertMultiple"), {"Targets": targets}).status == 204
    assert row(api, known)["firstname"] == "new"
    assert sorted(api.query("firstname eq 'new'", select="externaluseridentifier")) == ["k", "l"]


@pytest.mark.parametrize("name", ["CreateMultiple", "UpdateMultiple", "UpsertMultiple"])
def test_several_rows_are_written_all_or_not_at_all(api: WebApi, name: str) -> None:
    known = api.new(firstname="old")
    targets = [
        TYPE | {"contactid": known if name != "CreateMultiple" else GUID, "firstname": "good"},
        TYPE | {"contactid": known, "firstname": "x" * 51},
    ]
    before = api.get("contacts").json
    assert api.post(multiple(name), {"Targets": targets}).status == 400
    assert api.get("contacts").json == before


def test_targets_need_their_type(api: WebApi) -> None:
    assert api.post(multiple("CreateMultiple"), {"Targets": [{"firstname": "a"}]}).error == "0x80048d19"


def test_errors_tell_more_if_all_annotations_are_asked_for(api: WebApi) -> None:
    reply = api.get(f"contacts({GUID})", 'odata.include-annotations="*"')
    assert "@Microsoft.PowerApps.CDS.HelpLink" in reply.json["error"]
    assert set(api.get(f"contacts({GUID})").json["error"]) == {"code", "message"}
    assert reply.headers["req_id"]
