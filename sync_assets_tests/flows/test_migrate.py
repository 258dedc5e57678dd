"""`migrate`: from Adobe's tool, step by step, on systems that it kept in step until something was planted."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

from sync_assets_tests.flows.test_first_load import load_by_adobes_tool
from sync_assets_tests.support.opt_outs import modified, set_campaign, set_d365, sides, switch_on, writes
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.waiting import until

N = 50
"""Contacts of the sandbox."""
STEPS = ["doctor", "switch_off", "inventory", "changes", "opt_outs", "cost", "sync"]
ACTIVE = {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}


class Adobes:
    """Systems that Adobe's tool kept in step for 50 contacts. What was planted since is told by the attributes.

    In Campaign the key identifies nothing, so an id may occur twice: records are found by a published filter.
    """

    def __init__(self, program: Program) -> None:
        self.program, admin = program, program.sandbox.admin
        switch_on(program, "bidirectional")
        load_by_adobes_tool(program)
        admin.settings("campaign", profile_key=None, key_in_url=False)
        admin.settings(
            "campaign", filters={"profile": {"byOurId": {"attribute": "externalId", "parameter": "ourId_parameter"}}}
        )
        program.table |= {
            "unique": False,
            "address": "filter",
            "filter": {"name": "byOurId", "parameter": "ourId_parameter"},
            "filters": ACTIVE,
        }
        plain = [id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False)]
        quiet = [id_ for id_ in plain if sides(program, id_, "donotphone") == (False, False)]
        self.only_campaign, self.only_d365, self.twice = quiet[:3], quiet[3:5], quiet[5:7]
        admin.change("contact", quiet[7:11], jobtitle="Changed since")
        admin.change("contact", quiet[10:12], address1_city="Elsewhere")
        admin.change("contact", quiet[12:14], statecode=1)
        admin.create("contact", {"lastname": "New"}, {"lastname": "Newer"})
        admin.add_profiles(
            *({"lastName": f"Of others {n}"} for n in range(4)),
            {"lastName": "Another system's", "externalId": "crm-1"},
            *({"lastName": f"Gone {n}", "externalId": str(uuid.uuid4())} for n in range(3)),
        )
        self.again = admin.add_profiles(*({"lastName": "Again", "externalId": id_} for id_ in self.twice))

    def plant_opt_outs(self) -> None:
        for id_ in self.only_campaign:
            set_campaign(self.program, id_, modified(self.program, id_) + timedelta(minutes=30), blackListEmail=True)
        for id_ in self.only_d365:
            set_d365(self.program, id_, donotphone=True)

    def merge(self) -> None:
        """What a marketer does about ids that occur twice."""
        admin = self.program.sandbox.admin
        admin.post("/campaign/delete", {"resource": "profile", "pkeys": self.again})


@pytest.fixture
def adobes(program: Program) -> Adobes:
    made = Adobes(program)
    made.merge()
    made.plant_opt_outs()
    made.again = program.sandbox.admin.add_profiles(
        *({"lastName": "Again", "externalId": id_} for id_ in made.twice)
    )
    return made


def migrate(program: Program, *options: str) -> tuple[int, dict[str, Any]]:
    return program.json("migrate", *options)


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["step"]: step for step in document["steps"]}


def results(document: dict[str, Any]) -> dict[str, Any]:
    return {name: step["result"] for name, step in by_name(document).items()}


def test_each_step_reports_what_was_planted_and_the_sync_costs_what_was_foretold(adobes: Adobes) -> None:
    program = adobes.program
    admin = program.sandbox.admin
    since = admin.last()

    status, document = migrate(program)
    assert (status, document["next"]) == (2, "switch_off"), "a person has to confirm the checklist"
    assert len(by_name(document)["switch_off"]["details"]["checklist"]) >= 5

    admin.clear_journal()
    status, document = migrate(program, "--yes")
    assert (status, document["next"], list(by_name(document))) == (2, "sync", STEPS)
    assert writes(program) == {"d365": 0, "campaign": 0}, "nothing is written before the last step"
    assert document["engine_calls"] == admin.engine_calls()
    told = results(document)
    assert told["inventory"]["tables"]["contact"] == {
        "resource": "profile",
        "records": N + 4 + 1 + 3 + 2,
        "compared": True,
        "equal": N - 2 - 5 - told["inventory"]["tables"]["contact"]["differing"] + 5,
        "differing": told["inventory"]["tables"]["contact"]["differing"],
        "not_in_scope": 2,
        "unknown": 3,
        "without_id": 4,
        "other_key": 1,
        "twice": 2,
    }
