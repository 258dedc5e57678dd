"""Decisions about a contact: a file states some of its opt-outs, and Campaign is queried for the others."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from sync_assets.campaign.profile_opt_outs import statements
from sync_assets.flows import capture_table, push_table
from sync_assets.opt_out.changes import Changes
from sync_assets.runtime.context import Runtime
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.opt_outs import in_d365, opted_in, set_d365, switch_on
from sync_assets_tests.support.program import Program

ATTRIBUTES = ["blackListEmail", "blackListPhone"]


def capture_and_push(runtime: Runtime) -> None:
    contact = runtime.config.tables[0]
    asyncio.run(capture_table(runtime, contact))
    asyncio.run(push_table(runtime, contact))


def with_ledger(direction: str, sandbox_factory: SandboxFactory, home: Path) -> tuple[Program, str]:
    """A program with opt-outs in a direction and an empty ledger, and the id of an opted-in contact."""
    program = switch_on(Program(sandbox_factory(contacts=10), home), direction)
    program.make_ledger()
    return program, next(opted_in(program))


def test_an_opt_out_that_a_file_states_is_decided_though_the_profile_is_gone(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """Else the profile that is made again would be contacted."""
    program, id_ = with_ledger("bidirectional", sandbox_factory, tmp_path)
    with closing(program.runtime()) as runtime:
        contact = runtime.config.tables[0]
        capture_and_push(runtime)
        now = datetime.now(UTC)
        file: pl.DataFrame = statements([{"externalId": id_, "blackListPhone": True}], "externalId", ATTRIBUTES)
        runtime.ledger.opt_outs.store_stated(file, ATTRIBUTES, "file", now - timedelta(seconds=1))
        profile = {"resource": "profile", "pkeys": [program.profiles()[id_]["PKey"]]}
        program.sandbox.admin.post("/campaign/delete", profile)
        set_d365(program, id_, donotemail=True)
        asyncio.run(capture_table(runtime, contact))
        asyncio.run(Changes(runtime).settle())
    assert in_d365(program, id_)["donotphone"] is True


@pytest.mark.parametrize("direction", ["bidirectional", "campaign_to_d365"])
@pytest.mark.parametrize("asked", ["made anew", "contradiction"])
def test_an_opt_out_about_which_campaign_is_asked_counts_though_the_profile_is_gone(
    asked: str, direction: str, sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """Campaign is asked, since the file may mean an earlier profile, or has the opposite of the last one."""
    program, id_ = with_ledger(direction, sandbox_factory, tmp_path)
    with closing(program.runtime()) as runtime:

        def delete_profile() -> None:
            profile = {"resource": "profile", "pkeys": [program.profiles()[id_]["PKey"]]}
            program.sandbox.admin.post("/campaign/delete", profile)

        def state(value: bool, hours: int) -> None:
            changed = f"{datetime.now(UTC) + timedelta(hours=hours):%Y-%m-%d %H:%M:%S.000Z}"
            stated = {"externalId": id_, "blackListPhone": value, "blackListPhoneLastModified": changed}
            file: pl.DataFrame = statements([stated], "externalId", ATTRIBUTES)
            runtime.ledger.opt_outs.store_stated(file, ATTRIBUTES, "file", datetime.now(UTC))
            asyncio.run(Changes(runtime).settle())

        capture_and_push(runtime)
        if asked == "made anew":
            delete_profile()
            program.sandbox.admin.change("contact", [id_], firstname="Made anew")
            capture_and_push(runtime)
        else:
            state(value=False, hours=20)
        delete_profile()
        state(value=True, hours=-1)
        asyncio.run(Changes(runtime).settle())
    assert in_d365(program, id_)["donotphone"] is True


def test_an_opt_out_of_a_contact_that_is_gone_arrives_at_a_profile_that_was_there_before(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """The ledger has no value of Campaign's yet, so that Campaign's answer decides."""
    program, id_ = with_ledger("bidirectional", sandbox_factory, tmp_path)
    program.sandbox.admin.add_profiles({"externalId": id_, "lastName": "There before"})
    set_d365(program, id_, donotemail=True)
    with closing(program.runtime()) as runtime:
        capture_and_push(runtime)
        assert program.profiles()[id_]["blackListEmail"] is False
        program.sandbox.admin.delete("contact", [id_])
        asyncio.run(Changes(runtime).settle())
    assert program.profiles()[id_]["blackListEmail"] is True


@pytest.mark.parametrize("direction", ["bidirectional", "campaign_to_d365"])
def test_a_file_that_was_written_before_the_profile_was_made_anew_opts_out_both_profiles(
    direction: str, sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    """Somebody deletes a profile in Campaign, and a replay makes it anew before the file with its opt-out is read."""
    program, id_ = with_ledger(direction, sandbox_factory, tmp_path)
    with closing(program.runtime()) as runtime:
        capture_and_push(runtime)
        extracted = datetime.now(UTC)
        profile = {"resource": "profile", "pkeys": [program.profiles()[id_]["PKey"]]}
        program.sandbox.admin.post("/campaign/delete", profile)
        program.sandbox.admin.change("contact", [id_], firstname="Made anew")
        capture_and_push(runtime)
        assert program.profiles()[id_]["blackListEmail"] is False

        changed = f"{extracted - timedelta(seconds=1):%Y-%m-%d %H:%M:%S.000Z}"
        stated = {"externalId": id_, "blackListEmail": True, "blackListEmailLastModified": changed}
        file: pl.DataFrame = statements([stated], "externalId", ATTRIBUTES[:1])
        for _ in range(2):  # the second time it is an old file that is read again
            runtime.ledger.opt_outs.store_stated(file, ATTRIBUTES[:1], "file", extracted)
            asyncio.run(Changes(runtime).settle())
            asyncio.run(Changes(runtime).settle())
    assert in_d365(program, id_)["donotemail"] is True
    assert program.profiles()[id_]["blackListEmail"] is (direction == "bidirectional")
