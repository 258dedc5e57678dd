"""`migrate`: from Adobe's integration, step by step, on systems that it kept in step until something was planted."""

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from sync_assets.audit import record_list
from sync_assets.cli.migrate import Migration
from sync_assets.cli.steps import walk
from sync_assets.commands.values import builtins
from sync_assets.errors import SyncAssetsError
from sync_assets_tests.flows.test_first_load import planned
from sync_assets_tests.support.chain import Chain, ledger_of, let_the_key_identify_nothing, load_by_adobes_tool, lose
from sync_assets_tests.support.ledgers import live_sessions
from sync_assets_tests.support.opt_outs import modified, opted_in, set_campaign, set_d365, switch_on, writes
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.terminal import in_a_terminal

N = 50
"""Contacts of the sandbox."""
night = partial(pytest.param, marks=pytest.mark.slow)
STEPS = ["doctor", "switch_off", "inventory", "changes", "opt_outs", "cost", "sync"]


class Adobes:
    """Systems that Adobe's integration kept in step. Opt-outs go both ways.

    `unique`: False for a key that identifies nothing, so that an id may occur twice. `changed`, `moved`: contacts with
    another job title, or city, than their profile. `plain`: contacts without an opt-out that are not among these.
    """

    def __init__(self, program: Program, *, unique: bool) -> None:
        self.program, self.admin = switch_on(program, "bidirectional"), program.sandbox.admin
        load_by_adobes_tool(program)
        program.table |= {"filters": {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}}
        if not unique:
            let_the_key_identify_nothing(program)
        active = {row["contactid"] for row in self.admin.dump_d365() if row["statecode"] == 0}
        plain = [id_ for id_ in opted_in(program) if id_ in active]
        self.changed, self.moved, inactive, self.plain = plain[:4], plain[3:6], plain[6:8], plain[8:]
        self.admin.change("contact", self.changed, jobtitle="Changed since")
        self.admin.change("contact", self.moved, address1_city="Elsewhere")
        self.admin.change("contact", inactive, statecode=1)
        self.admin.create("contact", {"lastname": "New"}, {"lastname": "Newer"})
        self.admin.add_profiles(
            *({"lastName": f"Of others {n}"} for n in range(14)),
            {"lastName": "Another system's", "externalId": "crm-1"},
            *({"lastName": f"Gone {n}", "externalId": str(uuid.uuid4())} for n in range(3)),
        )
        for id_ in self.plain[:3]:
            set_campaign(program, id_, modified(program, id_) + timedelta(minutes=30), blackListEmail=True)
        for id_ in self.plain[3:5]:
            set_d365(program, id_, donotphone=True)
        self.not_in_scope = N - len(active) + len(inactive)

    def copy_profiles(self, *ids: str) -> list[str]:
        """Let each id occur in two records, by an import in Campaign. Return the PKeys of the new ones."""
        profiles = self.program.profiles()
        kept = ("firstName", "lastName", "email", "cusJobTitle", "cusVip", "birthDate", "location", "externalId")
        return self.admin.add_profiles(*({name: profiles[id_][name] for name in kept} for id_ in ids))

    def merge(self, pkeys: list[str]) -> None:
        self.admin.post("/campaign/delete", {"resource": "profile", "pkeys": pkeys})

    def inventory(self, *, twice: int = 0) -> dict[str, Any]:
        return {
            "resource": "profile",
            "records": N + 14 + 1 + 3 + twice,
            "compared": True,
            "equal": N - self.not_in_scope - 6,
            "differing": 6,
            "not_in_scope": self.not_in_scope,
            "unknown": 3,
            "without_id": 14,
            "other_key": 1,
            "twice": twice,
        }


def results(document: dict[str, Any]) -> dict[str, Any]:
    return {step["step"]: step["result"] for step in document["steps"]}


