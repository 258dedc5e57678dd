"""`explain` tells where a record is on its way, and why; without values unless they are asked for."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sync_assets.commands import hold
from sync_assets.commands.explain import Explanation, explain
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.opt_outs import set_campaign, set_d365, switch_on
from sync_assets_tests.support.orchestra import Orchestra
from sync_assets_tests.support.program import CONTACT, Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess

ADA = {
    "firstname": "Augusta",
    "lastname": "Lovelace",
    "emailaddress1": "augusta@example.com",
    "jobtitle": "Analyst",
    "birthdate": "1815-12-10",
    "address1_city": "Marylebone",
    "statecode": 0,
}
VALUES = [str(value) for name, value in ADA.items() if name != "statecode"]
ACTIVE = {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}


@pytest.fixture
def program(systems: SandboxProcess, tmp_path: Path) -> Program:
    systems.admin.empty()
    return Program(systems, tmp_path, {**deepcopy(CONTACT), "apply_deletes": True})


@pytest.fixture
def ada(program: Program) -> str:
    """A contact in step."""
    [id_] = program.sandbox.admin.create("contact", dict(ADA))
    assert program.sync().status == 0
    return id_


def told(program: Program, id_: str, table: str | None = None, *, show_values: bool = False) -> Explanation:
    """What `explain` finds, without Dagster's runs."""
    with closing(program.runtime()) as runtime:
        return explain(runtime, id_, table, show_values=show_values)


def of(explained: Explanation, table: str = "contact") -> dict[str, Any]:
    return explained.document["tables"][table]


def change_in_campaign(program: Program, id_: str, **values: Any) -> None:
    pkey = program.profiles()[id_]["PKey"]
    program.sandbox.admin.post("/campaign/change", {"resource": "profile", "pkeys": [pkey], "set": values})


def attribute(explained: Explanation, name: str) -> dict[str, Any]:
    [result] = [one for one in of(explained)["attributes"] if one["attribute"] == name]
    return result


class TestInStep:
    def test_a_record_in_step_costs_one_read(self, program: Program, ada: str) -> None:
        result = told(program, ada)
        assert result.document["in_step"] is True
        assert result.problems == []
        assert of(result)["reasons"] == ["Both systems are in step."]
        assert of(result)["ledger"]["state"] == "synced"
        assert of(result)["ledger"]["last_outcome"] == "acknowledged"
        assert of(result)["campaign"]["presence"] == "found"
        assert {one["equal"] for one in of(result)["attributes"]} == {True}
        assert result.document["engine_calls"] == calls(read=1)
        with closing(program.runtime()) as runtime:
            assert runtime.calls_today == 4  # the list of a first load, the insert, its proof, this read

    def test_a_field_that_is_sent_once_may_differ(self, program: Program, ada: str) -> None:
        change_in_campaign(program, ada, birthDate="1900-01-01")
        result = told(program, ada)
        assert result.document["in_step"] is True
        assert attribute(result, "birthDate")["equal"] is False


