"""`explain` tells where a record is on its way, and why; without values unless they are asked for."""

import uuid
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import dagster as dg
import jsonschema
import pytest

from sync_assets.commands import hold
from sync_assets.commands.document_schema import schema
from sync_assets.commands.explain import explain
from sync_assets.commands.values import builtins
from sync_assets.defs.partitions import run_tags
from sync_assets.defs.tables.run_requests import with_runs
from sync_assets.runtime.call_limits import calls_today
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.opt_outs import HEADER, set_campaign, set_d365, switch_on, write_file
from sync_assets_tests.support.orchestra import in_memory
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


def explanation(program: Program, id_: str, table: str | None = None, *, show_values: bool = False) -> Any:
    """What `explain` finds, without Dagster's runs. Its document is as `--json` prints it."""
    with closing(program.runtime()) as runtime:
        explained = explain(runtime, id_, table, show_values=show_values)
        return replace(explained, document=cast("Any", builtins(explained.document)))


def of(explained: Any, table: str = "contact") -> dict[str, Any]:
    return explained.document["tables"][table]


def change_in_campaign(program: Program, id_: str, **values: Any) -> None:
    pkey = program.profiles()[id_]["PKey"]
    program.sandbox.admin.post("/campaign/change", {"resource": "profile", "pkeys": [pkey], "set": values})


def test_a_record_in_step_costs_one_read_and_a_field_that_is_sent_once_may_differ(program: Program, ada: str) -> None:
    result = explanation(program, ada)
    assert result.document["in_step"] is True
    assert result.problems == []
    assert of(result)["reasons"] == ["Both systems are in step."]
    assert of(result)["ledger"]["state"] == "synced"
    assert of(result)["ledger"]["last_outcome"] == "acknowledged"
    assert of(result)["campaign"]["presence"] == "found"
    assert {one["equal"] for one in of(result)["attributes"]} == {True}
    assert result.document["engine_calls"] == calls(read=1)
    with closing(program.runtime()) as runtime:
        assert calls_today(runtime.ledger) == 4  # the list of a first load, the insert, its proof, this read
    change_in_campaign(program, ada, birthDate="1900-01-01")
    result = explanation(program, ada)
    assert result.document["in_step"] is True
    assert {one["attribute"]: one["equal"] for one in of(result)["attributes"]}["birthDate"] is False


def test_the_first_reason_names_why_a_record_is_not_in_step(program: Program) -> None:
    """One contact for each cause."""
    admin = program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)
    program.table["fields"]["jobtitle"] = "cusJobTitle"
    ids = admin.create("contact", *(dict(ADA) for _ in range(8)))
    rejected, invalid, pending, held, changed, by_hand, removed, gone = ids
    assert program.sync().status == 0
    admin.change("contact", [rejected], emailaddress1="no-address")
    admin.change("contact", [invalid], jobtitle="J" * 51)
    program.sync()
    admin.change("contact", [pending], jobtitle="Countess")
    with in_memory(program) as orchestra:
        orchestra.capture()
    with closing(program.runtime()) as runtime:
        hold.add(runtime, held)
    admin.change("contact", [changed], jobtitle="Countess")
    change_in_campaign(program, by_hand, cusJobTitle="Poet")
    admin.post("/campaign/delete", {"resource": "profile", "pkeys": [program.profiles()[removed]["PKey"]]})
    admin.delete("contact", [gone])
    [new], foreign = admin.create("contact", dict(ADA)), str(uuid.uuid4())
    admin.add_profiles({"externalId": foreign, "lastName": "Byron"})

    error = "cusJobTitle: 51 characters, at most 50"
    correct = "Correct the row or the mapping, then `sync-assets sync`."
    reasons = {
        rejected: f" Correct the cause, then `sync-assets retry contact --id {rejected}`.",
        invalid: f"Rejected: {error}. {correct}",
        pending: "Pending: the update is to be sent.",
        held: "Held: a privacy hold since 20",
        changed: "changed since the last capture",
        by_hand: "differs in cusJobTitle",
        removed: "it was deleted there",
        gone: "deleted in Dynamics 365",
        new: "not captured yet",
        foreign: "Only Campaign has it",
    }
    results = {id_: explanation(program, id_) for id_ in reasons}
    for id_, reason in reasons.items():
        assert reason in of(results[id_])["reasons"][0]
        assert results[id_].document["in_step"] is False
        assert not [value for value in (*VALUES, "no-address", "Poet", "Byron") if value in str(results[id_].document)]
    ledgers = {id_: of(result)["ledger"] for id_, result in results.items()}
    assert (ledgers[rejected]["last_outcome"], ledgers[pending]["next_request"]) == ("rejected", "update")
    assert (ledgers[held]["state"], ledgers[new]) == ("held", None)
    assert ledgers[rejected]["reason"] in of(results[rejected])["reasons"][0]
    assert of(results[invalid])["validation_error"] == error
    assert program.run("explain", invalid)[2].endswith(f"{reasons[invalid]}\n")
    assert [of(results[id_])["differs"] for id_ in (changed, by_hand)] == [["cusJobTitle"]] * 2
    assert of(results[removed])["campaign"]["presence"] == "missing"
    assert of(results[gone])["d365"] == {"found": False, "modified_at": None, "form": None}
    program.sync()
    assert explanation(program, gone).document["in_step"] is None


