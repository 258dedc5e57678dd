"""What the checks for data quality say, and when they turn from green to yellow to red."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from sync_assets.audit.drift import Drift
from sync_assets.config.models import TableConfig
from sync_assets.defs.tables import check_results
from sync_assets.ledger import Counts

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
CONTACT = TableConfig.model_validate(
    {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"firstname": "firstName"}}
)
BY_FILTER = CONTACT.model_copy(update={"address": "filter"})
HOUR = timedelta(hours=1)


def rows(result: dg.AssetCheckResult, name: str) -> list[dict[str, Any]]:
    value = result.metadata[name]
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def number(result: dg.AssetCheckResult, name: str) -> Any:
    return result.metadata[name].value


def test_a_column_of_a_table_that_holds_numbers_is_one_of_numbers() -> None:
    value = check_results.table(("day", "insert"), [("2026-11-24", 3)])
    assert isinstance(value, dg.TableMetadataValue)
    assert [(column.name, column.type) for column in value.schema.columns] == [("day", "string"), ("insert", "int")]


def test_every_check_has_a_text_and_stands_on_the_campaign_asset_or_on_its_audit() -> None:
    results = [
        check_results.refused(CONTACT, None, []),
        check_results.waiting(CONTACT, {}, None, NOW),
        check_results.backlog(CONTACT, 0, None, NOW),
        check_results.agreement(CONTACT, Drift()),
        check_results.one_record_each(CONTACT, Drift(), []),
    ]
    assert [result.check_name for result in results] == list(check_results.TEXTS)
    profile, audit = dg.AssetKey(["campaign", "profile"]), dg.AssetKey(["campaign", "profile_audit"])
    assert [result.asset_key for result in results] == [profile] * 3 + [audit] * 2
    assert all(result.passed for result in results)


@pytest.mark.parametrize(
    ("failed", "known", "passed", "severity"),
    [(0, 0, True, None), (0, 9, True, None), (4, 100, False, WARN), (5, 100, False, ERROR)],
)
def test_the_reject_rate(failed: int, known: int, passed: bool, severity: dg.AssetCheckSeverity | None) -> None:
    reasons = [("no such value", failed)] if failed else []
    result = check_results.refused(CONTACT, Counts(failed=failed, synced=known - failed), reasons)
    assert result.passed is passed
    assert severity in (None, result.severity)
    assert number(result, "reject_rate") == (failed / known if known else 0)
    assert rows(result, "reasons") == [{"reason": reason, "records": count} for reason, count in reasons]
    assert passed or f"{failed} of {known}" in (result.description or "")


@pytest.mark.parametrize(
    ("by_reason", "age", "passed", "says"),
    [
        ({}, None, True, "No record is waiting."),
        ({"parent not there yet": 2}, 59 * HOUR / 60, True, "2, the oldest for 59 min."),
        ({"parent not there yet": 2}, HOUR, True, "1 h 0 min"),
        ({"parent not there yet": 2, "parent filtered out": 3}, 61 * HOUR / 60, False, "5, the oldest for 1 h 1 min."),
        ({"parent filtered out": 1}, 73 * HOUR, False, "3 d 1 h"),
    ],
)  # fmt: skip
def test_records_that_wait(by_reason: dict[str, int], age: timedelta | None, passed: bool, says: str) -> None:
    result = check_results.waiting(CONTACT, by_reason, NOW - age if age else None, NOW)
    assert (result.passed, result.severity) == (passed, WARN)
    assert says in (result.description or "")
    assert {row["waiting for"]: row["records"] for row in rows(result, "waiting_for")} == by_reason


@pytest.mark.parametrize(
    ("pending", "age", "passed", "severity"),
    [(0, None, True, WARN), (7, HOUR, True, WARN), (7, 2 * HOUR, False, WARN), (7, 25 * HOUR, False, ERROR)],
)
def test_the_age_of_the_backlog(
    pending: int, age: timedelta | None, passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    result = check_results.backlog(CONTACT, pending, NOW - age if age else None, NOW)
    assert (result.passed, result.severity) == (passed, severity)
    assert number(result, "oldest_hours") == (age / HOUR if age else 0)


def test_a_clock_that_is_behind_makes_nothing_old() -> None:
    assert number(check_results.backlog(CONTACT, 1, NOW + HOUR, NOW), "oldest_hours") == 0


def test_agreement_names_the_attributes_and_some_ids() -> None:
    ids = [f"id{n}" for n in range(7)]
    found = Drift(sampled=200, moved=2, compared=198, missing=["gone"], differing={"email": ids, "firstName": ids[:1]})
    result = check_results.agreement(CONTACT, found)
    assert (result.passed, result.severity) == (False, WARN)
    assert "Of 198 records that were read back, 1 are not in Campaign; 7 differ: email (7), firstName (1)." in (
        result.description or ""
    )
    assert rows(result, "attributes") == [
        {"attribute": "not found", "records": 1, "ids": "gone"},
        {"attribute": "email", "records": 7, "ids": "id0, id1, id2, id3, id4"},
        {"attribute": "firstName", "records": 1, "ids": "id0"},
    ]
    assert number(result, "differing") == 7


def test_many_that_differ_are_an_error() -> None:
    found = Drift(sampled=20, compared=20, differing={"email": ["id1"]})
    assert check_results.agreement(CONTACT, found).severity is ERROR


def test_a_sample_that_could_not_be_read_says_why() -> None:
    assert "budget" in (check_results.agreement(CONTACT, Drift(sampled=200, kept_back=200)).description or "")
    assert "none is known" in (check_results.agreement(CONTACT, Drift(sampled=3, moved=3)).description or "")


def test_a_key_that_stands_twice_is_told_from_the_sample_and_from_refusals() -> None:
    reasons = [
        ("A 'Profile' with the same key '<id>' already exists.", 2),
        ("More than one profile of Campaign carries this externalId.", 1),
        ("no such value", 5),
    ]
    result = check_results.one_record_each(BY_FILTER, Drift(compared=9, twice=["id1"]), reasons)
    assert (result.passed, result.severity) == (False, ERROR)
    assert (number(result, "more_than_once"), number(result, "refused_because_taken")) == (1, 3)
    assert check_results.one_record_each(BY_FILTER, Drift(compared=9), reasons[2:]).passed


def test_how_a_key_is_known_to_stand_once() -> None:
    assert "its identification key" in (check_results.one_record_each(CONTACT, Drift(compared=9), []).description or "")
    assert "by the filter" in (check_results.one_record_each(BY_FILTER, Drift(compared=9), []).description or "")
