"""An audit on a real sandbox: what was changed in Campaign is found, what Campaign rewrote is not."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sync_assets.audit import record_list
from sync_assets.audit.audit_result import AuditResult, SomeRecords
from sync_assets.campaign.client import BudgetSpent
from sync_assets.http.transport import SignInRefused
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.audited import audited
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


def look(program: Program, pages: int | None = None) -> AuditResult:
    with closing(program.runtime()) as runtime:
        return audited(runtime, pages)


def calls_today(program: Program) -> Counter[str]:
    with closing(program.runtime()) as runtime:
        return Counter(runtime.ledger.counts.numbers("engine_calls", datetime.now(UTC).date()))


def change(program: Program, ids: list[str], **values: Any) -> None:
    program.sandbox.admin.post("/campaign/change", {"resource": "profile", "keys": ids, "set": values})


def numbers(result: AuditResult) -> tuple[int, int, int, int]:
    return result.records, result.compared, result.equal, result.differing


def test_a_value_that_campaign_rewrote_by_itself_is_no_difference(only_read: Program) -> None:
    sent = {row["contactid"]: row["lastname"] for row in only_read.sandbox.admin.dump_d365()}
    held = {id_: profile["lastName"] for id_, profile in only_read.profiles().items()}
    assert any(name != held[id_] for id_, name in sent.items())  # smartCase was at work
    result = look(only_read)
    assert numbers(result) == (N, N, N, 0)
    assert (result.campaign_reads, result.d365_reads) == (2, 1)  # the number of records, and a page


def test_a_changed_record_is_named_by_attribute_and_id(program: Program) -> None:
    one, other, third, gone, *_ = sorted(program.profiles())
    change(program, [one, other], email="somebody@else.example")
    change(program, [other], location={"city": "Elsewhere"})
    change(program, [third], phone="", birthDate="1900-01-01")  # the date is sent on first load only
    program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "keys": [gone]})
    result = look(program)
    had_phone = [row["contactid"] for row in program.sandbox.admin.dump_d365() if row["telephone1"]]
    expected = {"email": [one, other], "location.city": [other]} | ({"phone": [third]} if third in had_phone else {})
    assert {name: sorted(some.ids) for name, some in result.attributes.items()} == expected
    assert result.missing == SomeRecords(1, [gone])
    assert (result.records, result.compared) == (N - 1, N)


def test_records_that_were_not_sent_yet_are_not_compared(program: Program) -> None:
    changed = program.sandbox.admin.change("contact", 3, jobtitle="Not sent yet")
    removed, *others = [id_ for id_ in sorted(program.profiles()) if id_ not in changed]
    program.sandbox.admin.delete("contact", [removed])
    with closing(program.runtime()) as runtime:
        runtime.ledger.holds.hold(others[0])
    result = look(program)
    assert numbers(result) == (N, N - 5, N - 5, 0)
    assert result.left_out == {"moved": 4, "held": 1}


def test_each_read_is_counted_and_a_part_of_the_list_goes_on_where_the_last_one_ended(
    only_read: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_list, "PAGE", 10)
    parts: list[tuple[int, bool]] = []
    for reads in (3, 2, 1, 3):
        before = calls_today(only_read)
        result = look(only_read, 2)
        assert calls_today(only_read) - before == {"read": reads}  # with the number of records, once
        parts.append((result.records, result.done))
    assert parts == [(20, False), (40, False), (50, True), (20, False)]


def test_the_days_budget_of_engine_calls_holds_for_an_audit_too(
    only_read: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_list, "PAGE", 10)
    only_read.guardrails = {"engine_calls_per_day": calls_today(only_read).total() + 4}
    with pytest.raises(BudgetSpent):
        look(only_read)
    only_read.guardrails = {}
    result = look(only_read)
    assert numbers(result) == (N, N, N, 0)
    assert result.campaign_reads == 6


def test_records_are_looked_up_by_the_filter_where_the_configuration_has_one(program: Program) -> None:
    program.table |= FILTER
    gone = sorted(program.profiles())[7]
    program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "keys": [gone]})
    assert look(program).missing == SomeRecords(1, [gone])


def test_an_empty_ledger_is_no_difference(sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    program = Program(sandbox_factory(contacts=1), tmp_path)
    program.make_ledger()
    assert numbers(look(program)) == (0, 0, 0, 0)


def test_a_campaign_that_refuses_the_sign_in_is_an_error_and_no_difference(only_read: Program) -> None:
    only_read.more["CAMPAIGN_CLIENT_SECRET"] = "wrong"
    with pytest.raises(SignInRefused):
        look(only_read)


@pytest.mark.parametrize("descending", [True, False])
def test_a_list_that_moves_during_the_audit_hides_and_repeats_nothing(
    program: Program, monkeypatch: pytest.MonkeyPatch, descending: bool
) -> None:
    """Its pages are counted from the beginning: what is inserted or deleted above moves the others."""
    monkeypatch.setattr(record_list, "PAGE", 10)
    admin = program.sandbox.admin
    moved, gone = iter(range(3)), sorted(program.profiles())[-1]

    def move(activity: str, records: int) -> None:
        if (next(moved, None)) is not None and descending:
            admin.add_profiles({"externalId": f"ffffffff-0000-4000-8000-{records:012}", "email": "new@example.com"})
        elif records == 10:
            admin.post("/campaign/delete", {"resource": "profile", "keys": [gone]})

    with (
        closing(program.runtime()) as runtime,
        runtime.progress.shown_by(lambda activity, records, _: move(activity, records)),
    ):
        result = audited(runtime)
    assert (result.compared, result.equal, result.missing.records) == (N, N, 0)
    assert result.several.records == 0