def test_a_row_that_is_out_of_scope_is_in_step_and_names_the_rule(program: Program, ada: str) -> None:
    program.table["filters"] = {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}
    [never] = program.sandbox.admin.create("contact", dict(ADA))
    program.sandbox.admin.change("contact", [never], statecode=1, statuscode=2)
    program.sync()
    result = explanation(program, never)
    assert result.document["in_step"] is True
    assert of(result)["filter"]["passes"] is False
    assert "rule 1 (`statecode` eq)" in of(result)["reasons"][0]
    assert of(result)["filter"]["rules"] == [
        {"field": "statecode", "operator": "eq", "values": ["number"], "met": False}
    ]
    program.sandbox.admin.change("contact", [ada], statecode=1, statuscode=2)
    assert "that was not captured yet" in of(explanation(program, ada))["reasons"][0]
    program.sync()
    result = explanation(program, ada)
    assert result.document["in_step"] is True
    assert of(result)["ledger"]["out_of_scope"] is True
    assert "Campaign keeps its record" in of(result)["reasons"][0]


def test_values_are_masked_unless_they_are_asked_for_and_wrong_ids_are_refused(program: Program, ada: str) -> None:
    status, masked, errors = program.run("explain", ada)
    assert (status, errors) == (0, "")
    assert not [value for value in VALUES if value.casefold() in masked.casefold()]
    assert "e-mail, 19" in masked
    status, shown = program.json("explain", ada, "--show-values")
    assert status == 0
    held = {one["column"]: (one["d365"], one["mapped"]) for one in shown["tables"]["contact"]["attributes"]}
    assert (held["lastname"], held["donotfax"]) == (("Lovelace", "Lovelace"), (False, False))

    unknown = str(uuid.uuid4())
    for words, sentence in {
        unknown: f"{unknown} is unknown",
        "Lovelace": "GUID",
        f"{ada} --table account": "account is not a mapped table",
    }.items():
        status, output, errors = program.run("explain", *words.split())
        assert (status, output, sentence in errors, "Lovelace" in errors) == (1, "", True, False)

    program.sandbox.admin.fault("d365", "forbidden")
    result = explanation(program, ada)
    program.sandbox.admin.clear_faults()
    assert (result.document["in_step"], bool(result.problems)) == (None, True)
    assert (of(result)["ledger"]["state"], of(result)["in_step"]) == ("synced", None)


def test_json_has_a_stable_form_and_the_job_gives_a_page_without_values(program: Program, ada: str) -> None:
    change_in_campaign(program, ada, cusJobTitle="Poet")
    status, document = program.json("explain", ada.upper(), "--table", "contact")
    assert status == 2
    jsonschema.validate(document, schema() | {"$ref": "#/$defs/ExplainDocument"})
    assert document.keys() == {"id", "in_step", "values", "tables", "engine_calls"}
    assert (document["id"], document["in_step"], document["values"]) == (ada, False, "masked")
    [one] = document["tables"].values()
    assert one.keys() == {
        "table", "resource", "in_step", "reasons", "d365", "filter", "validation_error", "attributes", "ledger",
        "links", "children", "campaign", "differs", "problem", "opt_outs", "decisions", "runs",
    }  # fmt: skip
    with in_memory(program) as orchestra:
        job = orchestra.definitions.resolve_job_def("explain")
        ops = {"ops": {"explain_record": {"config": {"id": ada}}}}
        done = job.execute_in_process(run_config=ops, instance=orchestra.instance, raise_on_error=False)
        stored = "\n".join(map(str, orchestra.instance.all_logs(done.run_id)))
    metadata: dict[str, Any] = {}
    for event in done.all_events:
        if event.event_type == dg.DagsterEventType.STEP_OUTPUT:
            metadata = {name: value.value for name, value in event.step_output_data.metadata.items()}
    assert done.success
    assert metadata["conclusion"] == "not in step"
    assert metadata["page"].startswith(f"## contact {ada} -> profile: not in step")
    line = "| cusJobTitle | text, 7 characters | text, 7 characters | differs: text, 4 characters |"
    assert line in metadata["page"]
    assert metadata["document"]["values"] == "masked"
    assert not [value for value in (*VALUES, "Poet") if value in str(document) + stored]


