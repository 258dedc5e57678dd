"""A link that Campaign publishes with another cardinality than the configuration says is named."""

from __future__ import annotations

from typing import Literal

import pytest

from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.checks.preflight import cardinalities
from sync_assets.config.models import TableConfig


@pytest.mark.parametrize(
    ("mandatory", "cardinality", "style", "said", "stops"),
    [
        (True, "one", "key", None, False),
        (False, "zero_or_one", "key", None, False),
        (True, "zero_or_one", "key", "write `cardinality: one`", True),
        (False, "one", "key", "write `cardinality: zero_or_one`", False),
        (False, "one", "join", None, False),  # the link has another name
    ],
)
def test_what_is_said_of_a_link(
    mandatory: bool,
    cardinality: Literal["one", "zero_or_one"],
    style: Literal["key", "join"],
    said: str | None,
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
    assert (found.passed, found.stops, found.side) == (said is None, stops, "campaign")
    assert said is None or (said in found.message and "link `new_contactid`" in found.message)
    assert stops is ("Nothing of new_order is sent" in found.message)
