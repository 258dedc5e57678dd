"""Any read of several pages, killed at any moment: no change is lost."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sync_assets_tests.support.table_reading import Killed, Reading, reading_of_small_pages
from sync_assets_tests.unit.capture.test_kept_delta_link import N


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    with reading_of_small_pages(tmp_path_factory.mktemp("reading")) as one:
        yield one


class Story:
    """Reads of a table that changes at any request, killed at any request or write of the ledger; of a server that may
    fail over pages of four rows."""

    def __init__(self, reading: Reading, random: Random) -> None:
        self.reading, self.random, self.admin = reading, random, reading.admin
        self.deleted: list[str] = []

    def run(self) -> None:
        reading, random = self.reading, self.random
        self.admin.settings(
            "d365", delta_link_taken=random.choice(["start", "end"]), delta_repeats=random.random() < 0.5
        )
        for _ in range(random.randint(1, 4)):
            self.read_disturbed()
            note("read to its end")
            reading.before = lambda number: None
            reading.read()
            assert reading.captured() == reading.expected()
            if random.random() < 0.5:
                reading.acknowledge()
            self.something_else()

    def something_else(self) -> None:
        what = self.random.choice(["replay", "expired", "mapping", "many changes", "nothing"])
        note(what)
        if what == "replay":
            self.reading.read_whole_table_next()
        elif what == "expired":
            self.admin.expire()
        elif what == "mapping":
            self.reading.mapping = self.random.choice(list(self.reading.rules))
        elif what == "many changes":
            for _ in range(self.random.randint(3, 8)):
                self.change()

    def read_disturbed(self) -> None:
        self.reading.most_rows = self.random.choice([2, 3, 5000])
        for _ in range(self.random.randint(0, 3)):
            kill = self.random.randint(1, 12)
            at_request = self.random.random() < 0.5
            self.reading.simulated_kill.left = None if at_request else kill
            self.reading.simulated_kill.stored = self.random.random() < 0.5

            def before(number: int, kill: int | None = kill if at_request else None) -> None:
                if self.random.random() < 0.4:
                    self.change()
                if number == kill:
                    raise Killed

            self.reading.before = before
            try:
                self.reading.read()
            except Killed:
                note(f"killed at {self.reading.asked()}")
            self.reading.simulated_kill.left = None

    def change(self) -> None:
        ids = [row["contactid"] for row in self.admin.dump_d365()]
        some = self.random.sample(ids, min(len(ids), self.random.randint(1, 3)))
        what = self.random.choice(["change", "delete", "create", "come back", "leave"])
        note(f"{what} {some}")
        if what == "change":
            self.admin.change("contact", some, lastname=f"Changed {self.random.random()}")
        elif what == "leave":
            self.admin.change("contact", some, jobtitle=self.random.choice(["in", "out"]))
        elif what == "delete":
            self.deleted += self.admin.delete("contact", some)
        elif what == "create" and len(ids) < 2 * N:
            self.admin.create("contact", *({"lastname": "New", "jobtitle": "in"} for _ in some))
        elif what == "come back" and self.deleted:
            back = self.deleted.pop(self.random.randrange(len(self.deleted)))
            self.admin.create("contact", {"contactid": back, "lastname": "Back", "jobtitle": "in"})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_nothing_is_lost_whenever_it_is_killed(shared: Reading, seed: int) -> None:
    with shared.begin(N):
        Story(shared, Random(seed)).run()