class TestNotInStep:
    def test_a_row_that_was_never_captured(self, program: Program) -> None:
        [id_] = program.sandbox.admin.create("contact", dict(ADA))
        result = told(program, id_)
        assert result.document["in_step"] is False
        assert "not captured yet" in of(result)["reasons"][0]
        assert of(result)["ledger"] is None

    def test_a_row_that_changed_since_the_capture(self, program: Program, ada: str) -> None:
        program.sandbox.admin.change("contact", [ada], jobtitle="Countess")
        result = told(program, ada)
        assert result.document["in_step"] is False
        assert "changed since the last capture" in of(result)["reasons"][0]
        assert of(result)["differs"] == ["cusJobTitle"]

    def test_a_record_that_campaign_rejected_names_the_reason(self, program: Program, ada: str) -> None:
        program.sandbox.admin.settings("campaign", bare_data_policy=False)
        program.sandbox.admin.change("contact", [ada], emailaddress1="no-address")
        program.sync()
        result = told(program, ada)
        assert result.document["in_step"] is False
        assert of(result)["reasons"][0].startswith("Rejected: ")
        assert of(result)["reasons"][0].endswith(f" Correct the cause, then `sync-assets retry contact --id {ada}`.")
        assert of(result)["ledger"]["reason"] in of(result)["reasons"][0]
        assert of(result)["ledger"]["last_outcome"] == "rejected"
        assert "no-address" not in str(result.document)

    def test_a_record_with_a_validation_error_is_not_for_retry(self, program: Program, ada: str) -> None:
        program.table["fields"]["jobtitle"] = "cusJobTitle"
        program.sandbox.admin.change("contact", [ada], jobtitle="J" * 51)
        program.sync()
        reason = (
            "Rejected: cusJobTitle: 51 characters, at most 50. Correct the row or the mapping, then `sync-assets sync`."
        )
        result = of(told(program, ada))
        assert result["reasons"][0] == reason
        assert result["validation_error"] == "cusJobTitle: 51 characters, at most 50"
        assert program.run("explain", ada)[2].endswith(f"{reason}\n")

    def test_a_record_that_was_changed_by_hand_in_campaign(self, program: Program, ada: str) -> None:
        change_in_campaign(program, ada, cusJobTitle="Poet")
        result = told(program, ada)
        assert result.document["in_step"] is False
        assert of(result)["differs"] == ["cusJobTitle"]
        assert "differs in cusJobTitle" in of(result)["reasons"][0]
        assert "Poet" not in str(result.document)

    def test_a_record_that_was_deleted_in_campaign(self, program: Program, ada: str) -> None:
        pkey = program.profiles()[ada]["PKey"]
        program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "pkeys": [pkey]})
        result = told(program, ada)
        assert result.document["in_step"] is False
        assert of(result)["campaign"]["presence"] == "missing"
        assert "it was deleted there" in of(result)["reasons"][0]

    def test_a_row_that_was_deleted_and_the_deletion_is_not_captured(self, program: Program, ada: str) -> None:
        program.sandbox.admin.delete("contact", [ada])
        result = told(program, ada)
        assert result.document["in_step"] is False
        assert "deleted in Dynamics 365" in of(result)["reasons"][0]
        assert of(result)["d365"] == {"found": False, "modified_at": None, "form": None}
        program.sync()
        assert told(program, ada).document["in_step"] is None

    def test_a_record_that_only_campaign_has(self, program: Program, ada: str) -> None:
        id_ = str(uuid.uuid4())
        program.sandbox.admin.add_profiles({"externalId": id_, "lastName": "Byron"})
        result = told(program, id_)
        assert result.document["in_step"] is False
        assert of(result)["reasons"][0].startswith("Only Campaign has it")
        assert "Byron" not in str(result.document)

    def test_a_record_that_is_pending(self, program: Program, ada: str) -> None:
        program.sandbox.admin.change("contact", [ada], jobtitle="Countess")
        orchestra = Orchestra(program, dg.DagsterInstance.ephemeral())
        orchestra.capture()
        orchestra.runtime.close()
        result = told(program, ada)
        assert result.document["in_step"] is False
        assert of(result)["reasons"][0] == "Pending: the update is to be sent."
        assert of(result)["ledger"]["next_request"] == "update"

    def test_a_held_contact_shows_values_on_request_only(self, program: Program, ada: str) -> None:
        with closing(program.runtime()) as runtime:
            hold.add(runtime, ada)
        result = told(program, ada)
        assert result.document["in_step"] is False
        assert of(result)["reasons"][0].startswith("Held: a privacy hold since 20")
        assert of(result)["ledger"]["state"] == "held"
        assert not [value for value in VALUES if value in str(result.document)]


class TestScope:
    def test_a_row_that_was_always_filtered_out_is_in_step_and_names_the_rule(self, program: Program) -> None:
        program.table["filters"] = ACTIVE
        [id_] = program.sandbox.admin.create("contact", dict(ADA))
        program.sandbox.admin.change("contact", [id_], statecode=1, statuscode=2)
        program.sync()
        result = told(program, id_)
        assert result.document["in_step"] is True
        assert of(result)["filter"]["passes"] is False
        assert "rule 1 (`statecode` eq)" in of(result)["reasons"][0]
        assert of(result)["filter"]["rules"] == [
            {"field": "statecode", "operator": "eq", "values": ["number"], "met": False}
        ]

    def test_a_row_that_left_the_filter_and_stays_in_campaign(self, program: Program, ada: str) -> None:
        program.table["filters"] = ACTIVE
        program.sync()
        program.sandbox.admin.change("contact", [ada], statecode=1, statuscode=2)
        assert "that was not captured yet" in of(told(program, ada))["reasons"][0]
        program.sync()
        result = told(program, ada)
        assert result.document["in_step"] is True
        assert of(result)["ledger"]["out_of_scope"] is True
        assert "Campaign keeps its record" in of(result)["reasons"][0]

    def test_without_an_answer_of_a_system_the_ledgers_part_is_shown(self, program: Program, ada: str) -> None:
        program.sandbox.admin.fault("d365", "forbidden")
        result = told(program, ada)
        program.sandbox.admin.clear_faults()
        assert result.document["in_step"] is None
        assert result.problems
        assert of(result)["ledger"]["state"] == "synced"
        assert of(result)["in_step"] is None


