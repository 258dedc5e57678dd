"""A first load begins with a look: what Campaign holds already is known by reads, and no record is made twice."""

import asyncio
import uuid
from contextlib import closing
from typing import Any

import pytest

from sync_assets.audit import existing_records, record_list
from sync_assets.commands.doctor import examine
from sync_assets.commands.plan import plan
from sync_assets.commands.values import builtins
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import RunOutcome, push_table
from sync_assets_tests.support.chain import Chain, let_the_key_identify_nothing, load_by_adobes_tool
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.program import Program, calls, capture

N = 50
"""Contacts of the sandbox that most tests have."""


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten records a page instead of five hundred."""
    monkeypatch.setattr(record_list, "PAGE", 10)


def planned(program: Program) -> dict[str, Any]:
    with closing(program.runtime()) as runtime:
        planned_sync = plan(runtime)
    assert planned_sync.problems == []
    return builtins(planned_sync.document)


def of_contact(document: dict[str, Any]) -> tuple[int, int, int]:
    contact = document["tables"]["contact"]
    return contact["insert"], contact["update"], contact["unchanged"]


def first_load_line(program: Program) -> str | None:
    """Return what `doctor` says of the first load; None without that line."""
    title = "contact: records in Campaign before the first load"
    with closing(program.runtime(any_ledger=True)) as runtime:
        lines = [line for line in examine(runtime) if line.title == title]
    assert {line.outcome for line in lines} <= {"ok"}
    return lines[0].message if lines else None


class TestWhereCampaignHoldsOurRecordsAlready:
    @pytest.mark.usefixtures("small_pages")
    def test_doctor_and_plan_report_it_and_the_sync_sends_the_difference_only(self, program: Program) -> None:
        assert first_load_line(program) == "no profile carries an id of Dynamics 365 (asked with 1 engine call)"
        load_by_adobes_tool(program)
        assert first_load_line(program) == (
            "Campaign holds 50 records of profile, some carry ids of Dynamics 365: the first load begins with 5 "
            "reads and sends only what differs (asked with 2 engine calls)"
        )
        admin = program.sandbox.admin
        admin.change("contact", 7, jobtitle="Changed since")
        admin.create("contact", {"lastname": "New"})

        planned_sync = planned(program)
        assert of_contact(planned_sync) == (1, 7, N - 7)
        assert planned_sync["engine_calls"] == calls(insert=1, update=7, read=6)
        done = program.sync()
        assert (done.status, done.document["engine_calls"]) == (0, planned_sync["engine_calls"])
        program.assert_in_step()
        assert program.sync().document["engine_calls"] == calls()
        assert first_load_line(program) is None

    def test_findings_are_reported_and_records_out_of_scope_stay(self, program: Program) -> None:
        load_by_adobes_tool(program)
        program.table["apply_deletes"] = True
        admin = program.sandbox.admin
        [pkey] = admin.add_profiles({"lastName": "Eve", "externalId": str(uuid.uuid4())})
        [before] = [one for one in admin.dump_campaign() if one["PKey"] == pkey]
        with closing(program.runtime()) as runtime:
            [note] = [note for note in program.sync(runtime).stopped if "were in Campaign" in note]
        assert [one for one in admin.dump_campaign() if one["PKey"] == pkey] == [before]
        assert note == (
            "contact: 51 records of profile were in Campaign when they were listed. 50 have the mapped values, 0 are "
            "to be updated; 1 have an id that is not in scope and stay as they are."
        )


class TestWhereAnIdIsWrittenInCapitals:
    """As a SQL Server exports it, by which another program may have loaded Campaign, which compares keys by case."""

    def test_its_record_is_updated_and_deleted_and_no_second_one_is_made(self, program: Program) -> None:
        """Of a contact in scope, and of one that comes into scope later."""
        admin = program.sandbox.admin
        program.table["apply_deletes"] = True
        program.table["filters"] = {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}
        id_, later, *_ = (row["contactid"] for row in admin.dump_d365())
        admin.change("contact", [later], statecode=1)
        [pkey, of_later] = admin.add_profiles(*({"lastName": "Eve", "externalId": i.upper()} for i in (id_, later)))
        active = sum(row["statecode"] == 0 for row in admin.dump_d365())
        assert program.sync().document["engine_calls"]["insert"] == active - 1
        admin.change("contact", [later], statecode=0, lastname="In")
        done = program.sync()
        assert (done.status, done.document["engine_calls"]["insert"]) == (0, 0)
        assert {one["PKey"]: one["lastName"] for one in admin.dump_campaign()}[of_later] == "In"
        admin.change("contact", [id_], lastname="Changed")
        assert program.sync().status == 0
        assert len(admin.dump_campaign()) == active + 1
        [result] = [one for one in admin.dump_campaign() if one["PKey"] == pkey]
        assert (result["lastName"], result["externalId"]) == ("Changed", id_.upper())
        assert program.sync().document["engine_calls"] == calls()
        admin.delete("contact", [id_])
        assert program.sync().status == 0
        assert pkey not in {one["PKey"] for one in admin.dump_campaign()}

    def test_its_children_are_linked_to_it(self, chain: Chain) -> None:
        contact, order, _ = chain.make()
        [pkey] = chain.admin.add_profiles({"lastName": "Eve", "externalId": contact.upper()})
        assert chain.sync()[0] == 0
        assert chain.held()["cusOrder"][order]["cusContactLink"]["PKey"] == pkey
        assert len(chain.admin.dump_campaign()) == 1


class TestWhereTheKeyIdentifiesNothing:
    def test_no_record_is_made_a_second_time(self, program: Program) -> None:
        admin = program.sandbox.admin
        load_by_adobes_tool(program)
        let_the_key_identify_nothing(program)
        admin.change("contact", 3, jobtitle="Changed since")
        assert of_contact(planned(program)) == (0, 3, N - 3)
        done = program.sync()
        assert (done.status, done.document["engine_calls"]) == (0, calls(update=3, read=4))
        program.assert_in_step()

    def test_duplicate_records_are_reported_and_do_not_become_three(self, program: Program) -> None:
        admin = program.sandbox.admin
        load_by_adobes_tool(program)
        admin.settings("campaign", profile_key=None, key_in_url=False)
        program.table |= {"unique": False}
        twice = [one["externalId"] for one in admin.dump_campaign()[:2]]
        admin.add_profiles(*({"lastName": "Again", "externalId": id_} for id_ in twice))
        with closing(program.runtime()) as runtime:
            result = program.sync(runtime).stopped
            assert [text for text in result if text.startswith("2 records of profile in Campaign carry")]
        assert len(admin.dump_campaign()) == N + 2


class TestWhereCampaignHoldsNoneOfOurs:
    @pytest.mark.usefixtures("small_pages")
    def test_many_records_of_others_are_not_listed(self, program: Program) -> None:
        program.sandbox.admin.add_profiles(*({"lastName": f"N{n}"} for n in range(100)))
        planned_sync = planned(program)
        assert planned_sync["engine_calls"] == calls(insert=N, read=3)
        assert program.sync().document["engine_calls"] == calls(insert=N, read=3)


class TestWhateverHappensMeanwhile:
    @pytest.mark.usefixtures("small_pages")
    def test_the_list_goes_on_the_day_after_the_budget_was_spent(self, program: Program) -> None:
        load_by_adobes_tool(program)
        program.sandbox.admin.change("contact", 4, jobtitle="Changed since")
        program.guardrails = {"engine_calls_per_day": 3}
        done = program.sync()
        assert done.status == 2
        assert "engine_calls_per_day" in done.stopped[0]
        assert done.document["engine_calls"] == calls(read=3)
        program.guardrails = {}
        done = program.sync()
        assert (done.status, done.document["engine_calls"]) == (0, calls(update=4, read=2))

    def test_a_list_that_fails_stops_the_push_and_sends_nothing(self, program: Program) -> None:
        load_by_adobes_tool(program)
        admin = program.sandbox.admin
        since = admin.last()
        admin.fault("campaign", "rst", path="/profile", method="GET")
        done = program.sync()
        assert done.status == 2
        assert done.stopped
        assert not [entry for entry in admin.journal("campaign", since) if entry["engine"] == "insert"]
        admin.clear_faults()
        assert program.sync().document["engine_calls"] == calls(read=1)


def test_nothing_is_sent_before_the_first_read_is_complete(program: Program) -> None:
    """Rows that are not in the ledger yet could not be compared."""
    load_by_adobes_tool(program)
    admin = program.sandbox.admin
    since = admin.last()
    with closing(program.runtime()) as runtime:
        admin.fault("d365", "forbidden", path="/contacts", skip=8, times=1)  # pages of ids come first
        with pytest.raises(SyncAssetsError):
            capture(runtime, page_size=10)
        assert runtime.ledger.reports.counts()["contact"].pending == 20
        for _ in range(2):
            pushed = asyncio.run(push_table(runtime, runtime.config.tables[0]))
            assert (pushed.result.done, pushed.result.stopped) == (0, None)
            assert "Nothing is sent until" in pushed.notes[0]
    looked = [entry for entry in admin.journal("campaign", since) if entry["engine"]]
    assert [entry["method"] for entry in looked] == ["GET"]
    assert program.sync().document["engine_calls"] == calls(read=1)
    program.assert_in_step()


def test_a_second_process_that_waits_reports_that_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing_records, "WAIT_SECONDS", 0.1)
    with closing(program.runtime()) as runtime:
        capture(runtime)
        assert runtime.ledger.leases.take("campaign/contact", session_of(runtime.ledger, "another"))
        result = RunOutcome()
        for _ in range(2):
            pushed = asyncio.run(push_table(runtime, runtime.config.tables[0]))
            assert pushed.result.done == 0
            result.note(pushed.notes)
        assert ["another process is finding out" in note for note in result.notes] == [True]
        runtime.ledger.leases.release("campaign/contact", session_of(runtime.ledger, "another"))
        assert asyncio.run(push_table(runtime, runtime.config.tables[0])).result.done == N
