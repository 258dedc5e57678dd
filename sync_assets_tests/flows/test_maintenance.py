"""One table stands still, on purpose or because its data model changed; the others go on as far as links allow."""

import json
from datetime import UTC, datetime

import dagster as dg
import pytest

from sync_assets.alerts.incidents import open_incidents
from sync_assets.commands.maintenance import off, on
from sync_assets.defs.alerts import AlertScope, read_state
from sync_assets.defs.partitions import today
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.orchestra import CONTACT, PROFILE, Orchestra

ORDER, CUS_ORDER = dg.AssetKey(["d365", "new_order"]), dg.AssetKey(["campaign", "cusOrder"])


@pytest.fixture
def orchestra(chain: Chain) -> Orchestra:
    return Orchestra(chain.program, dg.DagsterInstance.ephemeral())


def numbers(chain: Chain) -> dict[str, int]:
    return {resource: len(records) for resource, records in chain.held().items()}


def test_children_of_a_table_in_maintenance_are_sent_if_their_parents_exist(chain: Chain) -> None:
    first, _, _ = chain.make("Ada")
    chain.sync()
    runtime = chain.program.runtime()
    assert on(runtime.config, runtime.ledger, ["contact"])["begun"] == ["contact"]
    chain.order(first)  # its contact stands in Campaign
    chain.make("Grace")  # hers does not
    since = chain.admin.last()
    done = chain.program.sync()
    assert done.status == 2
    assert not done.problems
    assert any("contact is in maintenance since" in line for line in done.stopped)
    assert numbers(chain) == {"profile": 1, "cusOrder": 2, "cusOrderLine": 2}
    assert done.document["tables"]["new_order"]["waiting"] == 1
    assert done.document["tables"]["contact"]["maintenance_since"]
    asked = [entry["path"] for entry in chain.admin.journal(since=since)]
    assert not [path for path in asked if "/contacts" in path or path.endswith("/profile")]

    assert off(runtime.config, runtime.ledger, ["contact"]) == {"ended": ["contact"], "maintenance": []}
    assert chain.sync()[0] == 0
    assert numbers(chain) == {"profile": 2, "cusOrder": 3, "cusOrderLine": 3}
    chain.assert_parents_first()


def test_the_follower_leaves_it_alone_and_a_run_passes_it_over_in_green(chain: Chain, orchestra: Orchestra) -> None:
    first, _, _ = chain.make("Ada")
    orchestra.settle()
    on(orchestra.runtime.config, orchestra.runtime.ledger, ["contact"])
    chain.order(first)
    chain.admin.change("contact", [first], firstname="Adele")

    [request] = orchestra.asked("d365_changes")
    assert orchestra.execute(request).success
    assert len(chain.held()["cusOrder"]) == 2
    assert not orchestra.asked("d365_changes")
    assert "contact: in maintenance" in (orchestra.tick("d365_changes").skip_message or "")
    chain.order(first)
    # As an operator does who selects the assets in the UI.
    run = orchestra.run_selection([CONTACT, PROFILE, ORDER, CUS_ORDER], None, today(), {})
    assert run.success
    assert "contact is in maintenance since" in run.metadata(CONTACT, today())["passed_over"]
    assert "contact is in maintenance since" in run.metadata(PROFILE, today())["passed_over"]
    assert run.metadata(CUS_ORDER, today())["this_run"]["inserted"] == 1
    result = run.check("ready", CONTACT)
    assert result.passed
    assert result.description
    assert result.description.startswith("Not evaluated: contact is in maintenance")
    assert [profile["firstName"] for profile in chain.admin.dump_campaign()] == ["Ada"]

    off(orchestra.runtime.config, orchestra.runtime.ledger, ["contact"])
    orchestra.settle()
    assert [profile["firstName"] for profile in chain.admin.dump_campaign()] == ["Adele"]


def test_a_column_of_another_type_stops_its_table_alone_until_it_is_accepted(
    chain: Chain, orchestra: Orchestra
) -> None:
    admin = chain.admin
    chain.make("Ada")
    orchestra.settle()
    admin.post("/d365/metadata", {"table": "new_order", "column": "new_name", "set": {"type": "Memo"}})
    chain.make("Grace")
    done = orchestra.program.sync()
    assert done.status == 2  # the other tables could run
    [problem] = done.problems
    assert "`new_name` of new_order was string and is memo" in str(problem)
    assert "`sync-assets maintenance off new_order` takes the new types" in str(problem)
    tables = done.document["tables"]
    assert [tables[name]["synced"] for name in ("contact", "new_order", "new_orderline")] == [2, 1, 1]

    run = orchestra.materialize(ORDER)
    assert not run.success
    assert run.checks["d365/new_order ready"] is False
    mine = [*(orchestra.definitions.assets or ()), *(orchestra.definitions.asset_checks or ())]
    watched = AlertScope(one for one in mine if isinstance(one, dg.AssetsDefinition))
    result = open_incidents(read_state(orchestra.instance, watched, datetime.now(UTC)).incidents)
    assert [one.title for one in result if not one.warns] == ["Check ready of d365/new_order does not hold"]

    off(orchestra.runtime.config, orchestra.runtime.ledger, ["new_order"])
    assert orchestra.program.sync().status == 0
    admin.post("/d365/metadata", {"table": "new_order", "column": "new_name", "remove": True})
    assert "`new_name`: new_order has no such column" in str(orchestra.program.sync().problems[0])


def test_the_command_switches_and_lists_a_plan_is_of_what_goes_after_it_and_a_replay_waits(chain: Chain) -> None:
    program = chain.program
    chain.make("Ada")
    chain.sync()
    chain.make("Grace")
    assert program.json("maintenance", "on", "contact", "new_order")[1]["begun"] == ["contact", "new_order"]
    code, listed = program.json("maintenance", "list")
    assert (code, [one["table"] for one in listed["maintenance"]]) == (0, ["contact", "new_order"])
    assert "contact is in maintenance since" in program.run("status")[1]
    planned = program.json("plan")[1]
    assert planned["tables"]["contact"]["insert"] == 1
    assert any("what is planned of it goes after `sync-assets maintenance off contact`" in n for n in planned["notes"])
    code, _, errors = program.run("replay", "contact")
    assert (code, "contact is in maintenance since" in errors) == (1, True)
    assert program.run("sync", "--table", "contact")[0] == 2
    code, _, errors = program.run("maintenance", "off", "contacts")
    assert (code, "contacts is not a mapped table" in errors) == (1, True)
    assert json.loads(program.run("maintenance", "off", "new_order", "--json")[1])["ended"] == ["new_order"]


def test_an_attribute_that_is_gone_fails_the_check_of_its_own_asset_though_the_capture_found_it(
    orchestra: Orchestra,
) -> None:
    fields = orchestra.program.table["fields"]
    orchestra.program.table = {**orchestra.program.table, "fields": {**fields, "fax": "cusNotThere"}}
    run = orchestra.materialize(CONTACT)
    assert not run.success
    key = dg.AssetCheckKey(PROFILE, "ready")
    result = orchestra.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert result.evaluation
    assert not result.evaluation.passed
    assert "`fax`: profile has no attribute `cusNotThere`" in str(result.evaluation.description)
