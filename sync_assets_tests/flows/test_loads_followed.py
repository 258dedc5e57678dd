"""The follower and a load by file that waits for a person: a look in a while, one incident, and no line twice."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from sync_assets.defs.alerts import AlertScope, find_incidents
from sync_assets_tests.support.following import follow, lines, loaded
from sync_assets_tests.support.loads import by_file, inserted, let_load_go_on
from sync_assets_tests.support.opt_outs import opted_in, set_d365, sides, switch_on
from sync_assets_tests.support.orchestra import PROFILE, Orchestra
from sync_assets_tests.support.waiting import until


@pytest.fixture
def orchestra(followed_orchestra: Orchestra) -> Iterator[Orchestra]:
    """After the run of a first load whose workflow paused."""
    admin = followed_orchestra.program.sandbox.admin
    admin.configure_import("WKF20", trouble="pauses", at=1)
    by_file(switch_on(followed_orchestra.program, "bidirectional"))
    [request] = followed_orchestra.asked("d365_changes")
    run = followed_orchestra.execute(request)
    assert not run.success
    assert "is paused" in str(run.check("bulk_load_verified", PROFILE).description)
    yield followed_orchestra
    admin.configure_import("WKF20", trouble=None)


def test_a_follower_looks_seldom_at_a_load_that_waits_for_a_person(orchestra: Orchestra) -> None:
    admin = orchestra.program.sandbox.admin
    since = len(admin.journal("campaign"))
    run = follow(orchestra, lambda: time.sleep(8))
    entries = admin.journal("campaign")[since:]
    looks = [entry for entry in entries if entry["path"].endswith("/workflow/execution/WKF20")]
    assert 1 <= len(looks) <= 4, "at growing intervals"
    assert run.success
    said = [line for line in lines(run) if "WKF20" in line]
    assert len(said) == len(set(said)), "no line twice"
    ours = (one for one in orchestra.definitions.assets or () if isinstance(one, dg.AssetsDefinition))
    incidents, _ = find_incidents(orchestra.runtime, orchestra.instance, AlertScope(ours), datetime.now(UTC))
    assert [incident.check for incident in incidents] == ["bulk_load_verified"], "the failed run is the same incident"
    assert "`sync-assets loads abandon contact`" in incidents[0].detail


def test_a_follower_sends_other_records_and_opt_outs_while_a_load_waits_and_what_is_loading_after_it(
    orchestra: Orchestra,
) -> None:
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    person, *_ = opted_in(program)
    loading, *_ = (id_ for id_ in sorted(program.profiles()) if id_ != person)
    since = admin.last()

    def writes() -> list[tuple[str, str]]:
        entries = admin.journal("campaign", since)
        return [(one["method"], one["key"]) for one in entries if one["engine"] in ("insert", "update", "delete")]

    def meanwhile() -> None:
        admin.change("contact", [loading], jobtitle="While loading")
        [new] = admin.create("contact", {"lastname": "New"})
        until(lambda: new in program.profiles(), 30)
        admin.change("contact", [new], jobtitle="Changed")
        until(lambda: program.profiles()[new]["cusJobTitle"] == "Changed", 30)
        set_d365(program, person, donotemail=True)
        until(lambda: sides(program, person) == (True, True), 30)
        assert writes() == [("POST", new), ("PATCH", new), ("PATCH", person)]

    assert follow(orchestra, meanwhile).success
    let_load_go_on(program)
    orchestra.settle()
    assert writes()[3:] == [("PATCH", loading)]
    assert inserted(program) == [50]
    assert program.sync().status == 0
    assert writes()[4:] == []
    program.assert_in_step()


def test_a_file_of_updates_that_is_not_done_starts_the_follower_again(followed_orchestra: Orchestra) -> None:
    program, admin = followed_orchestra.program, followed_orchestra.program.sandbox.admin
    admin.settings("campaign", dialect="v8")
    admin.configure_import("WKF30", trouble="pauses")
    program.bulk_load = {"updates": ["location"], "update_workflows": {"contact": "WKF30"}}
    loaded(followed_orchestra)

    def meanwhile() -> None:
        admin.change("contact", 1, address1_city="Elsewhere")
        until(lambda: bool(admin.import_runs("WKF30")), 30)

    follow(followed_orchestra, meanwhile)
    assert [request.job_name for request in followed_orchestra.asked("backlog")] == ["follow"]
