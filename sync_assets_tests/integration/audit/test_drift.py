"""Drift on a real sandbox: what somebody changed in Campaign is found, what Campaign rewrote is not."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sync_assets.audit.drift import Drift, drift
from sync_assets.http.transport import SignInRefused
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.program import CONTACT, Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

N = 50
FILTER = {"address": "filter", "filter": {"name": "byExternalId", "parameter": "externalId_parameter"}}
NAMES = ("telephone1", "fax")


def in_step(sandbox: SandboxProcess, home: Path) -> Program:
    """All contacts stand in Campaign."""
    table = {**CONTACT, "fields": {**CONTACT["fields"], "telephone1": "phone", "gendercode": "gender"}}
    program = Program(sandbox, home, table=table)
    assert program.sync().status == 0
    return program


@pytest.fixture(scope="module")
def shared(sandbox_factory: SandboxFactory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = in_step(sandbox_factory(contacts=N), tmp_path_factory.mktemp("home"))
    yield program
    assert program.sandbox.errors == ""


@pytest.fixture
def only_read(shared: Program) -> Program:
    """An installation of several tests, which leave both systems as they are."""
    return replace(shared, table=dict(shared.table), more={}, guardrails={})


@pytest.fixture
def program(sandbox: SandboxProcess, tmp_path: Path) -> Program:
    return in_step(sandbox, tmp_path)


def look(program: Program) -> Drift:
    with closing(program.runtime()) as runtime:
        return asyncio.run(drift(runtime, runtime.config.tables[0]))


def calls_today(program: Program) -> Counter[str]:
    with closing(program.runtime()) as runtime:
        return Counter(runtime.ledger.counts.numbers("engine_calls", datetime.now(UTC).date()))


def change(program: Program, ids: list[str], **values: Any) -> None:
    program.sandbox.admin.post("/campaign/change", {"resource": "profile", "keys": ids, "set": values})


def test_a_value_that_campaign_rewrote_by_itself_is_no_drift(only_read: Program) -> None:
    sent = {row["contactid"]: row["lastname"] for row in only_read.sandbox.admin.dump_d365()}
    held = {id_: profile["lastName"] for id_, profile in only_read.profiles().items()}
    assert any(name != held[id_] for id_, name in sent.items())  # smartCase was at work
    result = look(only_read)
    assert result == Drift(sampled=N, compared=N)


def test_a_changed_record_is_named_by_attribute_and_id(program: Program) -> None:
    one, other, third, gone, *_ = sorted(program.profiles())
    change(program, [one, other], email="somebody@else.example")
    change(program, [other], location={"city": "Elsewhere"})
    change(program, [third], phone="", birthDate="1900-01-01")  # the date is sent on first load only
    program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "keys": [gone]})
    result = look(program)
    had_phone = [row["contactid"] for row in program.sandbox.admin.dump_d365() if row["telephone1"]]
    expected = {"email": [one, other], "location.city": [other]} | ({"phone": [third]} if third in had_phone else {})
    assert result.differing == expected
    assert result.missing == [gone]
    assert (result.sampled, result.compared) == (N, N)


def test_records_that_were_not_sent_yet_are_not_compared(program: Program) -> None:
    changed = program.sandbox.admin.change("contact", 3, jobtitle="Not sent yet")
    removed = next(id_ for id_ in sorted(program.profiles()) if id_ not in changed)
    program.sandbox.admin.delete("contact", [removed])
    result = look(program)
    assert result == Drift(sampled=N, compared=N - 4, moved=4)


def test_each_read_is_counted_and_the_sample_has_its_size(only_read: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_assets.audit.drift.SAMPLE", 20)
    before, since = calls_today(only_read), only_read.sandbox.admin.last()
    result = look(only_read)
    assert (result.sampled, result.compared) == (20, 20)
    assert calls_today(only_read) - before == {"read": 20}
    requests = [
        entry["path"] for entry in only_read.sandbox.admin.journal("campaign", since) if entry["method"] == "GET"
    ]
    assert len([path for path in requests if "/profileAndServicesExt/profile/" in path]) == 20


def test_the_days_budget_of_engine_calls_holds_for_the_sample_too(only_read: Program) -> None:
    only_read.guardrails = {"engine_calls_per_day": calls_today(only_read).total() + 7}
    result = look(only_read)
    assert (result.compared, result.kept_back) == (7, N - 7)
    assert look(only_read) == Drift(sampled=N, kept_back=N)


def test_records_are_looked_up_by_the_filter_where_the_configuration_has_one(only_read: Program) -> None:
    only_read.table |= FILTER
    assert look(only_read) == Drift(sampled=N, compared=N)


def test_nothing_is_asked_for_an_empty_ledger(sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    program = Program(sandbox_factory(contacts=1), tmp_path)
    assert look(program) == Drift()
    assert program.sandbox.admin.journal("d365") == []


def test_a_campaign_that_refuses_the_sign_in_is_an_error_and_no_drift(only_read: Program) -> None:
    only_read.more["CAMPAIGN_CLIENT_SECRET"] = "wrong"
    with pytest.raises(SignInRefused):
        look(only_read)
