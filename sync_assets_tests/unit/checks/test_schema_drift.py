"""Types of mapped columns and attributes: another one than before is found, by side, and named."""

from __future__ import annotations

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource
from sync_assets.checks.preflight import type_findings, types_in
from sync_assets.config.models import TableConfig
from sync_assets.ledger.repositories.maintenance import Types

CONFIG = TableConfig.model_validate(
    {
        "table": "new_order",
        "resource": "cusOrder",
        "key": "cusOrderId",
        "fields": {"new_name": "cusName", "new_amount": "cusAmount"},
        "links": [{"field": "new_contactid", "to": "cusContactLink", "table": "contact"}],
    }
)
TYPES: Types = {
    ("d365", "new_name"): "string",
    ("d365", "new_amount"): "money",
    ("campaign", "cusName"): "string",
    ("campaign", "cusAmount"): "float",
}


def found(known: Types, now: Types) -> dict[str, tuple[bool, str]]:
    return {one.check: (one.passed, one.message) for one in type_findings(CONFIG, known, now)}


def test_as_before_or_never_seen_before_is_no_change() -> None:
    for known in (TYPES, Types()):
        assert {check: passed for check, (passed, _) in found(known, TYPES).items()} == {
            "column_types_are_as_before": True,
            "attribute_types_are_as_before": True,
        }


def test_each_side_names_what_changed_with_both_types_and_what_to_do() -> None:
    told = found(TYPES, {**TYPES, ("d365", "new_amount"): "decimal", ("campaign", "cusName"): "integer"})
    assert told["column_types_are_as_before"] == (
        False,
        "`new_amount` of new_order was money and is decimal. Look whether the mapping still says what you mean, then "
        "`sync-assets maintenance off new_order` takes the new types",
    )
    passed, message = told["attribute_types_are_as_before"]
    assert not passed
    assert message.startswith("`cusName` of cusOrder was string and is integer.")


def test_what_is_no_longer_mapped_or_newly_mapped_is_no_change() -> None:
    known = {**TYPES, ("d365", "new_old"): "string"}
    now = {**TYPES, ("d365", "new_new"): "memo"}
    assert all(passed for passed, _ in found(known, now).values())


def test_a_push_asks_for_campaigns_side_of_what_is_mapped_alone() -> None:
    kinds: dict[str, AttributeType] = {
        "cusOrderId": "string",
        "cusName": "string",
        "cusContactLink": "link",
        "cusOther": "date",
    }
    attributes = {name: Attribute(name, kind) for name, kind in kinds.items()}
    now = types_in(
        CONFIG, Resource("cusOrder", "profileAndServicesExt", attributes)
    )  # cusAmount is gone: not its matter
    assert now == {
        ("campaign", "cusOrderId"): "string",
        ("campaign", "cusName"): "string",
        ("campaign", "cusContactLink"): "link",
    }
    assert [one.check for one in type_findings(CONFIG, TYPES, now)] == ["attribute_types_are_as_before"]
