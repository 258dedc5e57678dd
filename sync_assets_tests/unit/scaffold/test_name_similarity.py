"""Which names of the two systems are taken for the same."""

import pytest

from sync_assets.dataverse.metadata import Column, ColumnType
from sync_assets.scaffold.name_similarity import likeness, of_attribute, of_column, of_resource, of_table
from sync_assets.scaffold.suggestions import SURE
from sync_assets_tests.unit.scaffold.world import attribute, column


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("emailaddress1", "string", "email"),
        ("emailaddress2", "string", "emailaddress2"),
        ("telephone1", "string", "phone"),
        ("address1_city", "string", "location.city"),
        ("address1_line2", "string", "location.address2"),
        ("address1_postalcode", "string", "location.zipcode"),
        ("address2_city", "string", "address2city"),
        ("new_lastvisit", "datetime", "lastvisit"),
        ("cr5a2_last_visit", "datetime", "lastvisit"),
        ("gendercode", "picklist", "gender"),
        ("promocode", "string", "promocode"),
        ("statecode", "state", "status"),
    ],
)
def test_columns_lose_prefix_number_and_underscores(name: str, type_: ColumnType, expected: str) -> None:
    assert of_column(Column(name, type_)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("email", "email"),
        ("cusEmailAddress", "email"),
        ("cusLastVisit", "lastvisit"),
        ("location.zipCode", "location.zipcode"),
        ("customer", "customer"),
        ("cus_score", "score"),
    ],
)
def test_attributes_lose_the_cus_and_their_capitals(path: str, expected: str) -> None:
    assert of_attribute(path) == expected


def test_tables_and_resources_meet_in_the_singular() -> None:
    assert of_table("new_orderline") == of_resource("cusOrderLines") == "orderline"
    assert of_table("account") == of_resource("account") == "account"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("emailaddress1", "email"),
        ("emailaddress1", "cusEmail"),
        ("address1_city", "location.city"),
        ("address1_city", "cusCity"),
        ("jobtitle", "cusJobTitle"),
        ("new_birthday", "cusBirthDate"),
        ("new_name", "cusOrderName"),
        ("new_ordername", "cusName"),
    ],
)
def test_names_that_mean_the_same_are_sure(name: str, path: str) -> None:
    assert likeness(column(name), attribute(path), "order")[0] >= SURE


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("emailaddress2", "email"),
        ("address2_city", "location.city"),
        ("telephone2", "phone"),
        ("firstname", "lastName"),
        ("new_startdate", "cusStateDate"),
        ("statecode", "location.stateCode"),
    ],
)
def test_names_that_are_only_alike_are_not(name: str, path: str) -> None:
    assert likeness(column(name), attribute(path))[0] < SURE


def test_a_label_decides_where_a_name_does_not() -> None:
    cryptic = column("new_f017", label="Favourite Colour")
    assert likeness(cryptic, attribute("cusFavouriteColour"))[0] >= SURE
    assert likeness(column("new_f017"), attribute("cusFavouriteColour"))[0] < SURE
