"""Two writers at once: one captures children, the other answers for their parents. Neither leaves a child stuck."""

import threading
from collections.abc import Callable
from random import Random

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import LinkSpec, Outcome, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.storage.database import Collided
from sync_assets.ledger.storage.transaction import Transaction
from sync_assets_tests.support.ledgers import capture, claim, guid, linked, row, session_of, stored

TO_CONTACT = LinkSpec("cusContact", "contact")
ROUNDS = 10


def at_once(*jobs: Callable[[], object]) -> None:
    """Run them in a thread each, begun together; the first error of any is raised."""
    barrier = threading.Barrier(len(jobs))
    wrong: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            barrier.wait(60)
            job()
        except BaseException as error:  # noqa: BLE001 - raised below
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if wrong:
        raise wrong[0]


def orders(ledger: Ledger, *pairs: tuple[str, str | None], value: str = "a") -> None:
    """Orders with the contacts that they belong to."""
    rows = [row(f"order of {name}", value) for name, _ in pairs]
    page = linked(rows, cusContact=[contact for _, contact in pairs])
    capture(ledger, page=page, table="order", links=[TO_CONTACT])


def answer(ledger: Ledger, table: str = "contact") -> None:
    claimed = claim(ledger, table=table)
    ledger.claims.acknowledge(
        session_of(ledger, "worker"), [Outcome(one.seq, "done", one.hash, links=one.links) for one in claimed]
    )


def test_a_child_that_is_captured_while_its_parent_is_answered_is_sent(ledger: Ledger) -> None:
    for n in range(ROUNDS):
        capture(ledger, row(f"anna{n}"))
        claimed = claim(ledger)
        done = [Outcome(one.seq, "done", one.hash) for one in claimed]
        at_once(
            lambda done=done: ledger.claims.acknowledge(session_of(ledger, "worker"), done),
            lambda n=n: orders(ledger, (f"{n}", f"anna{n}")),
        )
        assert [one.id for one in claim(ledger, f"worker{n}", table="order")] == [guid(f"order of {n}")]


@pytest.mark.parametrize("stops_at", [1, 2])
def test_the_first_child_that_is_captured_while_its_parent_is_answered_is_sent(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, stops_at: int
) -> None:
    """The ledger has no links when the acknowledgement asks for them; the first are stored before it goes on."""
    capture(ledger, row("anna"))
    claimed = claim(ledger)
    asked, stored_orders, questions = threading.Event(), threading.Event(), list[bool]()
    has_links = DependencyStatus.has_links

    def stops(dependencies: DependencyStatus, transaction: Transaction) -> bool:
        found = has_links(dependencies, transaction)
        if threading.current_thread().name == "acknowledgement":
            questions.append(found)
            if len(questions) == stops_at:
                asked.set()
                stored_orders.wait(1)
        return found

    def acknowledge() -> None:
        threading.current_thread().name = "acknowledgement"
        ledger.claims.acknowledge(session_of(ledger, "worker"), [Outcome(one.seq, "done", one.hash) for one in claimed])

    def store_orders() -> None:
        assert asked.wait(10)
        orders(ledger, ("1", "anna"))
        stored_orders.set()

    monkeypatch.setattr(DependencyStatus, "has_links", stops)
    at_once(acknowledge, store_orders)
    assert questions[0] is False
    assert [one.id for one in claim(ledger, table="order")] == [guid("order of 1")]


def test_a_child_that_is_captured_while_its_parent_is_captured_is_sent_in_the_end(ledger: Ledger) -> None:
    capture(ledger)
    for n in range(ROUNDS):
        at_once(lambda n=n: capture(ledger, row(f"anna{n}")), lambda n=n: orders(ledger, (f"{n}", f"anna{n}")))
        assert claim(ledger, f"worker{n}", table="order") == []
        answer(ledger)
        assert [one.id for one in claim(ledger, f"worker{n}", table="order")] == [guid(f"order of {n}")]


def test_a_child_that_is_captured_while_its_parent_goes_is_not_sent(ledger: Ledger) -> None:
    for n in range(ROUNDS):
        capture(ledger, row(f"anna{n}"))
        answer(ledger)
        at_once(lambda n=n: capture(ledger, deleted=[f"anna{n}"]), lambda n=n: orders(ledger, (f"{n}", f"anna{n}")))
        assert claim(ledger, f"worker{n}", table="order") == []
        assert [one.operation for one in claim(ledger, f"worker{n}")] == ["delete"]


def test_a_parent_that_goes_while_a_child_is_claimed_waits_for_it(ledger: Ledger) -> None:
    for n in range(ROUNDS):
        capture(ledger, row(f"anna{n}"))
        answer(ledger)
        orders(ledger, (f"{n}", f"anna{n}"))
        taken: list[str] = []
        at_once(
            lambda n=n, taken=taken: taken.extend(one.id for one in claim(ledger, f"worker{n}", table="order")),
            lambda n=n: capture(ledger, deleted=[f"anna{n}"]),
        )
        gone = [one.operation for one in claim(ledger, f"worker{n}")]
        assert gone == ([] if taken else ["delete"])


def test_large_pages_of_children_and_answers_for_their_parents_do_not_block_each_other(ledger: Ledger) -> None:
    """They come to the same records from two sides: children before parents, and parents before children."""
    names = [f"{n}" for n in range(200)]
    collisions: list[BaseException] = []
    plain = ledger.database._write_once

    def watched(work: Callable[..., object], *, large: bool) -> object:
        try:
            return plain(work, large=large)
        except Collided as error:
            collisions.append(error)
            raise

    ledger.database._write_once = watched  # type: ignore[method-assign]
    capture(ledger, *(row(f"anna{name}") for name in names))
    answer(ledger)
    for n in range(8):
        shuffled = Random(n).sample(names, len(names))
        pairs = [(name, f"anna{name}") for name in shuffled]
        changed = [row(f"anna{name}", str(n)) for name in names]
        capture(ledger, *changed)
        claimed = claim(ledger)
        done = [Outcome(one.seq, "done", one.hash) for one in claimed]
        at_once(
            lambda done=done: ledger.claims.acknowledge(session_of(ledger, "worker"), done),
            lambda pairs=pairs, n=n: orders(ledger, *pairs, value=str(n)),
        )
        answer(ledger, "order")
    assert collisions == []
    assert {one.state for one in stored(ledger).values()} == {State.SYNCED}