class TestValues:
    def test_masked_is_the_default_and_values_are_shown_on_request(self, program: Program, ada: str) -> None:
        status, masked, errors = program.run("explain", ada)
        assert (status, errors) == (0, "")
        assert not [value for value in VALUES if value.casefold() in masked.casefold()]
        assert "e-mail, 19" in masked
        status, shown = program.json("explain", ada, "--show-values")
        assert status == 0
        held = {one["column"]: (one["d365"], one["mapped"]) for one in shown["tables"]["contact"]["attributes"]}
        assert held["lastname"] == ("Lovelace", "Lovelace")
        assert held["donotfax"] == (False, False)


class TestCommand:
    def test_it_prints_json_of_a_stable_form_and_exits_2_if_not_in_step(self, program: Program, ada: str) -> None:
        change_in_campaign(program, ada, cusJobTitle="Poet")
        status, document = program.json("explain", ada.upper(), "--table", "contact")
        assert status == 2
        assert document.keys() == {"id", "in_step", "values", "tables", "engine_calls"}
        assert (document["id"], document["in_step"], document["values"]) == (ada, False, "masked")
        [one] = document["tables"].values()
        assert one.keys() == {
            "table", "resource", "in_step", "reasons", "d365", "filter", "validation_error", "attributes", "ledger",
            "links", "children", "campaign", "differs", "problem", "opt_outs", "decisions", "runs",
        }  # fmt: skip
        assert not [value for value in [*VALUES, "Poet"] if value in str(document)]

    def test_an_unknown_or_invalid_id_exits_1_with_a_sentence(self, program: Program, ada: str) -> None:
        id_ = str(uuid.uuid4())
        status, output, errors = program.run("explain", id_)
        assert (status, output) == (1, "")
        assert f"{id_} is unknown" in errors
        status, _, errors = program.run("explain", "Ada Lovelace")
        assert status == 1
        assert "GUID" in errors
        assert "Lovelace" not in errors
        status, _, errors = program.run("explain", ada, "--table", "account")
        assert status == 1
        assert "account is not a mapped table" in errors

    def test_it_names_the_runs_that_changed_the_record(self, program: Program) -> None:
        program.on_disk = True
        [id_] = program.sandbox.admin.create("contact", dict(ADA))
        assert program.run("sync")[0] == 0
        _, document = program.json("explain", id_)
        [run] = document["tables"]["contact"]["runs"]
        assert run["status"] == "success"
        assert document["tables"]["contact"]["ledger"]["acknowledged_at"] in run["changed_at"]


class TestJob:
    @pytest.fixture
    def orchestra(self, program: Program, ada: str) -> Iterator[Orchestra]:
        with dg.DagsterInstance.ephemeral() as instance:
            started = Orchestra(program, instance)
            yield started
            started.runtime.close()

    def explained(self, orchestra: Orchestra, **config: Any) -> tuple[bool, dict[str, Any], str]:
        """Run the job: its success, its metadata, everything that Dagster stored."""
        job = orchestra.definitions.resolve_job_def("explain")
        ops = {"ops": {"explain_record": {"config": config}}}
        done = job.execute_in_process(run_config=ops, instance=orchestra.instance, raise_on_error=False)
        entries = orchestra.instance.all_logs(done.run_id)
        metadata: dict[str, Any] = {}
        for event in done.all_events:
            if event.event_type == dg.DagsterEventType.STEP_OUTPUT:
                result = event.step_output_data.metadata
                metadata = {name: value.value for name, value in result.items()}
        return done.success, metadata, "\n".join(map(str, entries))

    def test_it_gives_a_page_without_values(self, program: Program, orchestra: Orchestra, ada: str) -> None:
        change_in_campaign(program, ada, cusJobTitle="Poet")
        success, metadata, stored = self.explained(orchestra, id=ada)
        assert success
        assert metadata["conclusion"] == "not in step"
        assert metadata["page"].startswith(f"## contact {ada} -> profile: not in step")
        assert "differs in cusJobTitle" in metadata["page"]
        assert (
            "| cusJobTitle | text, 7 characters | text, 7 characters | differs: text, 4 characters |"
            in metadata["page"]
        )
        assert metadata["document"]["values"] == "masked"
        assert not [value for value in [*VALUES, "Poet"] if value in stored]


