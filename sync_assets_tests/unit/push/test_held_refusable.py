"""What the ledger stores of attributes that Campaign may refuse in updates, after each kind of request."""

import json
from typing import Any

import pytest

from sync_assets.campaign.addressing import APART, IN_UPDATES
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.ledger.model import HELD_NOT_KNOWN
from sync_assets.mapping.refusable import another, hashed, refusable
from sync_assets.push.refused_updates import held_refusable
from sync_assets_tests.unit.push.one_delivery import Push, contact

CITY, JOB = "location.city", "cusJobTitle"
FORM = json.dumps({"email": "ada@example.org", JOB: "x", "location": {"city": "Kyiv"}})


def of(*paths: str, text: bytes = b"row") -> int:
    return hashed([text], paths)[0]


ROW, BEFORE = of(CITY), of(CITY, text=b"before")
REFUSED, APART_TOO = {f"{IN_UPDATES}location": "no"}, {f"{APART}location": "PATCH of the part"}


@pytest.mark.parametrize(
    ("operation", "done", "stored", "left_out", "expected"),
    [
        ("insert", "inserted", ROW, (), None),  # as a capture stored it
        ("insert", "inserted", BEFORE, (), ROW),
        ("update", "inserted", BEFORE, (), ROW),  # Campaign did not have it any more
        ("update", "updated", BEFORE, (), ROW),
        ("update", "updated", HELD_NOT_KNOWN, (), ROW),
        ("update", "updated", BEFORE, ("location",), None),
        ("update", "updated", ROW, ("location",), None),
        ("insert", "updated", ROW, ("location",), HELD_NOT_KNOWN),  # Campaign had it before
        ("insert", "updated", ROW, (), None),
        ("update", "deleted", BEFORE, (), None),
    ],
)
def test_what_campaign_holds_after_a_request(
    operation: str, done: str, stored: int, left_out: tuple[str, ...], expected: int | None
) -> None:
    push = Push(noted=REFUSED if left_out else {f"{IN_UPDATES}location": "yes"})
    record = contact(operation, payload=FORM)._replace(refusable=ROW, held_refusable=stored)
    answer = ResponseOutcome("done", left_out=left_out)
    fields = {"jobtitle": JOB, "address1_city": CITY}
    push.records.config = push.records.config.model_validate({**push.records.config.model_dump(), "fields": fields})
    assert held_refusable(record, push.records, answer, done) == expected
    assert held_refusable(record._replace(refusable=None), push.records, answer, done) is None
    assert held_refusable(record, push.records, ResponseOutcome("transient"), done) is None


@pytest.mark.parametrize(
    ("row", "form", "expected"),
    [
        (of(CITY), FORM, HELD_NOT_KNOWN),  # captured before Campaign was found to refuse the job title
        (of(JOB, CITY), FORM, None),
        (of(JOB, CITY), '{"email":"e"}', None),  # a part of the row
    ],
)
def test_an_attribute_that_the_hash_does_not_cover_makes_the_record_not_known(
    row: int, form: str, expected: int | None
) -> None:
    push = Push(noted={f"{IN_UPDATES}{JOB}": "no"})
    fields = {"jobtitle": JOB, "address1_city": CITY}
    push.records.config = push.records.config.model_validate({**push.records.config.model_dump(), "fields": fields})
    left_out = (JOB,) if JOB in form else ()
    record = contact("update", payload=form)._replace(refusable=row, held_refusable=another(row))
    assert held_refusable(record, push.records, ResponseOutcome("done", left_out=left_out), "updated") == expected


def test_which_attributes_a_hash_covers_is_part_of_it() -> None:
    paths: list[Any] = ["email", CITY, JOB]
    assert (refusable(paths, ()), refusable(paths, [JOB])) == ([CITY], sorted([CITY, JOB]))
    assert (of(CITY) & 0xFF == another(of(CITY)) & 0xFF, of(CITY) & 0xFF == of(CITY, JOB) & 0xFF) == (True, False)
    assert of(CITY) not in (another(of(CITY)), BEFORE, HELD_NOT_KNOWN)
