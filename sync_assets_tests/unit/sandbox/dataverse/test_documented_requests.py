"""Requests of Microsoft's documentation, over HTTPS: each has the documented effect, or a 501 that names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.signed_in import dataverse

ACCOUNT, OTHER = "ac000000-0000-4000-8000-000000000001", "ac000000-0000-4000-8000-000000000002"
ADA, BOB = "c0000000-0000-4000-8000-000000000001", "c0000000-0000-4000-8000-000000000002"
LINK = "parentcustomerid_account"
CRM = "Microsoft.Dynamics.CRM"
TABLE = "EntityDefinitions(LogicalName='contact')"
GENDER = f"{TABLE}/Attributes(LogicalName='gendercode')"
PICKLIST = f"{GENDER}/{CRM}.PicklistAttributeMetadata"


@pytest.fixture(scope="module")
def process(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=0)


@pytest.fixture(scope="module")
def client(process: SandboxProcess) -> Iterator[httpx.Client]:
    with dataverse(process.env) as signed_in:
        yield signed_in
    assert process.errors == ""


@pytest.fixture
def http(client: httpx.Client) -> httpx.Client:
    """Two accounts, Works and Acme, and two contacts, of which Ada belongs to Works."""
    for key, name in ((ACCOUNT, "Works"), (OTHER, "Acme")):
        client.patch(f"accounts({key})", json={"name": name})
    for key, name in ((ADA, "Ada"), (BOB, "Bob")):
        client.patch(f"contacts({key})", json={"firstname": name, LINK: None})
    client.put(f"contacts({ADA})/{LINK}/$ref", json={"@odata.id": f"accounts({ACCOUNT})"})
    return client


def account_of(http: httpx.Client, contact: str) -> str | None:
    return http.get(f"contacts({contact})").json()["_parentcustomerid_value"]


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row["firstname"] for row in answer.json()["value"]]


def filtered(http: httpx.Client, expression: str, **aliases: str) -> list[str]:
    return names(http.get("contacts", params={"$filter": expression} | {f"@{n}": v for n, v in aliases.items()}))


def assert_not_built(answer: httpx.Response, feature: str) -> None:
    assert answer.status_code == 501, answer.text
    message = answer.json()["error"]["message"]
    assert feature in message
    assert message.endswith("is not built into the sandbox.")


# Lookups


def test_a_lookup_takes_a_reference_of_any_version_of_the_web_api(http: httpx.Client, process: SandboxProcess) -> None:
    for base in ("", "/api/data/v9.0/", f"{process.env['D365_URL']}/api/data/v9.1/"):
        http.delete(f"contacts({ADA})/{LINK}/$ref")
        answer = http.put(f"contacts({ADA})/{LINK}/$ref", json={"@odata.id": f"{base}accounts({OTHER})"})
        assert (answer.status_code, account_of(http, ADA)) == (204, OTHER)


def test_a_lookup_is_cleared_by_its_reference_only(http: httpx.Client) -> None:
    assert http.delete(f"contacts({ADA})/{LINK}").status_code == 405
    assert account_of(http, ADA) == ACCOUNT
    assert http.delete(f"contacts({ADA})/{LINK}/$ref").status_code == 204
    assert account_of(http, ADA) is None


def test_a_lookup_leads_to_the_row_its_address_and_the_plain_value(http: httpx.Client, process: SandboxProcess) -> None:
    assert http.get(f"contacts({ADA})/{LINK}").json()["name"] == "Works"
    address = f"{process.env['D365_URL']}/api/data/v9.2/accounts({ACCOUNT})"
    assert http.get(f"contacts({ADA})/{LINK}/$ref").json()["@odata.id"] == address
    assert http.get(f"contacts({ADA})/_parentcustomerid_value/$value").text == ACCOUNT


def test_rows_are_ordered_by_the_name_that_a_lookup_leads_to(http: httpx.Client) -> None:
    http.put(f"contacts({BOB})/{LINK}/$ref", json={"@odata.id": f"accounts({OTHER})"})
    assert ACCOUNT < OTHER, "so that an order by ids would be the other one"
    for order, found in (("asc", ["Bob", "Ada"]), ("desc", ["Ada", "Bob"])):
        query = {"$orderby": f"_parentcustomerid_value {order}"}
        assert names(http.get("contacts", params=query)) == found
        first = http.get("contacts", params=query, headers={"prefer": "odata.maxpagesize=1"})
        second = http.get(first.json()["@odata.nextLink"])
        assert names(first) + names(second) == found


# Expand


def test_a_row_is_read_with_the_rows_that_it_refers_to(http: httpx.Client) -> None:
    query = f"$select=firstname&$expand={LINK}($select=name),createdby($select=fullname)"
    read = http.get(f"contacts({ADA})?{query}").json()
    assert read["@odata.context"].endswith(f"#contacts(firstname,{LINK}(name),createdby(fullname))/$entity")
    assert read[LINK] == {"name": "Works", "accountid": ACCOUNT}
    assert read["createdby"].keys() == {"fullname", "systemuserid"}
    assert read.keys() == {"@odata.context", "@odata.etag", "firstname", "contactid", LINK, "createdby"}
    assert http.get(f"contacts({BOB})?{query}").json()[LINK] is None


def test_expanded_rows_are_annotated_and_may_be_expanded_themselves(http: httpx.Client) -> None:
    headers = {"prefer": 'odata.include-annotations="*"'}
    nested = f"{LINK}($select=_createdby_value;$expand=createdby($select=fullname))"
    account = http.get(f"contacts({ADA})?$expand={nested}", headers=headers).json()[LINK]
    label = "_createdby_value@OData.Community.Display.V1.FormattedValue"
    assert account[label] == account["createdby"]["fullname"]


def test_a_lookup_to_another_table_is_expanded_to_null(http: httpx.Client) -> None:
    http.put(f"contacts({BOB})/parentcustomerid_contact/$ref", json={"@odata.id": f"contacts({ADA})"})
    read = http.get(f"contacts({BOB})?$expand={LINK},parentcustomerid_contact").json()
    assert (read[LINK], read["parentcustomerid_contact"]["firstname"]) == (None, "Ada")


def test_a_read_with_expanded_rows_is_never_answered_with_not_modified(http: httpx.Client) -> None:
    headers = {"if-none-match": http.get(f"contacts({ADA})").headers["etag"]}
    assert http.get(f"contacts({ADA})", headers=headers).status_code == 304
    assert http.get(f"contacts({ADA})?$expand={LINK}", headers=headers).json()[LINK]["name"] == "Works"


def test_a_list_has_the_expanded_row_of_each_row_on_each_page(http: httpx.Client) -> None:
    first = http.get(f"contacts?$expand={LINK}($select=name)", headers={"prefer": "odata.maxpagesize=1"}).json()
    second = http.get(first["@odata.nextLink"]).json()
    assert first["@odata.context"].endswith(f"#contacts({LINK}(name))")
    assert [row[LINK] for row in first["value"] + second["value"]] == [{"name": "Works", "accountid": ACCOUNT}, None]


def test_a_written_row_is_returned_with_its_expanded_row(http: httpx.Client) -> None:
    headers, query = {"prefer": "return=representation"}, f"$select=firstname&$expand={LINK}($select=name)"
    body = {"firstname": "Eve", f"{LINK}@odata.bind": f"accounts({ACCOUNT})"}
    created = http.post(f"contacts?{query}", json=body, headers=headers)
    body = {f"{LINK}@odata.bind": f"accounts({OTHER})"}
    changed = http.patch(f"contacts({created.json()['contactid']})?{query}", json=body, headers=headers)
    assert (created.status_code, changed.status_code) == (201, 200)
    assert [answer.json()[LINK]["name"] for answer in (created, changed)] == ["Works", "Acme"]
    assert http.delete(created.headers["location"]).status_code == 204


@pytest.mark.parametrize(
    "query",
    ["$expand=nosuch", "$expand=firstname", f"$expand={LINK}($select=nosuch)", f"$expand={LINK}(", "$select=nosuch"],
)
def test_an_invalid_option_is_an_error_and_writes_nothing(http: httpx.Client, query: str) -> None:
    body = {"firstname": "never written"}
    for method, path in (("GET", f"contacts({ADA})"), ("POST", "contacts"), ("PATCH", f"contacts({ADA})")):
        answer = http.request(method, f"{path}?{query}", json=None if method == "GET" else body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80060888")
    assert "never written" not in http.get("contacts").text


@pytest.mark.parametrize(
    "expand", [f"{LINK}/$ref", f"{LINK}($filter=name eq 'x')", "ownerid", "contact_customer_contacts"]
)
def test_an_expand_that_is_not_built_is_named(http: httpx.Client, expand: str) -> None:
    assert_not_built(http.get(f"contacts({ADA})?$expand={expand}"), "$expand=")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "contacts"),
        ("GET", f"contacts({ADA})"),
        ("DELETE", f"contacts({ADA})"),
        ("GET", "contacts/$count"),
        ("GET", f"contacts({ADA})/{LINK}"),
        ("GET", f"accounts({ACCOUNT})/contact_customer_accounts"),
        ("POST", "contacts"),
        ("PATCH", f"contacts({ADA})"),
    ],
)
def test_expand_is_never_ignored(http: httpx.Client, method: str, path: str) -> None:
    headers = {"prefer": "return=representation", "if-none-match": http.get(f"contacts({ADA})").headers["etag"]}
    body = {"firstname": "never written"} if method in ("POST", "PATCH") else None
    assert_not_built(http.request(method, f"{path}?$expand=ownerid", json=body, headers=headers), "$expand")
    assert "never written" not in http.get("contacts").text


@pytest.mark.parametrize("header", ["MSCRMCallerID", "CallerObjectId"])
def test_another_user_is_never_ignored(http: httpx.Client, header: str) -> None:
    answer = http.patch(f"contacts({ADA})", json={"firstname": "never written"}, headers={header: OTHER})
    assert_not_built(answer, header)
    assert "never written" not in http.get("contacts").text


def test_a_user_may_name_itself_as_the_caller(http: httpx.Client) -> None:
    user = http.get("WhoAmI").json()["UserId"]
    assert http.get(f"contacts({ADA})", headers={"MSCRMCallerID": user.upper()}).json()["firstname"] == "Ada"
    assert_not_built(http.get(f"contacts({ADA})", headers={"CallerObjectId": user}), "CallerObjectId")


# Query functions


@pytest.mark.parametrize(
    ("expression", "aliases"),
    [
        (f"{CRM}.In(PropertyName=@p1,PropertyValues=@p2)", {"p1": "'firstname'", "p2": "['Ada','Eve']"}),
        (f"{CRM}.In(PropertyName='firstname',PropertyValues=@p2)", {"p2": '["Ada"]'}),
        (f"{CRM}.On(PropertyName=@p1,PropertyValue=@p2)", {"p1": "'birthdate'", "p2": "'1815-12-10'"}),
        (f"{CRM}.In(PropertyName='parentcustomerid',PropertyValues=['{ACCOUNT}'])", {}),
        (f"{CRM}.EqualUserId(PropertyName='ownerid') and firstname eq 'Ada'", {}),
        (f"{CRM}.EqualBusinessId(PropertyName='_owningbusinessunit_value') and firstname eq 'Ada'", {}),
        (f"firstname eq 'Ada' or {CRM}.NotEqualUserId(PropertyName='ownerid')", {}),
    ],
)
def test_a_query_function_takes_aliases_and_names_of_lookups(
    http: httpx.Client, expression: str, aliases: dict[str, str]
) -> None:
    http.patch(f"contacts({ADA})", json={"birthdate": "1815-12-10"})
    assert filtered(http, expression, **aliases) == ["Ada"]


@pytest.mark.parametrize("name", ["EqualUserTeams", "ThisWeek", "Under"])
def test_a_query_function_that_is_not_built_is_named(http: httpx.Client, name: str) -> None:
    query = {"$filter": f"{CRM}.{name}(PropertyName='ownerid')"}
    assert_not_built(http.get("contacts", params=query), f"{CRM}.{name}")


# Metadata


@pytest.mark.parametrize(
    "query",
    [
        "$select=LogicalName&$filter=CanCreateAttributes/Value eq true",
        "$select=LogicalName,IsKnowledgeManagementEnabled,HasActivities,PrimaryImageAttribute",
        "$select=LogicalName&$filter=PrimaryImageAttribute eq 'entityimage'",
        "$select=LogicalName&$expand=Attributes($select=LogicalName;$filter=IsValidForForm eq true)",
    ],
)
def test_documented_members_of_tables_and_columns_are_described(http: httpx.Client, query: str) -> None:
    found = http.get(f"EntityDefinitions?{query}").json()["value"]
    assert "contact" in {table["LogicalName"] for table in found}


def test_an_option_set_is_reached_by_its_path(http: httpx.Client) -> None:
    told = http.get(f"{PICKLIST}/OptionSet?$select=Options").json()
    assert set(told) == {"@odata.context", "MetadataId", "Options"}
    assert told["@odata.context"].endswith("PicklistAttributeMetadata/OptionSet(Options)/$entity")
    expanded = http.get(f"{PICKLIST}?$expand=OptionSet").json()
    assert expanded["OptionSet"]["Options"] == told["Options"]
    assert http.get(f"{PICKLIST}/GlobalOptionSet").status_code == 204, "the option set is a local one"
    assert http.get(f"{PICKLIST}/Nosuch").status_code == 404


def test_there_is_no_global_option_set(http: httpx.Client) -> None:
    assert http.get("GlobalOptionSetDefinitions").json()["value"] == []
    assert http.get("GlobalOptionSetDefinitions(Name='new_none')").status_code == 404
    assert_not_built(http.post("GlobalOptionSetDefinitions", json={}), "Changing metadata")


def test_relationships_are_narrowed_by_their_type(http: httpx.Client) -> None:
    query = "$select=SchemaName&$filter=ReferencedEntity eq 'account'"
    found = http.get(f"RelationshipDefinitions/{CRM}.OneToManyRelationshipMetadata?{query}").json()["value"]
    assert [one["SchemaName"] for one in found] == ["contact_customer_accounts"]
    assert http.get(f"RelationshipDefinitions/{CRM}.ManyToManyRelationshipMetadata").json()["value"] == []


def test_the_languages_of_the_organization_are_listed(http: httpx.Client) -> None:
    assert http.get("RetrieveAvailableLanguages()").json()["LocaleIds"] == [1033]


@pytest.mark.parametrize(
    "path",
    [
        "ManagedPropertyDefinitions",
        "RetrieveProvisionedLanguages()",
        "sdkmessagefilters",
    ],
)
def test_metadata_that_is_not_built_is_named(http: httpx.Client, path: str) -> None:
    assert_not_built(http.get(path), path.partition("(")[0])


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("EntityDefinitions?$top=1", "$top"),
        ("EntityDefinitions?$orderby=LogicalName", "$orderby"),
        ("RelationshipDefinitions?$count=true", "$count"),
        (f"{TABLE}/Attributes?$skip=1", "$skip"),
        (f"{TABLE}/Keys(LogicalName='new_externaluser')", "Keys"),
        (f"{TABLE}/SchemaName/$value", "SchemaName/$value"),
        (f"{GENDER}/SchemaName", "SchemaName"),
        (f"{PICKLIST}/OptionSet/Options", "OptionSet/Options"),
    ],
)
def test_options_and_paths_of_metadata_are_never_ignored(http: httpx.Client, path: str, named: str) -> None:
    assert_not_built(http.get(path), named)


# Collections of related rows


def test_the_rows_that_refer_to_a_row_are_listed_filtered_paged_and_counted(http: httpx.Client) -> None:
    related = f"accounts({ACCOUNT})/contact_customer_accounts"
    assert names(http.get(related)) == ["Ada"]
    assert http.get(f"{related}/$count").text == "1"
    http.put(f"contacts({BOB})/{LINK}/$ref", json={"@odata.id": f"accounts({ACCOUNT})"})
    assert names(http.get(related, params={"$filter": "firstname eq 'Ada' or firstname eq 'Bob'"})) == ["Ada", "Bob"]
    first = http.get(related, params={"$select": "firstname"}, headers={"prefer": "odata.maxpagesize=1"})
    assert names(first) + names(http.get(first.json()["@odata.nextLink"])) == ["Ada", "Bob"]
    assert names(http.get(f"accounts({OTHER})/contact_customer_accounts")) == []


def test_a_row_is_added_to_a_collection_and_taken_out_of_it(http: httpx.Client) -> None:
    related = f"accounts({ACCOUNT})/contact_customer_accounts"
    added = http.post(f"{related}/$ref", json={"@odata.id": f"contacts({BOB})"})
    assert (added.status_code, account_of(http, BOB)) == (204, ACCOUNT)
    for removed in (f"{related}({BOB})/$ref", f"{related}/$ref?$id=/api/data/v9.2/contacts({ADA})"):
        assert http.delete(removed).status_code == 204
    assert [account_of(http, contact) for contact in (ADA, BOB)] == [None, None]


def test_a_row_of_another_account_stays_there_when_it_is_taken_out(http: httpx.Client) -> None:
    assert http.delete(f"accounts({OTHER})/contact_customer_accounts({ADA})/$ref").status_code == 204
    assert account_of(http, ADA) == ACCOUNT


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "contact_customer_accounts": [{"firstname": "deep"}]},
        {"name": "x", "contact_customer_accounts@odata.bind": [f"contacts({BOB})"]},
        {LINK: {"name": "deep"}},
    ],
)
def test_related_rows_in_a_body_are_not_built(http: httpx.Client, body: dict[str, Any]) -> None:
    before = http.get("accounts").json()
    [related] = body.keys() - {"name"}
    assert_not_built(http.post("contacts" if related == LINK else "accounts", json=body), related.partition("@")[0])
    assert http.get("accounts").json() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"accounts({ACCOUNT})/contact_customer_accounts({ADA})"),
        ("GET", f"contacts({ADA})/{LINK}/name"),
        ("GET", f"contacts({ADA})/firstname/$ref"),
        ("POST", f"accounts({ACCOUNT})/contact_customer_accounts"),
    ],
)
def test_a_path_that_is_not_built_is_named(http: httpx.Client, method: str, path: str) -> None:
    assert_not_built(http.request(method, path, json={} if method == "POST" else None), path.partition("/")[2])


def test_changes_of_a_collection_are_not_tracked(http: httpx.Client) -> None:
    related = f"accounts({ACCOUNT})/contact_customer_accounts"
    assert_not_built(http.get(related, headers={"prefer": "odata.track-changes"}), "contact_customer_accounts")


# Versions and headers


@pytest.mark.parametrize("version", ["v9.0", "v9.1", "v9.2"])
def test_links_have_the_version_of_the_request(http: httpx.Client, process: SandboxProcess, version: str) -> None:
    base = f"{process.env['D365_URL']}/api/data/{version}"
    page = http.get(f"{base}/contacts", headers={"prefer": "odata.maxpagesize=1,odata.track-changes"}).json()
    assert page["@odata.context"].startswith(f"{base}/$metadata#contacts")
    assert page["@odata.nextLink"].startswith(f"{base}/contacts?")
    made = http.post(f"{base}/contacts", json={"firstname": "Eve"})
    assert made.headers["odata-entityid"].startswith(f"{base}/contacts(")
    assert http.delete(made.headers["odata-entityid"]).status_code == 204


def test_a_row_that_is_returned_has_no_address_beside_it(http: httpx.Client) -> None:
    headers = {"prefer": "return=representation"}
    made = http.post("contacts", json={"firstname": "Eve"}, headers=headers)
    changed = http.patch(f"contacts({made.json()['contactid']})", json={"firstname": "Zoe"}, headers=headers)
    assert (made.status_code, changed.status_code) == (201, 200)
    assert "odata-entityid" not in {*made.headers, *changed.headers}
    assert http.delete(made.headers["location"]).status_code == 204
