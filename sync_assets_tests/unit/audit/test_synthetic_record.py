"""The synthetic record of a table: recognisable by its id and its name, reaching no person."""

import re
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from sync_assets.audit.certification.synthetic_record import NAMES, NO_ADDRESS, NOTICE, PREFIX, Subject, synthetic_id
from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.config.models import LinkConfig, TableConfig
from sync_assets.push.record_links import LinkTarget

NO_CLIENT = cast("CampaignClient", None)
"""These tests send nothing."""


def subject(resource: str, *attributes: Attribute, fields: dict[str, str] | None = None, **more: Any) -> Subject:
    key = Attribute("cusKey", "string", 100)
    described = Resource(resource, "profileAndServicesExt", {one.path: one for one in (key, *attributes)})
    table = {"table": "a_table", "resource": resource, "key": "cusKey", "fields": fields or {}, **more}
    config = TableConfig.model_validate(table)
    return Subject(NO_CLIENT, config, described, (), Addressing(), datetime.now(UTC))


def text(path: str, length: int | None = 100, **more: Any) -> Attribute:
    return Attribute(path, "string", length, **more)


def test_the_id_of_a_table_is_a_guid_and_always_the_same() -> None:
    assert synthetic_id("contact") == synthetic_id("contact") != synthetic_id("new_order")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", synthetic_id("contact"))
    assert synthetic_id("contact").startswith(PREFIX)


def test_a_record_is_ours_by_its_key_in_any_case() -> None:
    one = subject("cusThing")
    assert one.carries_our_id({"cusKey": one.id.upper()})
    assert not one.carries_our_id({"cusKey": one.id[:-1]})
    assert not one.carries_our_id({})


def test_a_profile_has_the_names_by_which_people_know_it_and_no_address() -> None:
    one = subject("profile", text("firstName"), text("lastName"), text("email"), fields={"emailaddress1": "email"})
    assert one.body() == {**NAMES, "cusKey": one.id}


def test_a_synthetic_record_names_itself_as_one_that_may_be_deleted() -> None:
    one = subject("cusThing", text("cusName", 10), fields={"new_name": "cusName"})
    assert one.body() == {"cusName": NOTICE[:10], "cusKey": one.id}


def test_mandatory_attributes_have_a_value_of_their_type() -> None:
    one = subject(
        "cusThing",
        text("cusCode", 3, mandatory=True),
        text("cusEmail", mandatory=True),
        text("cusReadOnly", mandatory=True, read_only=True),
        Attribute("cusCount", "integer", mandatory=True),
        Attribute("cusKind", "enumeration", mandatory=True, values=("none", "one")),
        Attribute("cusLink", "link", mandatory=True),
    )
    assert one.body() == {
        "cusCode": NOTICE[:3],
        "cusEmail": NO_ADDRESS,
        "cusCount": 1,
        "cusKind": "one",
        "cusKey": one.id,
    }


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (("firstName", "salutation", "cusNote"), "cusNote"),
        (("firstName", "salutation"), "salutation"),
        (("lastName",), "lastName"),
        (("email", "phone", "mobilePhone", "fax"), None),
        ((), None),
    ],
)
def test_odd_texts_go_into_an_attribute_that_no_delivery_uses(
    attributes: tuple[str, ...], expected: str | None
) -> None:
    fields = {f"column_{n}": path for n, path in enumerate(attributes)}
    result = subject("profile", *map(text, attributes), fields=fields).text_attribute()
    assert (result.path if result else None) == expected


def test_a_link_is_sent_with_the_parents_pkey_and_a_join_with_its_id() -> None:
    parent, child = subject("profile"), subject("cusThing")
    parent.pkey = "@parent"
    child.links = (LinkTarget(LinkConfig(field="a_contactid", to="cusLink", table="contact"), parent.config),)
    child.parents = {"cusLink": parent, "cusJoined": parent}
    assert child.body() == {"cusLink": {"PKey": "@parent"}, "cusJoined": parent.id, "cusKey": child.id}


def test_a_reason_is_shown_without_the_values_that_were_sent() -> None:
    one = subject("profile", text("lastName"))
    shown = one.shown(ResponseOutcome("refused", "The value 'sync_assets certify' is not valid for '@lastName'"))
    assert "sync_assets certify" not in shown
    assert "@lastName" in shown
    assert one.shown(ResponseOutcome("transient")) == "no reason"