def test_the_runs_that_changed_the_record_are_named(program: Program) -> None:
    program.on_disk = True
    [id_] = program.sandbox.admin.create("contact", dict(ADA))
    assert program.run("sync")[0] == 0
    _, document = program.json("explain", id_)
    [run] = document["tables"]["contact"]["runs"]
    assert run["status"] == "success"
    assert document["tables"]["contact"]["ledger"]["acknowledged_at"] in run["changed_at"]

    program.sandbox.admin.change("contact", [id_], lastname="Byron")
    with in_memory(program) as orchestra:
        followed = orchestra.job("follow", run_tags(orchestra.runtime))
        result = with_runs(explain(orchestra.runtime, id_), orchestra.instance, orchestra.runtime.ledger)
    assert [(run.run_id, run.job) for run in result.tables["contact"].runs] == [(followed.run_id, "follow")]


def test_a_child_names_its_parent_a_parent_its_children_and_another_link_differs(chain: Chain) -> None:
    contact, order, line = chain.make()
    other, _, _ = chain.make("Bob")
    alone, _ = chain.order(None)
    assert chain.sync()[0] == 0
    result = explanation(chain.program, order)
    assert result.document["in_step"] is True
    assert list(result.document["tables"]) == ["new_order"]
    [link] = of(result, "new_order")["links"]
    assert (link["table"], link["id"], link["campaign"], link["equal"]) == ("contact", contact, contact, True)
    assert of(result, "new_order")["children"] == {
        "states": {"synced": 1},
        "first": [{"table": "new_orderline", "id": line, "state": "synced", "reason": None}],
    }
    assert result.document["engine_calls"] == calls(read=2)  # the order, and the profile that it is linked to

    held = chain.held()
    wrong = {"cusContactLink": {"PKey": held["profile"][other]["PKey"]}}
    chain.admin.post(
        "/campaign/change", {"resource": "cusOrder", "pkeys": [held["cusOrder"][order]["PKey"]], "set": wrong}
    )
    result = explanation(chain.program, order)
    assert result.document["in_step"] is False
    assert of(result, "new_order")["differs"] == ["cusContactLink"]
    assert of(result, "new_order")["links"][0]["campaign"] == other

    result = explanation(chain.program, alone)
    assert result.document["in_step"] is False
    assert of(result, "new_order")["reasons"] == ["Orphaned: it names no contact."]


def test_opt_outs_are_shown_with_their_decision_and_a_change_in_campaign(program: Program, ada: str) -> None:
    switch_on(program, "bidirectional")
    set_d365(program, ada, donotemail=True)
    assert program.sync().status == 0
    result = explanation(program, ada)
    assert result.document["in_step"] is True
    [email, phone] = of(result)["opt_outs"]
    assert (email["attribute"], email["state"], email["equal"]) == ("blackListEmail", "synced", True)
    assert (email["d365"], phone["d365"]) == ("boolean", "boolean")
    [decision] = of(result)["decisions"]
    shown = {name: decision[name] for name in ("attribute", "value", "write")}
    assert shown == {"attribute": "blackListEmail", "value": "boolean", "write": "campaign"}
    assert "opt-out wins" not in str(result.document)
    result = explanation(program, ada, show_values=True)
    assert (of(result)["opt_outs"][0]["d365"], of(result)["decisions"][0]["value"]) == (True, True)

    set_campaign(program, ada, blackListPhone=True)
    result = explanation(program, ada)
    assert result.document["in_step"] is False
    assert "blackListPhone differs" in of(result)["reasons"][0]
    assert of(result)["opt_outs"][1]["would_write"] == "d365"

    write_file(program, f"{HEADER}{ada},,,1,1999-01-01T00:00:00.000Z\n", "optout_old.csv")
    assert program.sync().status == 2
    rejected = of(explanation(program, ada))["reasons"][1]
    assert rejected.startswith("The program rejected line 2 of the opt-out file optout_old.csv: ")
    assert "lies before 2000" in rejected
