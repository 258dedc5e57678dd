"""The follower: one run that captures and sends the changes of all tables."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from sync_assets.commands.maintenance import off, on
from sync_assets.defs.asset_keys import all_keys
from sync_assets.defs.dagster_internals import latest_answers
from sync_assets.defs.follower.follower import DueWork, Follower
from sync_assets.defs.history import ProjectScope, prune_history
from sync_assets.defs.partitions import today
from sync_assets.defs.tables.asset_metadata import LINEAGE
from sync_assets.ledger import Ledger
from sync_assets.runtime.workers import WorkerSession
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.following import ended, follow, lines, loaded
from sync_assets_tests.support.orchestra import CONTACT, PROFILE, Orchestra, in_memory, shown
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

N = 50
REFUSED = dg.AssetCheckKey(PROFILE, "no_record_is_rejected")
READY = dg.AssetCheckKey(CONTACT, "ready")


pytestmark = pytest.mark.usefixtures("quick_looks")


@pytest.fixture
def orchestra(followed_orchestra: Orchestra) -> Orchestra:
    return followed_orchestra


def titles(orchestra: Orchestra) -> set[str]:
    return {one["cusJobTitle"] for one in orchestra.program.profiles().values()}


def test_a_first_load_has_a_run_of_its_own_and_what_changes_then_is_sent_at_once_by_one_run(
    orchestra: Orchestra,
) -> None:
    admin = loaded(orchestra).program.sandbox.admin

    def change() -> None:
        for title in ("first", "second", "third"):
            admin.change("contact", 1, jobtitle=title)
            until(lambda title=title: title in titles(orchestra), 10)  # the latency bench says how quick it is
            until(lambda: len(orchestra.instance.fetch_materializations(PROFILE, limit=9).records) == 2, 10)

    run = follow(orchestra, change)
    assert run.success
    assert "Following contact. The run ends after 3 s without work, or after 60 min." in lines(run)
    assert ended(run) == "There was no work for 3 s."
    metadata = run.metadata(CONTACT, today())
    assert (metadata["rows_captured"], metadata["this_run"]["rows_captured"]) == (N + 3, 3)
    metadata = run.metadata(PROFILE, today())
    assert (metadata["inserted"], metadata["updated"], metadata["this_run"]["updated"]) == (N, 3, 3)
    assert LINEAGE in metadata  # the UI shows that of the last materialisation
    assert run.days(CONTACT) == [today()] * 2  # after the first change, and the totals at the end
    assert run.steps == {"follow_changes"}
    planned = [dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED]
    assert not [event for kind in planned for event in run._events(kind)]
    assert orchestra.tick("d365_changes").skip_message == "contact: no change"


def test_partitions_of_days_stay_materialised_when_the_runs_of_the_follower_are_deleted(orchestra: Orchestra) -> None:
    admin, instance = loaded(orchestra).program.sandbox.admin, orchestra.instance
    follow(orchestra, lambda: admin.change("contact", 1, jobtitle="first"))
    owned = ProjectScope(
        all_keys(orchestra.runtime), frozenset({"follow", "sync"}), orchestra.runtime.ledger.systems.identity()
    )
    prune_history(instance, owned, 14, datetime.now(UTC) + timedelta(days=99))
    assert instance.get_runs() == []
    for key in (CONTACT, PROFILE):
        assert instance.get_materialized_partitions(key) == {today()}


def test_the_numbers_of_a_day_are_completed_after_its_end(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    yesterday = (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    orchestra.program.runs["start_date"] = yesterday
    loaded(orchestra)
    for key in (CONTACT, PROFILE):
        orchestra.instance.report_runless_asset_event(
            dg.AssetMaterialization(key, partition=yesterday, tags={"dagster/data_version": "1"})
        )
    run = follow(orchestra)
    assert run.days(CONTACT) == run.days(PROFILE) == [yesterday, today()]


@pytest.mark.parametrize("tracked", [True, False])
def test_nothing_is_reported_of_quiet_tables_whose_state_dagster_shows(orchestra: Orchestra, tracked: bool) -> None:
    loaded(orchestra)
    if not tracked:
        orchestra.program.sandbox.admin.post("/d365/tracking", {"table": "contact", "enabled": False})
        assert follow(orchestra).checks == {"d365/contact ready": False}
        orchestra._cursors.clear()
    run = follow(orchestra)
    assert run.days(CONTACT) == run.days(PROFILE) == []
    assert run.checks == {}


def test_an_opt_out_of_a_contact_that_the_filter_excludes_is_sent(orchestra: Orchestra) -> None:
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    program.opt_out = {"direction": "d365_to_campaign", "mappings": {"donotemail": "blackListEmail"}}
    program.table |= {"filters": {"rules": [{"field": "department", "is": "is_null"}]}}

    def opt_out() -> None:
        [id_] = admin.change("contact", 1, department="out", donotemail=False)
        time.sleep(1)
        admin.change("contact", [id_], donotemail=True)
        until(lambda: program.profiles()[id_]["blackListEmail"], 12)

    follow(loaded(orchestra), opt_out)


def test_a_check_whose_answer_changes_shows_the_new_one_whoever_answered_before(
    program: Program, tmp_path: Path
) -> None:
    program.runs = {"linger_seconds": 8}
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:  # two runs at once lock the tables of one in memory
        orchestra = Orchestra(program, instance)
        answers_change(orchestra)
        orchestra.runtime.close()


def answers_change(orchestra: Orchestra) -> None:
    admin = loaded(orchestra).program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)

    def refuse() -> None:
        [wrong] = admin.change("contact", 1, emailaddress1="not-an-address")
        until(lambda: shown(orchestra.instance, REFUSED) == "FAILED", 20)
        assert orchestra.job("watch").success
        assert shown(orchestra.instance, REFUSED) == "FAILED"
        admin.change("contact", [wrong], emailaddress1="right@example.org")
        until(lambda: shown(orchestra.instance, REFUSED) == "SUCCEEDED", 20)
        admin.change("contact", [wrong], emailaddress1="not-an-address")
        until(lambda: shown(orchestra.instance, REFUSED) == "FAILED", 20)

    follow(orchestra, refuse)
    assert shown(orchestra.instance, REFUSED) == "FAILED"


def test_checks_that_a_dead_run_was_to_answer_are_answered(orchestra: Orchestra) -> None:
    """As after kill -9 of a run of assets, or of the checks that a user of the UI executes."""
    instance, checks = loaded(orchestra).instance, [READY, REFUSED]

    def plan() -> None:
        job = orchestra.definitions.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=set(), asset_check_selection=set(checks)
        )
        run = instance.create_run_for_job(job)
        assert "SUCCEEDED" not in {shown(instance, key) for key in checks}
        instance.report_run_failed(run)
        until(lambda: {shown(instance, key) for key in checks} == {"SUCCEEDED"}, 10)

    follow(orchestra, plan)


def test_an_eager_asset_on_two_tables_follows_the_one_that_changed(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.program.runs = {"linger_seconds": 3}
    chain.make("Ada")
    with in_memory(chain.program) as orchestra:
        orders = dg.AssetKey(["campaign", "cusOrder"])
        partitions = orchestra.definitions.resolve_asset_graph().get(PROFILE).partitions_def

        @dg.asset(
            deps=[PROFILE, orders], partitions_def=partitions, automation_condition=dg.AutomationCondition.eager()
        )
        def campaigns() -> None: ...

        defs, cursor = dg.Definitions.merge(loaded(orchestra).definitions, dg.Definitions([campaigns])), None

        def requested() -> int:
            nonlocal cursor
            done = dg.evaluate_automation_conditions(defs, orchestra.instance, cursor=cursor)
            cursor = done.cursor
            return done.total_requested

        def change() -> None:
            requested()
            chain.admin.change("contact", 1, firstname="Later")
            until(lambda: requested() == 1, 10)
            chain.admin.change("contact", 1, firstname="Within a minute")
            time.sleep(1.5)
            assert requested() == 0

        follow(orchestra, change)
        assert requested() == 1  # the totals at the end


def test_linked_tables_arrive_in_link_order(chain: Chain) -> None:
    chain.program.runs = {"linger_seconds": 3}
    chain.make("Ada")
    with in_memory(chain.program) as orchestra:
        follow(loaded(orchestra), lambda: chain.make("Grace"))
        assert {resource: len(records) for resource, records in chain.held().items()} == dict.fromkeys(chain.held(), 2)
        chain.assert_no_hidden_child()
        assert chain.admin.engine_calls()["insert"] == 6


def test_a_table_in_maintenance_is_left_alone_and_followed_again_afterwards(orchestra: Orchestra) -> None:
    admin, program = loaded(orchestra).program.sandbox.admin, orchestra.program
    program.runs = {"linger_seconds": 8}
    orchestra.reload()

    def ready() -> str:
        [answer] = latest_answers(orchestra.instance, [READY]).values()
        return answer.evaluation.description or "" if answer.evaluation else ""

    def logged() -> list[str]:
        entries = (entry for run in orchestra.instance.get_runs() for entry in orchestra.instance.all_logs(run.run_id))
        return [entry.user_message for entry in entries if entry.user_message.startswith("contact: ")]

    def pause() -> None:
        on(orchestra.runtime.config, orchestra.runtime.ledger, ["contact"])
        since = admin.last()
        admin.change("contact", 1, jobtitle="Meanwhile")
        until(lambda: ready().startswith("Not evaluated: contact is in maintenance since"), 10)
        until(lambda: logged() == ["contact: in maintenance"], 10)
        assert "Meanwhile" not in titles(orchestra)
        assert not [entry for entry in admin.journal(since=since) if "oauth" not in entry["path"]]
        off(orchestra.runtime.config, orchestra.runtime.ledger, ["contact"])
        until(lambda: "Meanwhile" in titles(orchestra), 10)
        until(lambda: ready() == "The set-up is correct.", 10)

    follow(orchestra, pause)
    assert logged() == ["contact: in maintenance", "contact: maintenance ended"]


def test_a_table_is_left_to_another_run_while_that_lasts(orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch) -> None:
    orchestra.program.runs = {"linger_seconds": 8}
    orchestra.reload()
    admin = loaded(orchestra).program.sandbox.admin
    seen = threading.Event()

    def look(follower: Follower, due: Callable[[Follower], DueWork] = Follower._due) -> DueWork:
        if "contact" in (found := due(follower)).elsewhere:
            seen.set()
        return found

    monkeypatch.setattr(Follower, "_due", look)

    def work() -> None:
        with Ledger.open(orchestra.runtime.settings.ledger_url) as ledger:
            session = WorkerSession(ledger)
            ledger.runs.begin("by hand", session.epoch, ["contact"])
            assert seen.wait(30)  # a round that had looked before may still capture
            admin.change("contact", 1, jobtitle="Meanwhile")
            time.sleep(1.5)
            assert "Meanwhile" not in titles(orchestra)
            session.end()
        until(lambda: "Meanwhile" in titles(orchestra), 10)

    follow(orchestra, work)
