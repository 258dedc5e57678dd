"""The set-up of a table: both systems at once, links, types that changed."""

import logging
import time
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource
from sync_assets.checks import preflight
from sync_assets.checks.known_types import KnownTypes
from sync_assets.checks.link_findings import cardinalities
from sync_assets.checks.preflight import readiness, type_findings, types_in
from sync_assets.config.models import LinkConfig, TableConfig
from sync_assets.http.transport import Unavailable
from sync_assets_tests.support.program import CONTACT, Program


@pytest.fixture
def slow_dynamics(program: Program) -> Iterator[Program]:
    """Dynamics 365 answers the first questions about the table later than Campaign refuses."""
    program.sandbox.admin.fault("d365", "slow", path="EntityDefinitions", delay_ms=1_000, times=2)
    yield program
    program.sandbox.admin.clear_faults()


def test_the_log_does_not_blame_dynamics_365_for_a_resource_that_campaign_lacks(
    slow_dynamics: Program, caplog: pytest.LogCaptureFixture
) -> None:
    slow_dynamics.table = CONTACT | {"resource": "cusNothing"}
    with caplog.at_level(logging.DEBUG, logger="sync_assets"):
        found = readiness(runtime := slow_dynamics.runtime(), runtime.config.tables[0])
    runtime.close()
    assert [(one.side, one.passed) for one in found][:2] == [("d365", True), ("campaign", False)]
    assert [record.getMessage() for record in caplog.records if "Dynamics 365" in str(record.__dict__)] == []


