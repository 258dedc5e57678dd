"""What the process of a killed run held is free."""

from sync_assets.ledger.model import GIVEN_UP
from sync_assets.runtime.workers import give_up_killed
from sync_assets_tests.support.ledgers import be_overdue, leases, session_of, workers
from sync_assets_tests.support.pushing import Bench, on_both_databases, people
from sync_assets_tests.unit.runtime.test_heartbeat import ELSEWHERE


@on_both_databases
def test_claims_of_a_killed_runs_process_are_released_and_those_of_others_are_not(bench: Bench) -> None:
    bench.capture(people(30))
    killed, other = f"{ELSEWHERE}push", f"{ELSEWHERE.replace('17', '18')}push"
    for worker, table in ((killed, "contact"), (other, "new_order")):
        bench.ledger.claims.claim("contact", session_of(bench.ledger, worker), limit=10)
        bench.ledger.limits.lease_slots(worker, session_of(bench.ledger, worker), wanted=8, slots=8, total=64)
        bench.ledger.leases.take(table, session_of(bench.ledger, worker))
    bench.ledger.runs.begin("run", session_of(bench.ledger, killed))
    be_overdue(bench.ledger, killed)
    assert give_up_killed(bench.ledger)["run"].session == GIVEN_UP
    assert workers(bench.ledger) == [other]
    assert [worker.owner for worker in bench.ledger.limits.workers()] == [other]
    assert leases(bench.ledger) == [("new_order", other)]
