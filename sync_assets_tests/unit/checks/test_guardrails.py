"""The limits and their numbers, and what is said beside them."""

from typing import Any

import pytest

from sync_assets.campaign.addressing import KEY_IN_DELETE, KEY_IN_URL, Addressing
from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.checks.guardrails import (
    BeyondLimits,
    check_configuration,
    links_between,
    longest_chain,
    personal_data,
    projected_calls,
    supported_types,
    way_to_profile,
    within_limits,
)
from sync_assets.checks.rules import Finding
from sync_assets.config.models import Config
from sync_assets.ledger.model import Operation
from sync_assets_tests.support.sample_tables import attributes, mapping


def table(name: str, resource: str, links: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """`links`: table that is linked to -> Campaign link attribute."""
    linked = [{"field": f"{to}id", "to": attribute, "table": to} for to, attribute in (links or {}).items()]
    given = {"table": name, "resource": resource, "key": "cusKey", "fields": {"new_name": "cusName"}, "links": linked}
    return given | more


CONTACT = table("contact", "profile")
ORDER = table("new_order", "cusOrder", {"contact": "cusContactLink"})
LINE = table("new_line", "cusLine", {"new_order": "cusOrderLink"})
STORE = table(
    "new_store", "cusStore", fields={"new_email": "cusEmail", "new_city": "cusTown", "new_opened": "cusOpened"}
)


def config(*tables: dict[str, Any], **rails: Any) -> Config:
    return Config.model_validate({"privacy_acknowledged": True, "tables": list(tables), "guardrails": rails})


def found(whole: Config, name: str, contacts: int | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in within_limits(whole, whole.table(name), contacts)}


@pytest.mark.parametrize(("contacts", "passed"), [(None, True), (0, True), (30_000_000, True), (30_000_001, False)])
def test_contacts(contacts: int | None, passed: bool) -> None:
    finding = found(config(CONTACT), "contact", contacts)["contacts_are_within_the_limit"]
    assert finding.passed is passed
    assert ("30,000,001 of at most 30,000,000; narrow them" in finding.message) is not passed
    assert finding.numbers == {"limit": 30_000_000} | ({} if contacts is None else {"number": contacts})


def test_contacts_are_a_question_of_their_own_table_only() -> None:
    assert "contacts_are_within_the_limit" not in found(config(CONTACT, ORDER), "new_order", 10**9)


@pytest.mark.parametrize(("number", "passed"), [(0, True), (5, True), (6, False)])
def test_custom_entities_count_without_contact_and_bar_every_table(number: int, passed: bool) -> None:
    whole = config(CONTACT, *(table(f"new_t{n}", f"cusT{n}") for n in range(number)))
    for name in [one.table for one in whole.tables]:
        finding = found(whole, name)["custom_entities_are_within_the_limit"]
        assert (finding.passed, finding.numbers) == (passed, {"limit": 5, "number": number})


@pytest.mark.parametrize(("fields", "passed"), [(49, True), (50, False)])
def test_columns_are_fields_and_links(fields: int, passed: bool) -> None:
    wide = ORDER | {"fields": {f"new_c{n}": f"cusC{n}" for n in range(fields)}}
    finding = found(config(CONTACT, wide), "new_order")["columns_are_within_the_limit"]
    assert (finding.passed, finding.numbers) == (passed, {"limit": 50, "number": fields + 1})
    assert "new_order" in finding.message


def test_link_depth_is_the_longest_chain() -> None:
    part = table("new_part", "cusPart", {"contact": "cusContactLink", "new_line": "cusLineLink"})
    whole = config(CONTACT, ORDER, LINE, part)
    assert longest_chain(whole, "new_part") == ["new_part", "new_line", "new_order", "contact"]
    depths = {one.table: found(whole, one.table)["link_depth_is_within_the_limit"] for one in whole.tables}
    assert {name: finding.numbers["number"] for name, finding in depths.items()} == {
        "contact": 0,
        "new_order": 1,
        "new_line": 2,
        "new_part": 3,
    }
    assert [name for name, finding in depths.items() if not finding.passed] == ["new_part"]
    assert "new_part -> new_line -> new_order -> contact: 3 of at most 2" in depths["new_part"].message


def test_a_table_that_links_to_itself_adds_no_depth() -> None:
    tree = table("new_place", "cusPlace", {"new_place": "cusUpperLink"})
    assert longest_chain(config(tree), "new_place") == ["new_place"]


def test_limits_can_be_set() -> None:
    whole = config(CONTACT, ORDER, max_contacts=9, max_custom_entities=0, max_columns=1, max_link_depth=0)
    assert not any(finding.passed for finding in found(whole, "new_order", 10).values())
    contact = found(whole, "contact", 10)
    assert {name: finding.passed for name, finding in contact.items()} == {
        "contacts_are_within_the_limit": False,
        "custom_entities_are_within_the_limit": False,
        "link_depth_is_within_the_limit": True,
    }, "the limit of columns is for custom entities"
    with pytest.raises(BeyondLimits) as caught:
        check_configuration(whole, whole.tables)
    for entry in (
        "columns of new_order: 2 of at most 1",
        "besides contact: 1 of at most 0",
        "-> contact: 1 of at most 0",
    ):
        assert entry in str(caught.value)


STORED = Resource("cusStore", "customResources", attributes(cusEmail="string", cusTown="string", cusOpened="date"))
ORDERED = Resource(
    "cusOrder", "profileAndServicesExt", {**attributes(cusName="string"), "l": Attribute("l", "link", target="profile")}
)


def personal(*resources: Resource, tables: tuple[dict[str, Any], ...] = (CONTACT, STORE)) -> Finding:
    whole = config(*tables)
    return personal_data(whole, whole.tables[-1], resources)


def test_personal_data_without_a_linked_contact_is_reported_with_the_reason() -> None:
    finding = personal(STORED)
    assert finding.outcome == "warn"
    assert "new_city, new_email look like personal data" in finding.message
    assert "privacy request" in finding.message
    assert finding.numbers == {"personal_columns": 2}


@pytest.mark.parametrize("target", ["profile", "recipient"])
def test_a_link_of_the_metadata_is_a_way(target: str) -> None:
    linked = Resource(
        "cusStore", STORED.api, {**STORED.attributes, "cusOwner": Attribute("cusOwner", "link", target=target)}
    )
    assert personal(linked).passed


def test_a_link_of_the_configuration_is_a_way_directly_or_through_another_resource() -> None:
    direct = STORE | {"links": [{"field": "new_contactid", "to": "cusLink", "table": "contact"}]}
    through = STORE | {"links": [{"field": "new_orderid", "to": "cusLink", "table": "new_order"}]}
    assert personal(STORED, tables=(CONTACT, direct)).passed
    finding = personal(STORED, tables=(CONTACT, ORDER, through))
    assert finding.passed
    assert "cusStore -> cusOrder -> profile" in finding.message


@pytest.mark.parametrize("target", ["profile", "recipient"])
@pytest.mark.parametrize(("cascades", "passed"), [(None, True), (True, True), (False, False)])
def test_a_link_without_the_deletion_leaves_personal_data_behind(
    cascades: bool | None, passed: bool, target: str
) -> None:
    link = Attribute("cusLink", "link", target=target, cascades=cascades)
    own = Resource("cusStore", STORED.api, {**STORED.attributes, "cusLink": link})
    configured = STORE | {"links": [{"field": "new_contactid", "to": "cusLink", "table": "contact"}]}
    for store in (STORE, configured):
        finding = personal(own, tables=(CONTACT, store))
        assert finding.outcome == ("ok" if passed else "warn")
        assert ("deleting the profile leaves it in Campaign" in finding.message) is not passed
    other = Attribute("cusOwner", "link", target=target, cascades=True)
    assert personal(Resource("cusStore", own.api, {**own.attributes, "cusOwner": other})).passed, "another one deletes"


def test_each_link_on_the_way_has_to_pass_the_deletion_on() -> None:
    through = STORE | {"links": [{"field": "new_orderid", "to": "cusLink", "table": "new_order"}]}
    link = Attribute("cusContactLink", "link", target="profile", cascades=False)
    order = Resource("cusOrder", "profileAndServicesExt", {**attributes(cusName="string"), "cusContactLink": link})
    finding = personal(STORED, order, tables=(CONTACT, ORDER, through))
    assert not finding.passed
    assert "cusStore -> cusOrder -> profile, but" in finding.message


def test_a_collection_is_no_way() -> None:
    listed = Attribute("cusStoreslink", "collection", target="profile")
    assert not personal(Resource("cusStore", STORED.api, {**STORED.attributes, "cusStoreslink": listed})).passed


def test_a_flag_is_not_personal_and_neither_is_an_amount() -> None:
    flags = STORE | {"fields": {"new_emailsent": "cusEmailSent", "new_name": "cusName"}}
    own = Resource("cusStore", STORED.api, attributes(cusEmailSent="boolean", cusName="string"))
    assert personal(own, tables=(CONTACT, flags)).passed


def test_ways_are_found_over_metadata_and_configuration_together() -> None:
    whole = config(LINE | {"links": []}, ORDER | {"links": []})
    links = links_between(whole, [ORDERED])
    links["cusLine"] = {"cusOrder", "cusElse"}
    assert way_to_profile("cusLine", links) == ["cusLine", "cusOrder", "profile"]
    assert way_to_profile("profile", links) == ["profile"]
    assert way_to_profile("cusElse", links) is None
    assert way_to_profile("a", {"a": {"b"}, "b": {"a"}}) is None


def test_types_that_campaign_has_not_are_named() -> None:
    finding = supported_types(mapping({"firstname": "firstName", "interests": "cusNote", "image": "cusText"}))
    assert (finding.outcome, finding.numbers) == ("warn", {"as_text": 2})
    assert (
        "image (other), interests (multiselect)" in finding.message
        or "interests (multiselect), image" in finding.message
    )
    assert supported_types(mapping({"firstname": "firstName", "birthdate": "cusDate"})).passed


def test_the_cost_of_pending_records() -> None:
    pending: dict[Operation, int] = {"insert": 5, "update": 3, "delete": 2}
    by_key, by_pkey = {KEY_IN_URL: "yes", KEY_IN_DELETE: "yes"}, {KEY_IN_URL: "yes", KEY_IN_DELETE: "no"}
    assert projected_calls(Addressing(findings=by_key), pending) == 5 + 3 + 2
    assert projected_calls(Addressing(findings=by_pkey), pending) == 5 + 3 + 4
    assert projected_calls(Addressing(findings={KEY_IN_URL: "no"}), pending) == 5 + 6 + 4
    assert projected_calls(Addressing("filter"), pending) == 5 + 6 + 4
    assert projected_calls(Addressing(), pending) == 5 + 3 + 4, "not known yet"
    assert projected_calls(Addressing(), {}) == 0