class TestLinks:
    def test_a_child_names_its_parent_and_a_parent_its_children(self, chain: Chain) -> None:
        contact, order, line = chain.make()
        assert chain.sync()[0] == 0
        result = told(chain.program, order)
        assert result.document["in_step"] is True
        assert list(result.document["tables"]) == ["new_order"]
        [link] = of(result, "new_order")["links"]
        assert (link["table"], link["id"], link["campaign"], link["equal"]) == ("contact", contact, contact, True)
        assert of(result, "new_order")["children"] == {
            "states": {"synced": 1},
            "first": [{"table": "new_orderline", "id": line, "state": "synced", "reason": None}],
        }
        assert result.document["engine_calls"] == calls(read=2)  # the order, and the profile that it is linked to

    def test_a_waiting_child_names_the_parents_reason(self, chain: Chain) -> None:
        chain.admin.settings("campaign", bare_data_policy=False)
        [contact] = chain.admin.create("contact", {"firstname": "Ada", "emailaddress1": "no-address"})
        order, line = chain.order(contact)
        chain.sync()
        result = told(chain.program, order)
        assert result.document["in_step"] is False
        reasons = " ".join(of(result, "new_order")["reasons"])
        assert "Waiting for a parent that is rejected" in reasons
        assert f"Its parent contact {contact} is rejected (" in reasons
        assert of(result, "new_order")["links"][0]["state"] == "rejected"
        assert f"Its parent new_order {order} is waiting" in " ".join(
            of(told(chain.program, line), "new_orderline")["reasons"]
        )

    def test_a_link_that_was_changed_in_campaign_differs(self, chain: Chain) -> None:
        _, order, _ = chain.make("Ada")
        other, _, _ = chain.make("Bob")
        assert chain.sync()[0] == 0
        held = chain.held()
        wrong = {"cusContactLink": {"PKey": held["profile"][other]["PKey"]}}
        chain.admin.post(
            "/campaign/change", {"resource": "cusOrder", "pkeys": [held["cusOrder"][order]["PKey"]], "set": wrong}
        )
        result = told(chain.program, order)
        assert result.document["in_step"] is False
        assert of(result, "new_order")["differs"] == ["cusContactLink"]
        assert of(result, "new_order")["links"][0]["campaign"] == other

    def test_an_orphaned_child_names_the_reason(self, chain: Chain) -> None:
        chain.make()
        order, _ = chain.order(None)
        chain.sync()
        result = told(chain.program, order)
        assert result.document["in_step"] is False
        assert of(result, "new_order")["reasons"] == ["Orphaned: it names no contact."]


class TestOptOuts:
    @pytest.fixture
    def both_ways(self, program: Program) -> Program:
        return switch_on(program, "bidirectional")

    def test_a_decision_and_its_reason_are_shown(self, both_ways: Program, ada: str) -> None:
        set_d365(both_ways, ada, donotemail=True)
        assert both_ways.sync().status == 0
        result = told(both_ways, ada)
        assert result.document["in_step"] is True
        [email, phone] = of(result)["opt_outs"]
        assert (email["attribute"], email["state"], email["equal"]) == ("blackListEmail", "synced", True)
        assert (email["d365"], phone["d365"]) == ("boolean", "boolean")
        [decision] = of(result)["decisions"]
        assert (decision["attribute"], decision["value"], decision["write"]) == (
            "blackListEmail",
            "boolean",
            "campaign",
        )
        assert "opt-out wins" not in str(result.document)
        shown = told(both_ways, ada, show_values=True)
        assert of(shown)["opt_outs"][0]["d365"] is True
        assert of(shown)["decisions"][0]["value"] is True

    def test_a_change_in_campaign_that_the_program_has_not_heard_of(self, both_ways: Program, ada: str) -> None:
        set_campaign(both_ways, ada, blackListPhone=True)
        result = told(both_ways, ada)
        assert result.document["in_step"] is False
        assert "blackListPhone differs" in of(result)["reasons"][0]
        assert of(result)["opt_outs"][1]["would_write"] == "d365"
