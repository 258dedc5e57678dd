"""The results of a migration's steps: what is stored, and what waits for a person."""

from collections import Counter
from typing import Any

import pytest

from sync_assets.checks.rules import fail, ok, warn
from sync_assets.cli.migrate import changes_step, inventory_step, opt_outs_step, switch_off_step
from sync_assets.cli.steps import doctor_step
from sync_assets.commands.inventory import Inventory, Sample, TableInventory
from sync_assets.commands.plan_document import PlannedTable, SidesOfAttribute
from sync_assets.config.models import Config
from sync_assets.config.opt_out import Direction
from sync_assets.runtime.context import Runtime

MAPPINGS = {"donotemail": "blackListEmail"}


def config(direction: Direction = "bidirectional") -> Config:
    table = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}
    document = {
        "privacy_acknowledged": True,
        "tables": [table],
        "opt_out": {"direction": direction, "mappings": MAPPINGS},
    }
    return Config.model_validate(document)


def inventory(**counts: Any) -> Inventory:
    return Inventory(Runtime({}), tables={"contact": TableInventory(records=10, listing="whole", **counts)})


def planned_table(**values: Any) -> PlannedTable:
    every: dict[str, Any] = dict.fromkeys(PlannedTable.__struct_fields__[:-2], 0)
    by_name = ("waiting_for", "kept_values", "deletes_following", "deletes_orphaning", "engine_calls")
    every |= {"load": None, "by_file": None}
    every |= {"resource": "profile", "problem": None, "mapping_changes": [], **{name: {} for name in by_name}}
    return PlannedTable(**(every | values))


def planned(**counts: int) -> dict[str, PlannedTable]:
    return {"contact": planned_table(**counts)}


def test_failures_and_warnings_are_shown_and_only_failures_count() -> None:
    lines = [ok("a", "fine"), warn("b", "look"), *fail("c", "mend")]
    assert doctor_step(lines[:2]).todo == []
    step = doctor_step(lines)
    assert step.result.findings == {"ok": 1, "warn": 1, "fail": 1}
    assert [line.title for line in step.details.checks] == ["b", "c"]
    assert len(step.todo) == 1


@pytest.mark.parametrize(
    ("direction", "word"),
    [("disabled", "Stop"), ("d365_to_campaign", "Stop"), ("campaign_to_d365", "Leave"), ("bidirectional", "Leave")],
)
def test_the_export_of_opt_outs_goes_on_where_its_file_is_read(direction: Direction, word: str) -> None:
    step = switch_off_step(config(direction))
    [export] = [item for item in step.details.checklist if "exports opt-outs" in item]
    assert export.startswith(word)
    assert step.question


def test_an_id_in_several_records_waits_for_a_decision_and_nothing_else_in_the_inventory_does() -> None:
    result = inventory_step(config(), inventory(equal=1, unknown=2, other_key=3, keyed=6, differing=1))
    assert result.question is None
    assert result.result.inventory["contact"].without_id == 4
    assert "1 id is in several records" in (inventory_step(config(), inventory(twice=1)).question or "")


def test_updates_and_deletes_wait_for_a_decision_and_inserts_do_not() -> None:
    assert changes_step(inventory(), planned(insert=5)).question is None
    assert changes_step(inventory(), planned(update=1)).question == "1 record of Campaign would change. Is that right?"
    assert changes_step(inventory(), planned(delete=2)).question


def test_samples_are_shown_and_not_stored() -> None:
    sample = Sample("an-id", {"lastName": SidesOfAttribute(campaign="empty", mapped="text, 3 characters")})
    step = changes_step(inventory(samples=[sample]), planned(update=1))
    assert step.details.samples == {"contact": [sample]}
    assert "an-id" not in repr(step.result)


def test_opt_outs_that_differ_wait_for_a_decision_only_if_one_is_written() -> None:
    result = inventory()
    result.opt_outs = {"blackListEmail": Counter(agree=3, only_d365=1)}
    assert opt_outs_step(config("disabled"), result).question is None
    result.opt_outs["blackListEmail"]["to_campaign"] = 1
    assert "0 opt-outs would be written to Dynamics 365 and 1 to Campaign" in (
        opt_outs_step(config(), result).question or ""
    )
