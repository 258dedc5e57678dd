"""Rows that are read again: a whole table when its position is lost or its mapping changes, single ones that must be
inserted once more. What a full read does not bring is gone, but only when the read is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.program import CONTACT, Program, calls, capture

N = 50
# The first delete of a resource tries the key, and is verified: a delete and a read more.


@pytest.fixture
def deleting(program: Program) -> Program:
    program.table = {**CONTACT, "apply_deletes": True}
    assert program.sync().status == 0
    return program


def gap(program: Program) -> list[str]:
    """The position in the feed is lost while rows are deleted, changed and made; the ids that were deleted."""
    admin = program.sandbox.admin
    gone = admin.delete("contact", 3)
    admin.change("contact", 4, jobtitle="Changed in the gap")
    admin.create("contact", {"lastname": "Byron"}, {"lastname": "Lovelace"})
    admin.expire()
    return gone


def interrupted(program: Program, **options: Any) -> None:
    """A full read that is cut off after two pages of ten rows."""
    runtime = program.runtime()
    # The poll that is told that the position has expired, a first page, five of the ids, then the pages.
    program.sandbox.admin.fault("d365", "forbidden", path="/contacts", skip=9, times=1)
    with pytest.raises(Exception, match=r"refuses|privilege"):
        capture(runtime, page_size=10, **options)
    runtime.close()


def test_what_happened_in_the_gap_of_an_expired_position_arrives(deleting: Program) -> None:
    gap(deleting)
    assert deleting.sync().document["engine_calls"] == calls(insert=2, update=4, delete=4, read=4)
    deleting.assert_in_step()
    assert deleting.sync().document["engine_calls"] == calls()


def test_a_position_that_expires_again_and_again_is_an_error_and_the_next_sync_reads_in_full_as_it_says(
    deleting: Program,
) -> None:
    gap(deleting)
    deleting.sandbox.admin.fault("d365", "expired_delta")
    done = deleting.sync()
    assert done.status == 1
    assert [str(problem) for problem in done.problems] == [
        "The position in the change feed has expired (table contact). The next sync reads the table in full."
    ]
    deleting.sandbox.admin.clear_faults()
    deleting.sandbox.admin.expire()
    since = deleting.sandbox.admin.last()
    assert deleting.sync().status == 0
    reads = [entry["path"] for entry in deleting.sandbox.admin.journal("d365", since) if "/contacts" in entry["path"]]
    assert any("deltatoken" not in path for path in reads)
    deleting.assert_in_step()


def test_a_full_read_that_was_cut_off_deletes_nothing_until_it_is_complete(deleting: Program) -> None:
    gap(deleting)
    interrupted(deleting, apply_deletes=True)
    runtime = deleting.runtime()
    assert runtime.ledger.reports.counts()["contact"].pending <= 6  # changes of the pages that were read, no deletion
    runtime.close()
    assert len(deleting.profiles()) == N
    since = deleting.sandbox.admin.last()
    assert deleting.sync().document["engine_calls"] == calls(insert=2, update=4, delete=4, read=4)
    pages = [entry["path"] for entry in deleting.sandbox.admin.journal("d365", since) if "/contacts?" in entry["path"]]
    assert "skiptoken" in pages[0]  # it went on where it was
    deleting.assert_in_step()


def test_what_is_deleted_while_the_full_read_is_cut_off_is_deleted_too(deleting: Program) -> None:
    gap(deleting)
    interrupted(deleting, apply_deletes=True)
    deleting.sandbox.admin.delete("contact", 2)  # of the pages that were read: a tombstone tells
    assert deleting.sync().status == 0
    deleting.assert_in_step()


def test_without_apply_deletes_the_profiles_of_the_gap_stay_until_it_is_set_and_the_table_read_again(
    program: Program,
) -> None:
    program.sync()
    gone = gap(program)
    assert program.sync().document["engine_calls"] == calls(insert=2, update=4)
    assert set(gone) < program.profiles().keys()
    program.table = {**CONTACT, "apply_deletes": True}
    program.sandbox.admin.expire()
    assert program.sync().document["engine_calls"] == calls(delete=4, read=4)
    program.assert_in_step()


def test_a_change_of_the_metadata_that_expires_the_position_costs_a_read_and_no_call(deleting: Program) -> None:
    admin = deleting.sandbox.admin
    admin.post("/d365/metadata", {"table": "contact"})
    since = admin.last()
    assert deleting.sync().document["engine_calls"] == calls()
    assert any("track-changes" in entry["path"] or "$select" in entry["path"] for entry in admin.journal("d365", since))
    deleting.assert_in_step()


def test_columns_that_are_mapped_newly_arrive_and_so_do_the_deletions_of_that_moment(deleting: Program) -> None:
    admin = deleting.sandbox.admin
    admin.delete("contact", 2)
    faxes = {row["contactid"]: row["fax"] or "" for row in admin.dump_d365()}
    assert any(faxes.values())
    fields = {name: to for name, to in CONTACT["fields"].items() if name != "jobtitle"}
    deleting.table = {**CONTACT, "apply_deletes": True, "fields": {**fields, "fax": "cusJobTitle"}}
    made = deleting.sync()
    assert (made.status, made.document["engine_calls"]["delete"]) == (0, 3)
    assert {key: profile["cusJobTitle"] for key, profile in deleting.profiles().items()} == faxes


def test_the_guard_sees_what_a_full_read_did_not_bring_and_everything_else_goes_on(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    program = Program(sandbox_factory(contacts=120), tmp_path, {**CONTACT, "apply_deletes": True})
    admin = program.sandbox.admin
    program.sync()
    admin.delete("contact", 30)
    admin.change("contact", 5, jobtitle="Not stopped")
    admin.create("contact", {"lastname": "Byron"})
    admin.expire()

    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (2, calls(insert=1, update=5))
    assert done.document["tables"]["contact"]["deletes_held_back"] == 30
    assert len(program.profiles()) == 121

    status, output, _ = program.run("status")
    assert status == 0
    assert "contact: 30 deletions are held back" in output
    assert "approve-deletes contact" in output
    assert program.json("status")[1]["tables"]["contact"]["deletes_held_back"] == 30

    assert program.run("approve-deletes", "contact")[0] == 0
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(delete=31, read=31))
    assert done.document["tables"]["contact"]["deletes_held_back"] == 0
    program.assert_in_step()


def test_rows_that_come_back_are_not_held_back_any_more(sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    program = Program(sandbox_factory(contacts=120), tmp_path, {**CONTACT, "apply_deletes": True})
    admin = program.sandbox.admin
    program.sync()
    rows = admin.dump_d365()[:30]
    gone = admin.delete("contact", [row["contactid"] for row in rows])
    assert program.sync().document["tables"]["contact"]["deletes_held_back"] == 30
    admin.create("contact", *({"contactid": key, "lastname": "Restored"} for key in gone))
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(update=30))
    program.assert_in_step()


def test_an_organization_that_was_restored_from_a_backup_goes_back_in_campaign_too(deleting: Program) -> None:
    admin = deleting.sandbox.admin
    changed = admin.change("contact", 3, jobtitle="After the backup")
    assert deleting.sync().document["engine_calls"] == calls(update=3)
    admin.restore()
    assert deleting.sync().document["engine_calls"] == calls(update=3)
    deleting.assert_in_step()
    admin.change("contact", changed[:1], jobtitle="After the restore")  # with a version that another row had before
    assert deleting.sync().document["engine_calls"] == calls(update=1)
    deleting.assert_in_step()


def test_rows_whose_etags_are_no_versions_are_captured_in_the_order_of_the_reads(deleting: Program) -> None:
    admin = deleting.sandbox.admin
    admin.settings("d365", etags="opaque", page_limit=20)
    deleted = gap(deleting)
    assert deleting.sync().document["engine_calls"] == calls(insert=2, update=4, delete=4, read=4)
    admin.change("contact", 30, jobtitle="Changes of several pages")
    admin.delete("contact", deleted_later := [row["contactid"] for row in admin.dump_d365()][-2:])
    assert deleting.sync().document["engine_calls"] == calls(update=30, delete=2, read=2)
    deleting.assert_in_step()
    assert not {*deleted, *deleted_later} & deleting.profiles().keys()


class TestChildrenOfAParentThatComesBack:
    """Their payload was erased when Campaign acknowledged it, so their rows are read again to be inserted."""

    @pytest.fixture
    def chain(self, sandbox_factory: SandboxFactory, tmp_path: Path) -> Chain:
        rules = [{"field": "statecode", "is": "eq", "value": 0}]
        return Chain(sandbox_factory, tmp_path, filters={"rules": rules, "delete_filtered_out": True})

    def leave(self, chain: Chain, **order: str) -> tuple[str, str, str]:
        """A contact with an order with a line, in Campaign until the contact leaves its filter.

        order: changes of the order before that.
        """
        ids = chain.make()
        assert chain.sync() == (0, calls(insert=3, read=8))
        if order:
            chain.admin.change("new_order", [ids[1]], **order)
            assert chain.sync()[0] == 0
        chain.admin.change("contact", [ids[0]], statecode=1)
        status, _ = chain.sync()
        assert status == 0  # the children are orphaned
        assert all(not records for records in chain.held().values())
        return ids

    def test_they_are_inserted_again_after_it(self, chain: Chain) -> None:
        contact, order, line = self.leave(chain)
        chain.admin.change("contact", [contact], statecode=0)
        assert chain.sync() == (0, calls(insert=3, read=2))
        held = chain.held()
        assert [list(records) for records in held.values()] == [[contact], [order], [line]]
        chain.assert_no_hidden_child()
        assert chain.sync() == (0, calls())

    def test_as_they_are_by_then(self, chain: Chain) -> None:
        contact, order, _ = self.leave(chain)
        chain.admin.change("new_order", [order], new_name="Changed")
        chain.admin.change("contact", [contact], statecode=0)
        assert chain.sync() == (0, calls(insert=3, read=2))
        assert chain.held()["cusOrder"][order]["cusName"] == "Changed"

    def test_but_not_as_a_replica_that_lags_still_has_them(self, chain: Chain) -> None:
        contact, order, line = self.leave(chain, new_name="Changed")
        chain.admin.settings("d365", lagging_queries=True)
        chain.admin.change("contact", [contact], statecode=0)
        assert chain.sync()[0] == 2
        assert chain.held()["cusOrder"] == {}
        chain.admin.settings("d365", lagging_queries=False)
        assert chain.sync()[0] == 0
        assert chain.held()["cusOrder"][order]["cusName"] == "Changed"
        assert [list(records) for records in chain.held().values()] == [[contact], [order], [line]]

    def test_unless_they_were_deleted_meanwhile(self, chain: Chain) -> None:
        contact, order, line = self.leave(chain)
        chain.admin.delete("new_orderline", [line])
        chain.admin.change("contact", [contact], statecode=0)
        assert chain.sync() == (0, calls(insert=2, read=1))
        assert list(chain.held()["cusOrder"]) == [order]