def made(program: Program, confirm: Callable[[str], bool]) -> dict[str, Any]:
    """`migrate` in this process."""
    with closing(program.runtime()) as runtime:
        return builtins(walk(Migration(runtime), confirm=confirm, show=lambda step: None))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten records a page instead of five hundred."""
    monkeypatch.setattr(record_list, "PAGE", 10)


def sessions(program: Program) -> list[Any]:
    """The sessions that the ledger has."""
    with closing(program.runtime()) as runtime:
        return list(live_sessions(runtime.ledger))


def test_the_steps_report_what_was_planted_and_the_first_sync_costs_what_they_foretold(program: Program) -> None:
    adobes = Adobes(program, unique=True)
    adobes.admin.clear_journal()

    status, document = program.json("migrate")
    assert (status, document["next"]) == (2, "switch_off"), "a person confirms the checklist"
    assert len(document["steps"][-1]["details"]["checklist"]) >= 5
    before = adobes.admin.engine_calls()
    assert document["engine_calls"] == before
    assert sessions(program) == [], "a command ends its session"

    status, document = program.json("migrate", "--yes")
    assert (status, document["next"], [step["step"] for step in document["steps"]]) == (2, "sync", STEPS)
    assert writes(program) == {"d365": 0, "campaign": 0}, "nothing is written before the last step"
    result = results(document)
    assert result["inventory"]["inventory"] == {"contact": adobes.inventory()}
    contact = result["changes"]["changes"]["contact"]
    assert (contact["insert"], contact["update"], contact["delete"]) == (2, 6, 0)
    assert result["changes"]["attributes"] == {"contact": {"cusJobTitle": 4, "location.city": 3}}
    assert result["opt_outs"]["opt_outs"] == {
        "blackListEmail": {"agree": N - 3, "only_d365": 0, "only_campaign": 3, "to_d365": 3, "to_campaign": 0},
        "blackListPhone": {"agree": N - 2, "only_d365": 2, "only_campaign": 0, "to_d365": 0, "to_campaign": 2},
    }
    foretold = result["cost"]["cost"]["engine_calls"]
    assert (foretold["insert"], foretold["update"], foretold["delete"]) == (2, 8, 0)

    adobes.admin.clear_journal()
    status, document = program.json("migrate", "--go")
    assert (status, document["next"], sessions(program)) == (0, None, [])
    assert results(document)["sync"] == {"engine_calls": foretold}
    assert any("Start the sensors" in line for line in document["steps"][-1]["details"]["afterwards"])
    assert adobes.admin.engine_calls() == foretold
    assert program.json("sync")[1]["engine_calls"] == calls(), "both systems agree"
    profiles = program.profiles()
    rows = {row["contactid"]: row for row in adobes.admin.dump_d365()}
    assert {profiles[id_]["cusJobTitle"] for id_ in adobes.changed} == {"Changed since"}
    assert {profiles[id_]["location"]["city"] for id_ in adobes.moved} == {"Elsewhere"}
    assert all(rows[id_]["donotemail"] for id_ in adobes.plain[:3])
    assert all(profiles[id_]["blackListPhone"] for id_ in adobes.plain[3:5])

    adobes.admin.clear_journal()
    assert program.json("migrate")[0] == 0, "it is done, and stays done"
    assert adobes.admin.journal() == []


def test_failures_of_doctor_come_first_and_a_rejected_record_is_asked_about_before_the_migrations_end(
    program: Program,
) -> None:
    program.more["CAMPAIGN_CLIENT_SECRET"] = "wrong"
    status, document = program.json("migrate", "--yes", "--go")
    assert (status, document["next"]) == (2, "doctor")
    assert document["steps"][0]["todo"]
    assert any(line["outcome"] == "fail" for line in document["steps"][0]["details"]["checks"])
    program.more.clear()
    admin = program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)
    admin.create("contact", {"lastname": "Ada", "emailaddress1": "no-address"})
    assert program.json("migrate", "--yes")[1]["next"] == "sync"
    status, text, errors = program.run("migrate", "--go")
    assert status == 2
    asked = "The first sync left: 1 rejected (`sync-assets rejects`). Is the migration done without that?"
    assert f"To confirm: {asked}" in text.splitlines()
    assert errors.splitlines()[-1].startswith(f"sync-assets: Step 7 is not done: {asked} `sync-assets migrate`")
    assert program.json("migrate")[1]["steps"][-1]["question"] == asked
    status, document = program.json("migrate", "--yes")
    assert (status, document["next"]) == (0, None)


@pytest.mark.parametrize(
    ("direction", "opt_outs", "updates"),
    [
        night("disabled", {"to_d365": (0, 0), "to_campaign": (0, 0)}, 6),
        ("d365_to_campaign", {"to_d365": (0, 0), "to_campaign": (3, 2)}, 6 + 5),
        night("campaign_to_d365", {"to_d365": (3, 0), "to_campaign": (0, 0)}, 6),
    ],
)
def test_in_each_direction_opt_outs_are_compared_and_only_the_writes_of_that_direction_are_foretold(
    program: Program, direction: str, opt_outs: dict[str, tuple[int, int]], updates: int
) -> None:
    adobes = Adobes(program, unique=True)
    switch_on(program, direction)
    status, document = program.json("migrate", "--yes", "--go")
    assert (status, document["next"]) == (0, None)
    result = results(document)
    email, phone = (result["opt_outs"]["opt_outs"][name] for name in ("blackListEmail", "blackListPhone"))
    assert (email["only_campaign"], phone["only_d365"]) == (3, 2)
    assert {side: (email[side], phone[side]) for side in opt_outs} == opt_outs
    assert result["cost"]["cost"]["engine_calls"]["update"] == updates
    assert result["sync"]["engine_calls"] == result["cost"]["cost"]["engine_calls"]
    rows = {row["contactid"]: row for row in adobes.admin.dump_d365()}
    written = [rows[id_]["donotemail"] for id_ in adobes.plain[:3]]
    assert written == [direction == "campaign_to_d365"] * 3


def test_ids_that_occur_twice_wait_for_a_decision_and_are_counted_again_once_they_are_merged(program: Program) -> None:
    adobes = Adobes(program, unique=False)
    copies = adobes.copy_profiles(*adobes.plain[5:7])
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return "several records" not in question

    document = made(program, confirm)
    assert document["next"] == "inventory"
    assert results(document)["inventory"]["inventory"] == {"contact": adobes.inventory(twice=2)}
    assert asked[-1].startswith("2 ids are in several records of profile. Merge them in Campaign")

    adobes.merge(copies)
    document = made(program, confirm)
    assert document["next"] == "sync"
    result = results(document)
    assert result["inventory"]["inventory"] == {"contact": adobes.inventory()}
    assert result["cost"]["cost"]["engine_calls"] == calls(
        insert=2, update=8, read=result["cost"]["cost"]["engine_calls"]["read"]
    )

    status, document = program.json("migrate", "--go")
    assert (status, results(document)["sync"]["engine_calls"]) == (0, result["cost"]["cost"]["engine_calls"])


@pytest.mark.usefixtures("small_pages")
def test_a_list_that_the_budget_does_not_allow_is_not_counted_in_part_and_another_configuration_begins_anew(
    program: Program,
) -> None:
    Adobes(program, unique=True)
    program.guardrails = {"engine_calls_per_day": 6}
    with pytest.raises(SyncAssetsError, match="contact were not listed"):
        made(program, lambda question: True)
    program.guardrails = {}
    assert made(program, lambda question: True)["next"] == "sync"
    program.table["fields"] = {name: to for name, to in program.table["fields"].items() if name != "jobtitle"}
    assert made(program, lambda question: False)["next"] == "switch_off"
    result = results(made(program, lambda question: True))
    assert result["changes"]["attributes"]["contact"] == {"location.city": 3}


def test_a_terminal_asks_at_each_step_that_needs_a_person_and_shows_values_only_if_asked_for(program: Program) -> None:
    adobes = Adobes(program, unique=True)
    adobes.admin.change("contact", adobes.plain[5:6], lastname="Zarathustra")
    status, output = in_a_terminal(program, "migrate", typed="y\nn\n")
    assert status == 2
    assert [line for line in output.splitlines() if line.startswith("To confirm")] == [
        "To confirm: Is all of this done?",
        "To confirm: 7 records of Campaign would change. Is that right?",
    ]
    status, masked, errors = program.run("migrate", "--yes")
    assert (status, "-> text, 13 characters" in masked) == (2, True)
    assert program.json("migrate")[1]["next"] == "sync"
    _, shown, _ = program.run("migrate", "--from-start", "--yes", "--show-values")
    assert "Changed since" in shown
    with closing(sqlite3.connect(ledger_of(program))) as connection:
        stored = repr(connection.execute("SELECT * FROM sync_fact WHERE kind = 'migration'").fetchall())
    for text in (output, masked, errors, stored):
        assert "Changed since" not in text
        assert "Zarathustra" not in text
    assert not [id_ for id_ in program.profiles() if id_ in stored]


def test_linked_tables_are_counted_with_the_links_that_differ(chain: Chain) -> None:
    here = chain
    rows = [here.make() for _ in range(4)]
    assert here.sync()[0] == 0
    lose(here.program)
    here.admin.change("new_order", [rows[0][1]], new_contactid=rows[1][0])
    here.admin.change("new_orderline", [rows[2][2]], new_name="Changed")
    result = results(made(here.program, lambda question: True))
    counts = {name: (one["equal"], one["differing"]) for name, one in result["inventory"]["inventory"].items()}
    assert counts == {"contact": (4, 0), "new_order": (3, 1), "new_orderline": (3, 1)}
    assert result["changes"]["attributes"] == {"new_order": {"cusContactLink": 1}, "new_orderline": {"cusName": 1}}
    assert result["cost"]["cost"]["engine_calls"] == calls(update=2, read=5)
    assert planned(here.program)["engine_calls"] == calls(update=2, read=5)
    assert here.sync() == (0, calls(update=2, read=5))
    assert here.sync() == (0, calls())


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("fails_after", [night(None, id="sorted"), night(0, id="unsorted"), 3])
def test_a_list_of_several_pages_is_counted_whole_and_each_record_once_even_if_it_begins_anew(
    program: Program, fails_after: int | None
) -> None:
    adobes = Adobes(program, unique=True)
    assert made(program, lambda question: False)["next"] == "switch_off"
    if fails_after is not None:
        adobes.admin.fault("campaign", "status", status=400, path="_order=", skip=fails_after)
    result = results(made(program, lambda question: True))
    assert fails_after is None or adobes.admin.fault_rules()[0]["fired"]
    assert result["inventory"]["inventory"] == {"contact": adobes.inventory()}
    assert result["changes"]["attributes"]["contact"] == {"cusJobTitle": 4, "location.city": 3}
