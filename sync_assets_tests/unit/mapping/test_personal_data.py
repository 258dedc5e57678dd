"""Which names look as if personal data stood behind them."""

import pytest

from sync_assets.mapping.personal_data import is_telephone, looks_personal


@pytest.mark.parametrize(
    "name",
    ["emailaddress1", "new_email", "cusEmail", "mobilephone", "telephone1", "fax", "firstname", "cusManagerLastName",
     "address1_line1", "location.city", "location.zipCode", "address1_postalcode", "birthdate", "cusBirthday",
     "cusStreet", "new_fullname", "cusMail", "gendercode_gender", "cusSSN"],
)  # fmt: skip
def test_people_are_seen_in(name: str) -> None:
    assert looks_personal(name)


@pytest.mark.parametrize(
    "name",
    ["new_name", "cusName", "new_amount", "cusCapacity", "velocity", "new_orderdate", "cusOrderId", "description",
     "statecode", "cusFaxed", "elasticity", "cusTelemetry"],
)  # fmt: skip
def test_people_are_not_seen_in(name: str) -> None:
    assert not looks_personal(name)


def test_telephone_numbers_differ_from_other_personal_data() -> None:
    assert all(map(is_telephone, ("phone", "mobilePhone", "fax", "cusTel", "telephone1")))
    assert not any(map(is_telephone, ("email", "location.zipCode", "cusTelemetry", "cusFaxed")))
