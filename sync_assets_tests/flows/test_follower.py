"""The follower: one run that captures and sends the changes of all tables, and ends by itself when it should."""

import time

import dagster as dg

from sync_assets.defs.partitions import today
from sync_assets_tests.support.orchestra import CONTACT, PROFILE, Orchestra, shown

N = 50


def test_a_first_load_has_a_run_of_its_own_and_what_comes_then_is_followed(orchestra: Orchestra) -> None:
    [load] = orchestra.asked("d365_changes")
    assert load.job_name == "sync"
    assert orchestra.execute(load).success
    [request] = orchestra.asked("d365_changes")
    assert request.job_name == "follow"
    began = time.monotonic()
    run = orchestra.execute(request)
    print(time.monotonic() - began)
    for entry in orchestra.instance.all_logs(run.run_id):
        print(entry.user_message, entry.dagster_event.event_type_value if entry.dagster_event else "")
    assert run.success
    orchestra.program.sandbox.admin.change("contact", 1, jobtitle="Later")
    [request] = orchestra.asked("d365_changes")
    run = orchestra.execute(request)
    for entry in orchestra.instance.all_logs(run.run_id):
        print(entry.user_message, entry.dagster_event.event_type_value if entry.dagster_event else "")
    assert run.success
    assert run.metadata(PROFILE, today())["updated"] == 1
    assert run.days(CONTACT) == [today()]
    assert not orchestra.asked("d365_changes")
