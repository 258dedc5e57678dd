"""Any sequence of changes on both sides, captures, export files, decisions, writes, deaths and holds: both sides agree
in the end, and no opt-out is lost on the way.

The test plays both systems (opt_out_world.py) and the workers: a push that makes profiles, a capture, an export, and
one that decides and writes, step by step as sync_assets/opt_out/pending_decisions.py and apply.py do. They are
generators that go on one step at a time, so that everything else may happen in between, and die at any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import Any, TypeVar

import polars as pl
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sync_assets.ledger import Ledger, Outcome, times
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState
from sync_assets.opt_out.decide import decide
from sync_assets.push.delivery import deliver, outcome
from sync_assets_tests.property.conftest import few_and_many
from sync_assets_tests.property.opt_out_world import ATTRIBUTES, EMAIL, IDS, File, Key, Killed, Records, Ways, World
from sync_assets_tests.support.ledgers import Clock, Ledgers, capture, frame, hash_of, row, session_of

Steps = Generator[None, None, None]
T = TypeVar("T")
STATES = {None: OptOutState.SYNCED, "d365": OptOutState.TO_D365, "campaign": OptOutState.TO_CAMPAIGN}
ROUNDS = 4
"""Rounds that may pass until everything is settled."""
OPT_OUTS = "opt-outs"
"""The worker that writes them."""


class History:
    def __init__(self, url: str, random: Random) -> None:
        self.random = random
        self.clock = Clock()
        self.world = World(self.clock, random, Ways.any(random))
        note(str(self.world.ways))
        self.ledger = Ledger.open(url, clock=self.clock)
        self.files: list[File] = []
        self.waiting: list[File] = []  # not stated yet
        self.seen_etag = 0  # up to which the feed was captured
        self.said: dict[Key, datetime] = {}  # when the newest statement was made that was taken
        # Of what holds of everybody there is no trace. So an opt-out that a late file tells of without a time may be
        # the first word that the ledger hears; it is taken, to be on the safe side.
        self.late: set[Key] = set()
        self.held: set[str] = set()
        self.claimed: dict[str, list[OptOutRow]] = {}
        self.trouble = 0.15
        self.workers: dict[str, Steps] = {}
        self.owners = 0

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.ledger.close()

    @property
    def bidirectional(self) -> bool:
        return self.world.ways.direction == "bidirectional"

    def run(self, steps: int) -> None:
        weights: dict[Callable[[], None], int] = {
            self.somebody_changes_an_opt_out: 10,
            self.something_else_changes_in_d365: 3,
            self.a_worker_goes_on: 30,
            self.a_worker_dies: 2,
            self.a_file_is_stated: 7,
            self.profiles_are_polled: 1,
            self.a_contact_is_held_or_released: 1,
            self.somebody_retries: 1,
            self.time_goes_by: 4,
        }
        for _ in range(steps):
            step = self.random.choices(list(weights), list(weights.values()))[0]
            note(step.__name__)
            step()
            self.nothing_held_is_due()
        self.everything_is_settled_in_the_end()

    # What happens

    def somebody_changes_an_opt_out(self) -> None:
        self.world.somebody_changes_it(self.random.choice(IDS))

    def something_else_changes_in_d365(self) -> None:
        self.world.another_change(self.random.choice(IDS))

    def time_goes_by(self) -> None:
        self.clock.advance(self.random.choice([1, 30, 3_600, 50_000]))

    def a_contact_is_held_or_released(self) -> None:
        id_ = self.random.choice(IDS)
        if id_ in self.held:
            self.ledger.holds.end_hold("contact", id_, gone=False)
        else:
            in_flight = self.ledger.holds.hold("contact", id_).in_flight
            assert in_flight or id_ not in self.claimed or OPT_OUTS not in self.workers, "a request follows the hold"
        self.held ^= {id_}

    def somebody_retries(self) -> None:
        self.ledger.claims.retry()
        self.ledger.opt_outs.retry()

    def a_worker_goes_on(self) -> None:
        starts: dict[str, list[Callable[[], Steps]]] = {
            "capture": [self.captures],
            "push": [self.pushes],
            "export": [self.exports],
            "opt-outs": [self.decides, self.writes_d365, self.writes_campaign],
        }
        name = self.random.choices(list(starts), [2, 2, 1, 5])[0]
        if name not in self.workers:
            start = self.random.choice(starts[name])
            note(start.__name__)
            self.workers[name] = start()
        note(f"{name} goes on")
        try:
            next(self.workers[name])
        except (StopIteration, Killed):
            del self.workers[name]

    def a_worker_dies(self) -> None:
        mortal = sorted(self.workers.keys() - {"export"})  # that one is Campaign's
        if mortal:
            name = self.random.choice(mortal)
            note(f"{name} dies")
            self.workers.pop(name).close()

    # Statements

    def a_file_is_stated(self) -> None:
        """Any of those that there are, perhaps an old one, perhaps again."""
        if self.files:
            file = self.random.choice(self.files)
            if self.random.random() < 0.2:  # killed half-way
                self.state(replace(file, rows=file.rows[: len(file.rows) // 2]))
            else:
                self.state(file)
                self.waiting = [one for one in self.waiting if one is not file]

    def profiles_are_polled(self) -> None:
        self.state(self.world.poll())

    def state(self, file: File) -> None:
        """A statement that is older than one that was taken before changes nothing; at most Campaign is asked."""
        before = self.opt_outs()
        self.ledger.opt_outs.store_stated(file.frame(), ATTRIBUTES, "file", file.written)
        after = self.opt_outs()
        for id_, *_ in file.rows:
            for name in ATTRIBUTES:
                key = (id_, name)
                older = file.written < self.said.get(key, file.written)
                self.said[key] = max(file.written, self.said.get(key, file.written))
                was, now = before.get(key), after.get(key)
                if older and was is None and now is not None and now.campaign_at is None:
                    self.late.add(key)
                elif older and (name != EMAIL or self.world.ways.file_times == "exact"):  # as the API tells, too
                    assert now == was or (was and now and now == self.asked(was, now)), (
                        f"changed by an older word: {name}"
                    )

    def asked(self, was: OptOutRow, now: OptOutRow) -> OptOutRow:
        told = {"source": "file", "version": now.version, "attempts": 0, "failed_since": None}
        return rules.due_again(was, ask=True)._replace(**told)

    def opt_outs(self) -> dict[Key, OptOutRow]:
        return {(one.id, one.attribute): one for one in self.ledger.opt_outs.of(IDS)}

    # Workers

    def captures(self) -> Steps:
        upto = self.world.etags
        changed = {id_: one for id_, one in self.world.contacts.items() if one.etag > self.seen_etag}
        page = self.page(list(changed))
        yield
        self.save(page)
        self.seen_etag = upto

    def page(self, ids: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows as the transform gives them, and what they say of opt-outs."""
        contacts = [(id_, self.world.contacts[id_]) for id_ in ids]
        rows = [row(id_, one.content) | {"id": id_, "hash": hash_of(id_ + one.content)} for id_, one in contacts]
        said = [{"id": id_, **one.values} for id_, one in contacts]
        return frame(rows), pl.DataFrame(said, schema={"id": pl.String, **dict.fromkeys(ATTRIBUTES, pl.Boolean)})

    def save(self, page: tuple[pl.DataFrame, pl.DataFrame]) -> None:
        rows, opt_outs = page
        if rows.height:
            capture(self.ledger, page=rows, opt_outs=opt_outs if self.bidirectional else None)

    def pushes(self) -> Steps:
        self.owners += 1
        owner = f"worker {self.owners}"
        carried = ATTRIBUTES if self.bidirectional else []
        try:
            claimed = self.ledger.claims.claim(
                "contact", session_of(self.ledger, owner), limit=self.random.randint(1, 3), opt_outs=carried
            )
            yield
            outcomes: list[Outcome] = []
            for one in claimed:
                records: Any = Records(self.world, one.id, self.trouble)
                outcomes.append(outcome(one, at_once(deliver(one, records, nobody_minds, it_works)), self.clock.now))
            yield
            self.ledger.claims.acknowledge(session_of(self.ledger, owner), outcomes)
        finally:
            self.ledger.sessions.end(session_of(self.ledger, owner))

    def exports(self) -> Steps:
        file = self.world.extract()
        if self.world.ways.slow_export:
            yield
        file = replace(file, written=self.world.later())
        self.world.exporting = None
        self.files.append(file)
        self.waiting.append(file)
        yield

    def decides(self) -> Steps:
        """As pending_decisions.py does."""
        self.ledger.opt_outs.end_unknown()
        due = self.due(OptOutState.DECIDE)
        said = {id_: self.world.told_by_api(id_) for id_, rows in due.items() if any(one.ask for one in rows)}
        yield
        now = self.world.later()
        decided: list[OptOutRow] = []
        for id_, rows in due.items():
            contact = self.world.contacts[id_]
            told = said.get(id_)
            for one in rows:
                if id_ in said and told is None:
                    decided.append(rules.after_missing_profile(one, int(contact.values[one.attribute])))
                else:
                    decided.append(self.decided(one, told, now))
        yield
        self.ledger.opt_outs.put(decided)

    def decided(
        self, one: OptOutRow, told: Mapping[str, tuple[bool, datetime | None]] | None, now: datetime
    ) -> OptOutRow:
        contact = self.world.contacts[one.id]
        at = None if one.campaign_at is None else times.from_micros(one.campaign_at)
        campaign, changed = (None if one.campaign is None else bool(one.campaign)), at
        if one.ask and told:
            campaign, changed = told[one.attribute]
            asked = rules.since(one, campaign, None if changed is None else times.to_micros(changed), created=None)
            changed = None if asked is None else times.from_micros(asked)
        d365 = contact.values[one.attribute]
        decision = decide(self.world.ways.direction, d365, contact.modified, campaign, changed)
        return rules.after_decision(
            one,
            value=int(decision.value),
            state=STATES[decision.write],
            campaign=None if campaign is None else int(campaign),
            campaign_at=None if changed is None else times.to_micros(changed),
            d365=int(d365),
            d365_at=times.to_micros(contact.modified),
            now=times.to_micros(now),
        )

    def writes_d365(self) -> Steps:
        """As apply.py does."""
        due = self.claim(OptOutState.TO_D365)
        here = {id_: replace(self.world.contacts[id_], values=dict(self.world.contacts[id_].values)) for id_ in due}
        yield
        done: list[OptOutRow] = []
        for id_, rows in due.items():
            wanted: list[OptOutRow] = []
            for one in rows:
                if here[id_].values[one.attribute] == bool(one.value):
                    done.append(rules.after_write(one, self.now()))
                elif times.to_micros(here[id_].modified) > (one.d365_at or 0):
                    done.append(self.again(one))
                else:
                    wanted.append(one)
            if not wanted:
                continue
            if self.random.random() < self.trouble:
                done += [rules.after_rejection(one, "Dynamics 365: no", self.now()) for one in wanted]
                continue
            values = {one.attribute: bool(one.value) for one in wanted}
            etag = None if all(values.values()) else here[id_].etag
            if self.world.write_d365(id_, values, etag):
                done += [rules.after_write(one, self.now()) for one in wanted]
            else:
                done += [self.again(one) for one in wanted]
        yield
        self.ledger.opt_outs.put(done, session=session_of(self.ledger, OPT_OUTS))
        self.claimed = {}

    def again(self, one: OptOutRow) -> OptOutRow:
        return rules.due_again(one, ask=self.bidirectional)

    def writes_campaign(self) -> Steps:
        """As apply.py does."""
        due = self.claim(OptOutState.TO_CAMPAIGN)
        yield
        done: list[OptOutRow] = []
        for id_, rows in due.items():
            in_doubt = any(one.unknown_until for one in rows)
            values = {one.attribute: bool(one.value) for one in rows}
            told = self.world.told_by_api(id_) if in_doubt else None
            if in_doubt and told is None:
                done += [rules.after_missing_profile(one, one.d365) for one in rows]
            elif told and all(told[name][0] == value for name, value in values.items()):
                done += [rules.after_write(one, self.now()) for one in rows]
            elif self.random.random() < self.trouble:
                how = self.random.choice(["refused", "lost", "arrived"])
                if how == "refused":
                    done += [rules.after_rejection(one, "Campaign: no", self.now()) for one in rows]
                elif how == "arrived":
                    self.world.write_campaign(id_, values)
            elif self.world.write_campaign(id_, values):
                done += [rules.after_write(one, self.now()) for one in rows]
            else:
                done += [rules.after_missing_profile(one, one.d365) for one in rows]
        yield
        self.ledger.opt_outs.put(done, session=session_of(self.ledger, OPT_OUTS))
        self.claimed = {}

    def claim(self, state: OptOutState) -> dict[str, list[OptOutRow]]:
        session = session_of(self.ledger, OPT_OUTS)
        self.ledger.opt_outs.release(session)  # those of a worker that died
        self.claimed = self.ledger.opt_outs.claim(state, ATTRIBUTES, session, limit=self.random.randint(1, 3))
        return self.claimed

    def due(self, state: OptOutState) -> dict[str, list[OptOutRow]]:
        return self.ledger.opt_outs.due(state, ATTRIBUTES, limit=self.random.randint(1, 3))

    def now(self) -> int:
        return times.to_micros(self.world.later())

    # What holds at every moment, and in the end

    def nothing_held_is_due(self) -> None:
        for state in (OptOutState.DECIDE, OptOutState.TO_D365, OptOutState.TO_CAMPAIGN) if self.held else ():
            assert not self.held & self.ledger.opt_outs.due(state, ATTRIBUTES).keys()

    def everything_is_settled_in_the_end(self) -> None:
        """Workers die or come to their end, and all goes well from then on."""
        note("the end")
        while self.random.random() < 0.5:
            self.a_worker_dies()
        self.trouble = 0.0
        for worker in self.workers.values():
            for _ in worker:
                pass
        self.workers.clear()
        self.clock.advance(3_600)
        self.somebody_retries()
        for file in sorted(self.waiting, key=lambda one: one.written):
            self.state(file)
        self.it_comes_to_rest()
        for id_ in sorted(self.held):
            self.ledger.holds.end_hold("contact", id_, gone=False)
        self.held.clear()
        self.it_comes_to_rest()

    def it_comes_to_rest(self) -> None:
        for number in range(ROUNDS):
            self.a_good_round()
            left = self.ledger.opt_outs.left(ATTRIBUTES)
            note(f"round {number}: {left}")
            if not left.due and not self.ledger.reports.counts()["contact"].pending:
                break
        else:
            raise AssertionError("it goes round in circles")
        before = Counter(self.world.written)
        for _ in range(2):
            self.a_good_round()
        assert self.world.written == before, "written though both agree"
        assert self.ledger.opt_outs.left(ATTRIBUTES).refused == 0
        self.both_sides_agree()

    def a_good_round(self) -> None:
        self.finish(self.captures())
        self.save(self.page(self.ledger.blocked.ids_to_refetch("contact")))
        self.finish(self.pushes(), self.pushes(), self.pushes())
        self.finish(self.captures(), self.exports())
        self.state(self.files[-1])
        self.ledger.opt_outs.end_unknown()
        for state, work in [
            (OptOutState.DECIDE, self.decides),
            (OptOutState.TO_D365, self.writes_d365),
            (OptOutState.TO_CAMPAIGN, self.writes_campaign),
        ]:
            for _ in IDS:
                if self.ledger.opt_outs.due(state, ATTRIBUTES):
                    self.finish(work())

    def finish(self, *workers: Steps) -> None:
        for worker in workers:
            for _ in worker:
                pass

    def both_sides_agree(self) -> None:
        world = self.world
        for id_ in IDS:
            if id_ in self.held:
                continue
            for name in ATTRIBUTES:
                here, there = world.contacts[id_].values[name], world.profiles[id_].values[name]
                if self.bidirectional:
                    agreed = here == there or (here and (id_, name) in self.late)
                    assert agreed, f"{name} of {id_}: {here} in Dynamics 365, {there} in Campaign"
                    assert here or (id_, name) not in world.standing, f"the opt-out from {name} of {id_} is lost"
                elif world.last_word.get((id_, name)) == "campaign" and name == EMAIL:
                    assert here == there or world.ways.file_times == "none"


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


async def it_works(*_: object) -> bool:
    return True


def nobody_minds() -> None:
    """No budget of engine calls."""


@few_and_many
def test_any_history_of_opt_outs_ends_well(ledgers: Ledgers, times: int) -> None:
    """Hypothesis chooses the seed and how far to go, as in test_any_history."""

    @settings(
        max_examples=times * (8 if ledgers.kind == "sqlite" else 2),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(seed=st.integers(0, 2**32), steps=st.integers(20, 120))
    def any_history(seed: int, steps: int) -> None:
        history = History(ledgers.fresh(), Random(seed))
        try:
            history.run(steps)
        finally:
            history.close()

    any_history()
