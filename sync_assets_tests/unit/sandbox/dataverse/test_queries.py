"""Reading many rows: docs/dev/references/dataverse.md 2.1 to 2.4 and 7, item 5."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_assets.sandbox.dataverse.sample import load_sample
from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

IN = "Microsoft.Dynamics.CRM.In"


@pytest.fixture
def people(api: WebApi) -> WebApi:
    """Four contacts, ids in the order of their first names; Dora has nothing but her name."""
    for number, values in enumerate(
        [
            {"firstname": "Ada", "lastname": "O'Neill", "gendercode": 2, "donotemail": True, "new_score": 10,
             "birthdate": "1990-01-01", "creditlimit": 100.5, "new_interests": "1,9"},
            {"firstname": "Bob", "lastname": "smith", "gendercode": 1, "new_score": -5, "birthdate": "1985-06-15",
             "new_lastvisit": "2024-03-15T10:20:30Z", "new_interests": "2"},
            {"firstname": "Cyd", "lastname": "Smithers", "gendercode": 1, "new_score": 7,
             "new_lastvisit": "2024-03-15T23:59:59Z", "emailaddress1": "smithers"},
            {"firstname": "Dora"},
        ]
    ):  # fmt: skip
        api.new(contactid=f"{number}0000000-0000-4000-8000-000000000000", **values)
    return api


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("lastname eq 'SMITH'", "Bob"),
        ("lastname eq 'O''neill'", "Ada"),
        ("lastname ne 'smith'", "Ada Cyd"),  # null is not different
        ("lastname eq null", "Dora"),
        ("lastname ne null", "Ada Bob Cyd"),
        ("not contains(lastname,'smith')", "Ada"),
        ("contains(lastname,'MITH')", "Bob Cyd"),
        ("contains(lastname,'mith') eq true", "Bob Cyd"),
        ("startswith(lastname,'smithe')", "Cyd"),
        ("endswith(lastname,'S')", "Cyd"),
        ("contains(lastname,'s%h')", "Bob Cyd"),
        ("endswith(lastname,'_ill')", "Ada"),
        ("startswith(lastname,'[o-p]')", "Ada"),
        ("contains(lastname,'.')", ""),
        ("new_score gt -5 and new_score le 7", "Cyd"),
        ("7 lt new_score", "Ada"),
        ("(new_score eq 7 or gendercode eq 2) and statecode eq 0", "Ada Cyd"),
        ("not (new_score eq 7 or gendercode eq 2)", "Bob"),  # unknown for Dora
        ("donotemail eq true", "Ada"),
        ("donotemail", "Ada"),
        ("birthdate ge 1990-01-01", "Ada"),
        ("birthdate lt '1990-01-01'", "Bob"),
        ("new_lastvisit eq 2024-03-15T10:20:30Z", "Bob"),
        ("new_lastvisit ge '2024-03-15T12:00:00+01:00'", "Cyd"),
        ("creditlimit eq 100.5", "Ada"),
        ("contactid eq 10000000-0000-4000-8000-000000000000", "Bob"),
        ("contactid eq '10000000-0000-4000-8000-000000000000'", "Bob"),
        ("_ownerid_value eq '5c0a1f00-0000-4000-8000-0000000000a1' and new_score eq 10", "Ada"),
        ("emailaddress1 eq lastname", "Cyd"),
        ("ownerid/fullname eq '# sync_assets application user' and new_score eq 10", "Ada"),
        (f'{IN}(PropertyName=\'lastname\',PropertyValues=["smith","O\'Neill"])', "Ada Bob"),
        (f"{IN}(PropertyName='gendercode',PropertyValues=[\"2\"])", "Ada"),
        (f"not {IN}(PropertyName='gendercode',PropertyValues=[\"2\"])", "Bob Cyd"),
        ("Microsoft.Dynamics.CRM.NotIn(PropertyName='gendercode',PropertyValues=[\"2\"])", "Bob Cyd"),
        ('Microsoft.Dynamics.CRM.Between(PropertyName=\'new_score\',PropertyValues=["5","9"])', "Cyd"),
        ('Microsoft.Dynamics.CRM.ContainValues(PropertyName=\'new_interests\',PropertyValues=["9","2"])', "Ada Bob"),
        ("Microsoft.Dynamics.CRM.On(PropertyName='new_lastvisit',PropertyValue='2024-03-15')", "Bob Cyd"),
        ("Microsoft.Dynamics.CRM.OnOrAfter(PropertyName='birthdate',PropertyValue='1990-01-01')", "Ada"),
        ("Microsoft.Dynamics.CRM.OnOrBefore(PropertyName='birthdate',PropertyValue='1985-06-15')", "Bob"),
        ("Microsoft.Dynamics.CRM.LastXDays(PropertyName='modifiedon',PropertyValue=3)", "Ada Bob Cyd Dora"),
        ("Microsoft.Dynamics.CRM.Today(PropertyName='new_lastvisit')", ""),
    ],
)
def test_which_rows_a_filter_keeps(people: WebApi, expression: str, names: str) -> None:
    assert people.query(expression) == names.split()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("contacts?$filter=x eq 1", "Could not find a property named 'x' on type 'Microsoft.Dynamics.CRM.contact'."),
        ("contacts?$select=statuscodename", "Could not find a property named 'statuscodename' on type"),
        ("contacts?$filter=lastname eq 'x", "There is an unterminated literal at position"),
        ("contacts?$filter=new_score eq '7'", "A binary operator with incompatible types was detected."),
        ("contacts?$filter=lastname", "Syntax error"),
        ("contacts?$filter=(lastname eq 'x'", "Syntax error"),
        ("contacts?$filter=nosuch(lastname)", "An unknown function with name 'nosuch' was found."),
        ("contacts?$skip=5", "The query parameter $skip is not supported"),
        ("contacts?$top=0", "Invalid value '0' for $top"),
        ("contacts?$orderby=nosuch", "Could not find a property named 'nosuch'"),
    ],
)
def test_bad_queries_are_refused_as_dataverse_does(people: WebApi, address: str, message: str) -> None:
    reply = people.get(address)
    assert (reply.status, reply.error) == (400, "0x80060888")
    assert reply.message.startswith(message)


def test_counts_are_capped(people: WebApi) -> None:
    assert people.get("contacts?$count=true&$top=1").json["@odata.count"] == 4
    assert people.get("contacts/$count").body == b"4"
    assert people.get("contacts/$count?$filter=new_score gt 0").body == b"2"
    people.org.switches.count_limit = 3
    reply = people.get("contacts?$count=true&$top=1", 'odata.include-annotations="*"')
    assert reply.json["@odata.count"] == 3
    assert reply.json["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] is True
    assert people.get("contacts/$count").body == b"3"
    uncounted = people.get("contacts?$top=1", 'odata.include-annotations="*"').json
    assert uncounted["@Microsoft.Dynamics.CRM.totalrecordcount"] == -1


@pytest.fixture(scope="module")
def sample() -> WebApi:
    api = WebApi()
    load_sample(api.org, 120)
    return api


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 50),
    order=st.lists(
        st.sampled_from(["lastname", "creditlimit", "new_score desc", "birthdate", "_parentcustomerid_value desc"]),
        unique_by=lambda text: text.split()[0],
        max_size=3,
    ),
    filter=st.sampled_from(["", "statecode eq 0", "contains(lastname,'a')", "new_score gt 400"]),
)
def test_pages_put_together_are_the_whole(sample: WebApi, size: int, order: list[str], filter: str) -> None:
    query = "contacts?$select=fullname"
    query += f"&$orderby={','.join(order)}" if order else ""
    query += f"&$filter={filter}" if filter else ""
    whole: list[dict[str, Any]] = sample.get(query).rows
    pages, _ = sample.pages(query, f"odata.maxpagesize={size}")
    assert [row for page in pages for row in page] == whole
    assert all(len(page) == size for page in pages[:-1])
