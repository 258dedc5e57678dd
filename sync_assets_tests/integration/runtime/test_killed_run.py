"""What the process of a killed run held is free."""

from __future__ import annotations

from sync_assets.runtime.heartbeat import (
    give_up_killed,
)
from sync_assets_tests.support.pushing import Bench, on_both_databases, people
from sync_assets_tests.unit.runtime.test_heartbeat import ELSEWHERE, SILENT, beat


@on_both_databases
def test_what_the_process_of_a_killed_run_held_is_free_and_what_others_hold_is_not(bench: Bench) -> None:
    bench.capture(people(30))
    beat(bench.ledger_url, "run", f"{ELSEWHERE}run", SILENT)
    killed, other = f"{ELSEWHERE}push", f"{ELSEWHERE.replace('17', '18')}push"
    for worker, table in ((killed, "contact"), (other, "new_order")):
        bench.ledger.claim("contact", owner=worker, limit=10, lease_seconds=600)
        bench.ledger.lease_slots(worker, wanted=8, slots=8, total=64, seconds=600)
        bench.ledger.lease_feed(table, worker, 600)
    give_up_killed(bench.ledger)
    assert [lease.owner for lease in bench.ledger.leases()] == [other]
    assert [worker.owner for worker in bench.ledger.workers()] == [other]
    assert bench.ledger.capture_leases() == [("new_order", other)]
