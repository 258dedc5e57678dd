"""The follower and a load by file that waits for a person: a look in a while, one incident, and no line twice."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from sync_assets.defs.alerts import AlertScope, find_incidents
from sync_assets_tests.flows.test_loads import by_file
from sync_assets_tests.support.following import follow, lines
from sync_assets_tests.support.orchestra import PROFILE, Orchestra


@pytest.fixture
def orchestra(followed_orchestra: Orchestra) -> Iterator[Orchestra]:
    """After the run of a first load whose workflow paused."""
    admin = followed_orchestra.program.sandbox.admin
    admin.configure_import("WKF20", trouble="pauses")
    by_file(followed_orchestra.program)
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
