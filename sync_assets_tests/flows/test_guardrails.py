"""Guardrails by whole runs: nothing is written where a limit is broken, and what is to be known is said."""

from typing import Any

import pytest
import yaml

from sync_assets.checks import guardrails
from sync_assets.cli.instance import dagster_instance
from sync_assets_tests.support.orchestra import PROFILE, Orchestra
from sync_assets_tests.support.program import CONTACT, Program, calls

N = 50


def test_sync_refuses_before_anything_is_written(program: Program) -> None:
    program.guardrails = {"max_contacts": N - 1}
    entry = f"contacts: {N} of at most {N - 1}; narrow them with `filters`"
    done = program.sync()
    assert done.status == 1
    assert entry in str(done.problems[0])
    assert program.sandbox.admin.engine_calls() == calls()
    assert done.document["tables"]["contact"]["pending"] == 0
    status, _, errors = program.run("plan")
    assert (status, entry in errors) == (1, True)
    rule = {"field": "firstname", "is": "eq", "value": "nobody is called like that"}
    program.table = {**CONTACT, "filters": {"rules": [rule]}}  # contacts that it drops are not counted
    assert program.sync().status == 0


def with_tables(program: Program, *tables: dict[str, Any]) -> None:
    document = {"privacy_acknowledged": True, "tables": list(tables), "guardrails": program.guardrails}
    file = program.home / "tables.yaml"
    file.write_text(yaml.safe_dump(document))
    program.more["SYNC_ASSETS_CONFIG"] = str(file)


MANY = [CONTACT, *({**CONTACT, "table": f"new_t{n}", "resource": f"cusT{n}"} for n in range(200))]


def test_hundreds_of_tables_beyond_the_limit_are_refused_once_and_nothing_runs(program: Program) -> None:
    with_tables(program, *MANY)
    entry = "tables besides contact: 200 of at most 5"
    for command in ("sync", "plan"):
        status, _, errors = program.run(command)
        printed = [line for line in errors.splitlines() if "A new, empty ledger" not in line]
        assert (status, len(printed)) == (1, 1)
        assert entry in printed[0]
    assert program.sandbox.admin.journal("d365") == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", program.env["DAGSTER_HOME"])
        with dagster_instance() as instance:
            assert instance.get_runs_count() == 0
            orchestra = Orchestra(program, instance)
            for sensor in ("d365_changes", "backlog"):
                printed = orchestra.failure(sensor)
                assert entry in printed
            orchestra.runtime.close()
    assert program.sandbox.admin.journal("d365") == []


def test_a_push_stops_at_a_limit_too_if_it_was_broken_since_the_capture(orchestra: Orchestra) -> None:
    orchestra.capture()
    orchestra.program.guardrails = {"max_contacts": N - 1}
    orchestra.reload()
    run = orchestra.materialize(PROFILE)
    assert not run.success
    assert "contacts: 50 of at most 49" in run.errors[0]
    assert orchestra.program.sandbox.admin.engine_calls() == calls()


def lines(program: Program) -> dict[str, tuple[str, str]]:
    return {line["title"]: (line["outcome"], line["message"]) for line in program.json("doctor")[1]["checks"]}


def test_doctor_has_a_line_for_each_guardrail(program: Program) -> None:
    program.table = {**CONTACT, "apply_deletes": True}
    program.guardrails = {"engine_calls_per_day": 20}
    checks = lines(program)
    assert checks["one table to one resource"][0] == "ok"
    assert checks["contact: contacts are within the limit"] == ("ok", "contacts: 0 of at most 30,000,000")
    counted = checks["contact: by Dynamics 365's count: contacts are within the limit"]
    assert counted == ("ok", "contacts: 50 of at most 30,000,000")
    assert checks["contact: custom entities are within the limit"] == ("ok", "tables besides contact: 0 of at most 5")
    assert "contact: columns are within the limit" not in checks, "the limit is for custom entities"
    assert checks["contact: link depth is within the limit"] == ("ok", "links in a row, contact: 0 of at most 2")
    assert checks["contact: resource is published"][0] == "ok"
    assert checks["contact: types are supported"][0] == "ok"
    assert checks["contact: personal data is linked to profile"][0] == "ok"
    assert checks["contact: the order of a privacy delete"] == ("warn", guardrails.PRIVACY_ORDER)
    outcome, message = checks["contact: engine calls are within the budget"]
    assert outcome == "ok"
    assert "of 20, " in message
    assert {outcome for outcome, _ in checks.values()} == {"ok", "warn"}

    order = {"table": "new_order", "resource": "cusOrder", "key": "cusOrderId", "fields": {"new_name": "cusName"}}
    program.further = [{**order, "apply_deletes": True}]
    checks = {title: line for title, line in lines(program).items() if "privacy delete" in title}
    assert checks == {"contact, new_order: the order of a privacy delete": ("warn", guardrails.PRIVACY_ORDER)}


def test_pending_records_are_projected_and_a_spent_budget_is_a_warning(program: Program) -> None:
    program.guardrails = {"engine_calls_per_day": 22}  # the look, the proof of the key, and twenty inserts
    assert program.sync().status == 2
    outcome, message = lines(program)["contact: the budget of engine calls is spent"]
    assert outcome == "warn"
    assert "0 are left; what is pending of contact costs about 30; what does not fit is sent from the next" in message