def test_the_cause_of_a_failure_is_not_sought_as_long_again_in_a_system_that_does_not_answer(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.sandbox.admin.fault("d365", "unavailable")
    monkeypatch.setattr(preflight, "EXAMINE_SECONDS", 0.5)
    error, began = Unavailable("Dynamics 365 kept answering 503 for 120 s.", status=503), time.monotonic()
    found = preflight.causes(runtime := program.runtime(), runtime.config.tables[0], error, "d365")
    runtime.close()
    program.sandbox.admin.clear_faults()
    assert [one.message for one in found if not one.passed] == [str(error)]
    assert "campaign" in {one.side for one in found if one.passed}
    assert time.monotonic() - began < 20


def test_a_key_that_cannot_hold_an_id_is_one_finding(program: Program) -> None:
    program.table = CONTACT | {"key": "cusScore"}
    findings = readiness(runtime := program.runtime(), runtime.config.tables[0])
    runtime.close()
    assert [finding.check for finding in findings if not finding.passed] == ["key_can_hold_the_id"]


@pytest.mark.parametrize("parameter", ["externalId_parameter", "externalId"])
def test_a_parameter_that_the_filter_does_not_have_is_a_warning(program: Program, parameter: str) -> None:
    """Campaign returns all records then, so that the first insert into an empty resource would be found."""
    program.table = CONTACT | {"address": "filter", "filter": {"name": "byExternalId", "parameter": parameter}}
    findings = readiness(runtime := program.runtime(), runtime.config.tables[0])
    runtime.close()
    [key] = [finding for finding in findings if finding.check == "key_can_hold_the_id"]
    wrong = parameter == "externalId"
    remedy = "write `parameter: externalId_parameter`"
    assert (key.outcome, remedy in key.message) == ("warn" if wrong else "ok", wrong)


@pytest.mark.parametrize(
    ("mandatory", "cardinality", "style", "text", "stops"),
    [
        (True, "one", "key", None, False),
        (False, "zero_or_one", "key", None, False),
        (True, "zero_or_one", "key", "write `cardinality: one`", True),
        (False, "one", "key", "write `cardinality: zero_or_one`", False),
        (False, "one", "join", None, False),  # the link has another name
        (True, "one", "join", None, False),
    ],
)
def test_the_finding_about_a_link(
    mandatory: bool,
    cardinality: Literal["one", "zero_or_one"],
    style: Literal["key", "join"],
    text: str | None,
    stops: bool,
) -> None:
    to = "cusContactLink" if style == "key" else "cusContactId"
    attributes = {
        "cusContactLink": Attribute("cusContactLink", "link", mandatory=mandatory, target="profile"),
        "cusContactId": Attribute("cusContactId", "string"),
    }
    link = {"field": "new_contactid", "to": to, "table": "contact", "style": style, "cardinality": cardinality}
    config = TableConfig.model_validate(
        {
            "table": "new_order",
            "resource": "cusOrder",
            "key": "cusOrderId",
            "fields": {"new_name": "cusName"},
            "links": [link],
        }
    )
    found = cardinalities(config, Resource("cusOrder", "profileAndServicesExt", attributes))
    assert (found.passed, found.stops, found.side) == (text is None, stops, "campaign")
    assert text is None or (text in found.message and "link `new_contactid`" in found.message)
    assert stops is ("Nothing of new_order is sent" in found.message)


@pytest.mark.parametrize(
    ("mandatory", "name", "joins", "outcome", "title"),
    [
        (True, "cusContactLink", 0, "fail", "link cardinalities differ"),
        (True, "cusContactLink", 1, "ok", "link cardinalities agree"),  # perhaps the join sets it
        (False, "cusContactLink", 0, "ok", "link cardinalities agree"),
        (None, "cusContactLink", 0, "ok", "link cardinalities are unknown"),
        (True, "orgUnit", 0, "ok", "link cardinalities agree"),  # Campaign fills it
    ],
)
def test_a_mandatory_link_that_is_not_configured_stops_its_table(
    mandatory: bool | None, name: str, joins: int, outcome: str, title: str
) -> None:
    joined = LinkConfig.model_validate({"field": "new_contactid", "to": "cusId", "table": "contact", "style": "join"})
    config = CONFIG.model_copy(update={"links": (joined,) * joins})
    link = Attribute(name, "link", mandatory=mandatory, target="profile")
    finding = cardinalities(config, Resource("cusOrder", "profileAndServicesExt", {name: link}))
    assert (finding.outcome, finding.title) == (outcome, title)
    assert ("Nothing of new_order is sent" in finding.message) == (outcome == "fail")


def test_doctor_says_unknown_of_a_link_whose_cardinality_the_metadata_does_not_state() -> None:
    link = Attribute("cusContactLink", "link", mandatory=None, target="profile")
    finding = cardinalities(CONFIG, Resource("cusOrder", "profileAndServicesExt", {"cusContactLink": link}))
    assert (finding.outcome, finding.title) == ("ok", "link cardinalities are unknown")
    assert finding.message.startswith("unknown for cusContactLink")


CONFIG = TableConfig.model_validate(
    {
        "table": "new_order",
        "resource": "cusOrder",
        "key": "cusOrderId",
        "fields": {"new_name": "cusName", "new_amount": "cusAmount"},
        "links": [{"field": "new_contactid", "to": "cusContactLink", "table": "contact"}],
    }
)
TYPES: KnownTypes = {
    "d365": {"new_name": "string", "new_amount": "money"},
    "campaign": {"cusName": "string", "cusAmount": "float"},
}


def found(known: KnownTypes, now: KnownTypes) -> dict[str, tuple[bool, str]]:
    return {one.check: (one.passed, one.message) for one in type_findings(CONFIG, known, now)}


def test_as_before_or_never_seen_before_is_no_change() -> None:
    for known in (TYPES, dict[str, Any]()):
        assert {check: passed for check, (passed, _) in found(known, TYPES).items()} == {
            "column_types_are_as_before": True,
            "attribute_types_are_as_before": True,
        }


def test_each_side_names_the_change_with_both_types_and_the_remedy() -> None:
    result = found(TYPES, {"d365": {"new_amount": "decimal"}, "campaign": {"cusName": "integer"}})
    assert result["column_types_are_as_before"] == (
        False,
        "`new_amount` of new_order was money and is decimal. Check that the mapping is still right, then "
        "`sync-assets maintenance off new_order` takes the new types",
    )
    passed, message = result["attribute_types_are_as_before"]
    assert not passed
    assert message.startswith("`cusName` of cusOrder was string and is integer.")


def test_a_field_that_is_newly_or_no_longer_mapped_is_no_change() -> None:
    known = {**TYPES, "d365": {**TYPES["d365"], "new_old": "string"}}
    now = {**TYPES, "d365": {**TYPES["d365"], "new_new": "memo"}}
    assert all(passed for passed, _ in found(known, now).values())


def test_a_push_examines_the_mapped_attributes_of_campaign_alone() -> None:
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
    assert now == {"campaign": {"cusOrderId": "string", "cusName": "string", "cusContactLink": "link"}}
    assert [one.check for one in type_findings(CONFIG, TYPES, now)] == ["attribute_types_are_as_before"]
