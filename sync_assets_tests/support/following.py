"""Execute the follower that the sensor requests, and read its run."""

import threading
import time
from collections.abc import Callable

from sync_assets.ledger import Ledger
from sync_assets.runtime.workers import followers
from sync_assets_tests.support.orchestra import Orchestra, Run
from sync_assets_tests.support.waiting import until


def loaded(orchestra: Orchestra) -> Orchestra:
    """After the first loads, which have runs of their own."""
    for request in orchestra.asked("d365_changes"):
        assert request.job_name == "sync"
        assert orchestra.execute(request).success
    return orchestra


def follow(orchestra: Orchestra, meanwhile: Callable[[], object] = lambda: None) -> Run:
    """Execute the follower that the sensor requests. `meanwhile` is called once it follows.

    The ledger shows that it does: a read of Dagster's database in memory would lock the tables that the run writes.
    """
    failed: list[BaseException] = []
    with Ledger.open(orchestra.runtime.settings.ledger_url) as ledger:
        before = followers(ledger).keys()

    def play() -> None:
        try:
            with Ledger.open(orchestra.runtime.settings.ledger_url) as ledger:
                until(lambda: bool(followers(ledger).keys() - before), 30)
            time.sleep(0.5)
            meanwhile()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    [request] = orchestra.asked("d365_changes")
    assert request.job_name == "follow"
    thread = threading.Thread(target=play)
    thread.start()
    run = orchestra.execute(request)
    thread.join()
    if failed:
        raise failed[0]
    return run


def lines(run: Run) -> list[str]:
    return [entry.user_message for entry in run.instance.all_logs(run.run_id)]


def ended(run: Run) -> str:
    [line] = [line for line in lines(run) if line.startswith("The run ends: ")]
    return line.removeprefix("The run ends: ")
