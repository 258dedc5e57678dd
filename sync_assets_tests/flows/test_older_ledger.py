"""A ledger that was set back to an older state lacks claims, so what they sent would be sent again: it is refused until
a rebuild has found out what Campaign holds."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from sync_assets.commands.backup import backup
from sync_assets_tests.support.program import Program, calls

HORIZON_SECONDS = 3.0


def set_back(program: Program, copy: Path) -> None:
    """Put the copy in the place of the ledger."""
    ledger = Path(program.env["DAGSTER_HOME"]) / "ledger.db"
    for file in ledger.parent.glob("ledger.db-*"):
        file.unlink()
    ledger.write_bytes(copy.read_bytes())


def killed_sync(program: Program, inserts: int) -> None:
    """Start a sync, and kill it after this many further inserts."""
    admin = program.sandbox.admin
    before = admin.engine_calls()["insert"]
    admin.latency("campaign", 200)
    process = program.start("sync")
    while admin.engine_calls()["insert"] < before + inserts:
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.communicate()
    admin.latency("campaign", 0)


def a_key_that_identifies_nothing(program: Program) -> None:
    admin = program.sandbox.admin
    admin.settings("campaign", profile_key=None, key_in_url=False)
    published = {"profile": {"byOurId": {"attribute": "externalId", "parameter": "ourId_parameter"}}}
    admin.settings("campaign", filters=published)
    ours = {"name": "byOurId", "parameter": "ourId_parameter"}
    program.table |= {"unique": False, "apply_deletes": True, "address": "filter", "filter": ours}
    program.guardrails = {"concurrency": 2, "horizon_minutes": HORIZON_SECONDS / 60}


def test_a_ledger_that_was_set_back_sends_nothing_until_it_is_rebuilt(program: Program, tmp_path: Path) -> None:
    a_key_that_identifies_nothing(program)
    admin = program.sandbox.admin
    first, *_ = [row["contactid"] for row in admin.dump_d365()]
    assert program.sync().status == 0
    backup(program.runtime(), tmp_path / "copy.db")
    admin.create("contact", *({"lastname": f"New{n}"} for n in range(12)))
    killed_sync(program, inserts=6)
    admin.change("contact", [first], jobtitle="newer")
    assert program.sync().status == 0
    admin.delete("contact", [first])
    set_back(program, tmp_path / "copy.db")
    before = admin.engine_calls()
    for _ in range(2):
        status, output, errors = program.run("sync")
        assert (status, output) == (1, "")
        assert "is an older copy" in errors
        assert "`sync-assets rebuild`" in errors
    assert admin.engine_calls() == before
    time.sleep(HORIZON_SECONDS)
    status, _, errors = program.run("rebuild")
    assert status == 0, errors
    status, _, errors = program.run("sync")
    assert status == 0, errors
    program.assert_in_step()
    ids = Counter(profile["externalId"] for profile in admin.dump_campaign() if profile["externalId"])
    assert set(ids.values()) == {1}


def test_a_rebuild_of_an_older_ledger_that_was_killed_is_continued_by_the_next_sync(
    program: Program, tmp_path: Path
) -> None:
    a_key_that_identifies_nothing(program)
    admin = program.sandbox.admin
    backup_of_a_new_ledger = tmp_path / "copy.db"
    program.make_ledger()
    backup(program.runtime(), backup_of_a_new_ledger)
    killed_sync(program, inserts=6)
    time.sleep(0.5)  # until Campaign has handled the requests that were on their way
    inserted = sum(bool(profile["externalId"]) for profile in admin.dump_campaign())
    set_back(program, backup_of_a_new_ledger)
    assert program.run("sync")[0] == 1
    time.sleep(HORIZON_SECONDS)
    admin.latency("d365", 3000)
    process = program.start("rebuild")
    time.sleep(2.5)
    process.kill()
    process.communicate()
    admin.latency("d365", 0)
    status, _, errors = program.run("sync")
    assert status == 0, errors
    assert f" {inserted} hold what they should" in errors
    program.assert_in_step()


def test_a_rebuild_waits_until_no_request_that_the_ledger_lost_can_take_effect(
    program: Program, tmp_path: Path
) -> None:
    admin = program.sandbox.admin
    assert program.sync().status == 0
    backup(program.runtime(), tmp_path / "copy.db")
    admin.change("contact", 1, jobtitle="newer")
    assert program.sync().status == 0
    set_back(program, tmp_path / "copy.db")
    before = admin.engine_calls()
    status, _, errors = program.run("rebuild")
    assert status == 1
    assert "Requests that the ledger lost may take effect until" in errors
    assert "`sync-assets rebuild`" in errors
    assert program.run("sync")[0] == 1
    assert admin.engine_calls() == before
    program.guardrails = {"horizon_minutes": 0.00001}
    assert program.run("rebuild")[0] == 0
    assert program.sync().status == 0
    program.assert_in_step()


def test_a_ledger_that_lost_nothing_goes_on_after_a_kill(program: Program) -> None:
    killed_sync(program, inserts=3)
    assert program.sync().status == 0
    assert program.sync().document["engine_calls"] == calls()
    program.assert_in_step()
