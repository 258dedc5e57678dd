"""Any sequence of captures, deletes, claims, answers, deaths and lapses: nothing is lost, nothing sent twice at once.

The test plays both systems. What stands in D365 is known, since every change is captured; what stands in Campaign is
known, since every request is decided here: it arrives or it doesn't, and the worker hears of it or it doesn't.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sync_assets.ledger import Claimed, Counts, Ledger, Outcome, State
from sync_assets_tests.ledger.helpers import (
    DAY,
    Clock,
    Ledgers,
    capture,
    claim,
    guid,
    hash_of,
    row,
    stored,
)

NAMES = [f"row{n}" for n in range(6)]
OWNERS = ["ada", "bob", "cyd"]
LEASE = 60
RESULTS = ["done", "done", "refused", "later", "unknown, arrived", "unknown"]

names = st.sampled_from(NAMES)
values = st.sampled_from("abc")
refusals = st.sampled_from([None, None, None, "too long"])
days = st.integers(1, 3).map(lambda n: DAY.replace(day=n))
owners = st.sampled_from(OWNERS)


Change = tuple[str, str, str | None, date]  # name, value, refusal, day


@dataclass
class Request:
    claimed: Claimed
    until: float
    forced: int | None  # which order to send again it carries out


class History(RuleBasedStateMachine):
    """Set `ledgers` on a subclass."""

    ledgers: Ledgers

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.seconds = 0.0
        self.ledger = Ledger.open(self.ledgers.fresh(), clock=self.clock)
        self.d365: dict[str, tuple[bytes, str | None]] = {}
        self.campaign: dict[str, bytes] = {}
        self.open: dict[str, dict[int, Request]] = {owner: {} for owner in OWNERS}
        self.to_resend: dict[str, int] = {}  # id -> which time it was asked for
        self.forced = 0
        self.calls = 0

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        try:
            self.everything_arrives_in_the_end()
        finally:
            self.ledger.close()

    # D365 changes

    @rule(changes=st.lists(st.tuples(names, values, refusals, days), max_size=4), gone=st.sets(names, max_size=2))
    def capture(self, changes: list[Change], gone: set[str]) -> None:
        self.save(changes, gone)

    @precondition(lambda self: self.ledger.feed("contact") is not None)
    @rule(changes=st.lists(st.tuples(names, values, refusals, days), max_size=4))
    def captured_again_by_force(self, changes: list[Change]) -> None:
        feed = self.ledger.feed("contact")
        assert feed is not None
        self.ledger.reset_feed("contact", feed.version, resend=True)
        self.save(changes, set())
        for name, refusal in {name: refusal for name, _, refusal, _ in changes}.items():
            if refusal is None:
                self.forced += 1
                self.to_resend[guid(name)] = self.forced
        capture(self.ledger, complete=True)

    def save(self, changes: list[Change], gone: set[str]) -> None:
        rows = [row(name, value, refusal=refusal, day=day) for name, value, refusal, day in changes]
        capture(self.ledger, *rows, deleted=sorted(gone))
        for name, value, refusal, _ in changes:
            self.d365[guid(name)] = (hash_of(value), refusal)
        for name in gone:
            self.d365.pop(guid(name), None)
            self.to_resend.pop(guid(name), None)

    # Workers

    @rule(owner=owners, limit=st.integers(1, 4), only=st.none() | days, data=st.data())
    def claim(self, owner: str, limit: int, only: date | None, data: st.DataObject) -> None:
        within = None if only is None else (only, only)
        claimed = claim(self.ledger, owner, limit=limit, seconds=LEASE, days=within)
        assert len(claimed) <= limit
        for one in claimed:
            for requests in self.open.values():
                earlier = requests.pop(one.seq, None)
                if earlier:
                    assert earlier.until <= self.seconds, "claimed while another worker holds it"
                    assert one.uncertain
                    self.arrive(earlier.claimed, data.draw(st.booleans(), label="the lapsed request arrived"))
            self.open[owner][one.seq] = Request(one, self.seconds + LEASE, self.to_resend.get(one.id))
            self.check_what_is_to_be_sent(one)

    def check_what_is_to_be_sent(self, one: Claimed) -> None:
        desired, refusal = self.d365.get(one.id, (None, None))
        assert one.hash == desired
        assert refusal is None
        held = self.campaign.get(one.id)
        if not one.uncertain:
            assert one.operation == ("delete" if desired is None else "insert" if held is None else "update")
            assert held != desired or one.id in self.to_resend, "a call that changes nothing"
        assert (one.payload is None) == (desired is None)
        if desired is not None:
            assert one.payload is not None
            assert hash_of(one.payload[len('{"value":"') : -2]) == desired

    @rule(owner=owners, data=st.data())
    def answers_come(self, owner: str, data: st.DataObject) -> None:
        requests = self.open[owner]
        some = [seq for seq in sorted(requests) if data.draw(st.booleans())]
        outcomes: list[Outcome] = []
        for seq in some:
            request = requests.pop(seq)
            one = request.claimed
            result: Any = data.draw(st.sampled_from(RESULTS))
            self.arrive(one, result in ("done", "unknown, arrived"))
            if result == "done" and (one.hash is None or self.to_resend.get(one.id) == request.forced):
                self.to_resend.pop(one.id, None)
            wait = data.draw(st.sampled_from([None, 30]))
            result = result.partition(",")[0]
            outcomes.append(Outcome(seq, result, one.hash, "why", wait))
        calls = {("contact", "insert"): len(outcomes)}
        settled = self.ledger.settle(owner, outcomes, calls)
        self.calls += len(outcomes)
        assert settled.lost == 0
        assert settled.settled + settled.removed + settled.pending + settled.failed == len(outcomes)

    @rule(owner=owners, data=st.data())
    def a_worker_dies(self, owner: str, data: st.DataObject) -> None:
        """Requests it had sent may arrive. Its leases stay until they run out."""
        for request in self.open[owner].values():
            self.arrive(request.claimed, data.draw(st.booleans(), label="arrived"))
        self.open[owner].clear()

    @rule(owner=owners, data=st.data())
    def a_worker_dies_and_is_released(self, owner: str, data: st.DataObject) -> None:
        self.a_worker_dies(owner, data)
        self.ledger.release(owner)

    @rule(owner=owners)
    def renew(self, owner: str) -> None:
        self.ledger.renew(owner, LEASE)
        for request in self.open[owner].values():
            request.until = self.seconds + LEASE

    @rule(owner=owners)
    def a_stranger_answers(self, owner: str) -> None:
        """Answers of another worker than the one that holds the record change nothing."""
        foreign = [one for other in OWNERS if other != owner for one in self.open[other].values()]
        before = stored(self.ledger)
        outcomes = [Outcome(one.claimed.seq, "done", one.claimed.hash) for one in foreign]
        assert self.ledger.settle(owner, outcomes).lost == len(outcomes)
        assert stored(self.ledger) == before

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def time_goes_by(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.seconds += seconds

    @rule(name=st.none() | names)
    def retry(self, name: str | None) -> None:
        self.ledger.retry(None if name is None else "contact", name and guid(name))

    def arrive(self, one: Claimed, arrived: bool) -> None:
        if not arrived:
            return
        if one.hash is None:
            self.campaign.pop(one.id, None)
        else:
            self.campaign[one.id] = one.hash

    # What holds at every moment

    @invariant()
    def every_record_says_the_truth(self) -> None:
        records = stored(self.ledger)
        under_way = {request.claimed.id for requests in self.open.values() for request in requests.values()}
        assert set(self.d365) <= set(records), "a row is lost"
        assert set(self.campaign) <= set(records), "a record of Campaign is forgotten"
        for id_, one in records.items():
            desired, refusal = self.d365.get(id_, (None, None))
            assert (one.desired_hash, one.refusal) == (desired, refusal)
            if not one.uncertain:
                assert self.campaign.get(id_) == one.acked_hash
            else:
                assert one.state != State.SETTLED
            if id_ in under_way:
                assert one.uncertain
                assert one.lease_owner is not None
            differs = one.desired_hash != one.acked_hash or one.uncertain or one.resend
            if refusal is not None:
                assert one.state == State.FAILED
            elif one.state == State.FAILED:
                assert one.reason == "why"
                assert one.failed_since is not None
            else:
                assert one.state == (State.PENDING if differs else State.SETTLED)
            assert (one.payload is not None) == (one.state != State.SETTLED and desired is not None and refusal is None)
            if id_ in self.to_resend and refusal is None:
                assert one.state != State.SETTLED

    @invariant()
    def the_totals_are_those_of_the_records(self) -> None:
        records = stored(self.ledger).values()
        states = [State(one.state) for one in records]
        held = sum(one.lease_until is not None and one.lease_until > _micros(self.clock) for one in records)
        counts = self.ledger.counts().get("contact", Counts())
        assert counts == Counts(
            pending=states.count(State.PENDING),
            failed=states.count(State.FAILED),
            synced=states.count(State.SETTLED),
            leased=held,
        )
        pending_days = self.ledger.pending_days("contact")
        assert sum(records for _, records in pending_days) == counts.pending
        by_day = [one.day for one in records if one.state == State.PENDING]
        assert [number for _, number in pending_days] == [by_day.count(day) for day in sorted(set(by_day))]
        assert (self.ledger.next_due() is None) == (counts.pending == 0)
        assert sum(self.ledger.engine_calls(self.clock.now.date()).values()) == self.calls

    def everything_arrives_in_the_end(self) -> None:
        """All workers die, nothing they had sent arrives; then one worker has a good day."""
        for requests in self.open.values():
            requests.clear()
        self.clock.advance(3600)
        self.ledger.retry()
        rounds = 0
        while claimed := claim(self.ledger, "last", limit=3):
            for one in claimed:
                self.arrive(one, True)
            self.ledger.settle("last", [Outcome(one.seq, "done", one.hash) for one in claimed])
            rounds += 1
            assert rounds < 20, "it goes round in circles"
        wanted = {id_: digest for id_, (digest, refusal) in self.d365.items() if refusal is None}
        refused = {id_ for id_, (_, refusal) in self.d365.items() if refusal is not None}
        assert {id_: digest for id_, digest in self.campaign.items() if id_ not in refused} == wanted
        assert set(stored(self.ledger)) == set(self.d365)


def _micros(clock: Clock) -> int:
    return round(clock.now.timestamp() * 1_000_000)


def test_any_history_ends_well(ledgers: Ledgers) -> None:
    class OfThisDatabase(History):
        pass

    OfThisDatabase.ledgers = ledgers
    run_state_machine_as_test(
        OfThisDatabase,
        settings=settings(
            max_examples=40 if ledgers.kind == "sqlite" else 15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
