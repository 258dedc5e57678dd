"""What is known of a resource's key, and how its records are addressed by that."""

import pytest

from sync_assets.campaign.addressing import KEY, KEY_IN_DELETE, KEY_IN_URL, Addressing, Mode
from sync_assets.config.models import AddressFilter, TableConfig

BY_ID = AddressFilter(name="byExternalId", parameter="externalId_parameter")


def known(findings: dict[str, str], mode: Mode = "auto", filter: AddressFilter | None = BY_ID) -> Addressing:
    config = TableConfig(table="contact", resource="profile", key="externalId", address=mode, filter=filter)
    return Addressing.configured(config, {KEY: "externalId", **findings})


@pytest.mark.parametrize(
    ("mode", "expected", "by_key", "by_key_in_delete"),
    [
        ("url", None, True, None),
        ("url", "no", True, None),
        ("filter", None, False, False),
        ("filter", "yes", False, False),
        ("auto", None, None, None),
        ("auto", "yes", True, None),
        ("auto", "no", False, False),
    ],
)
def test_the_configuration_decides_else_the_findings(
    mode: Mode, expected: str | None, by_key: bool | None, by_key_in_delete: bool | None
) -> None:
    addressing = known({} if expected is None else {KEY_IN_URL: expected}, mode)
    assert (addressing.key_in_url, addressing.key_in_delete) == (by_key, by_key_in_delete)


def test_that_keys_are_not_taken_is_asked_again_where_there_is_no_other_way() -> None:
    assert known({KEY_IN_URL: "no"}, filter=None).key_in_url is None
    assert known({KEY_IN_URL: "no"}).key_in_url is False


def test_findings_about_another_key_are_not_used() -> None:
    config = TableConfig(table="contact", resource="profile", key="cusCrmId", filter=BY_ID)
    other = Addressing.configured(config, {KEY: "externalId", KEY_IN_URL: "yes", KEY_IN_DELETE: "yes"})
    assert (other.key_in_url, other.key_in_delete, other.is_unique) == (None, None, False)
    other.found_by_key()
    assert other.news == {KEY: "cusCrmId", KEY_IN_URL: "yes"}


def test_only_news_is_to_be_stored() -> None:
    addressing = known({KEY_IN_URL: "yes"})
    addressing.found_by_key()
    assert addressing.news == {}
    addressing.not_by_key()
    assert addressing.news == {KEY_IN_URL: "no"}


def test_a_key_that_urls_resolve_is_unique_unless_configured_otherwise() -> None:
    assert not known({}).is_unique
    assert known({KEY_IN_URL: "yes"}).is_unique
    assert not Addressing("auto", None, False, {KEY_IN_URL: "yes"}).is_unique
    assert Addressing("auto", None, True).is_unique


def test_the_filter_is_asked_until_a_record_was_found_by_its_key() -> None:
    addressing = known({KEY_IN_URL: "yes"})
    assert addressing.falls_back
    addressing.found_by_key()
    assert not addressing.falls_back
    assert not known({}, filter=None).falls_back
    assert not known({}, "url").falls_back
