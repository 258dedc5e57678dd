"""A page over which Dynamics 365 fails is asked for with fewer rows; the harness sees to it that no read changes its
size."""

from collections.abc import Iterator
from typing import Any

import pytest

from sync_assets.capture import context as capture_context
from sync_assets.dataverse.client import D365Refused, ServerFailed
from sync_assets.http.retry import PAGE_TRIES as TRIES
from sync_assets.http.transport import OutcomeUnknown, ResponseTooLarge, Unavailable
from sync_assets_tests.support.ledgers import feed_of
from sync_assets_tests.support.table_reading import Reading

N = 14


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    one = Reading(tmp_path_factory.mktemp("reading"), page_size=8)
    yield one
    one.close()


@pytest.fixture
def reading(shared: Reading, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    monkeypatch.setattr(capture_context, "SMALLEST", 1)
    monkeypatch.setattr(capture_context, "backoff", lambda attempt: 0.0)
    with shared.begin(N):
        yield shared


def fails_from(reading: Reading, kind: str, most_rows: int) -> None:
    """From the first request of a kind on the server has less memory."""

    def before(number: int) -> None:
        if reading.asked()[-1] == kind:
            reading.most_rows = most_rows

    reading.before = before


def test_a_page_is_halved_after_several_failures_and_stays_so(reading: Reading) -> None:
    reading.most_rows = 3
    reading.read()
    assert reading.sizes[: 2 * TRIES + 1] == [8] * TRIES + [4] * TRIES + [2]
    assert set(reading.sizes[2 * TRIES :]) == {2, 3}  # grown after the first load, which had several pages
    assert reading.captured() == reading.expected()


@pytest.mark.parametrize("kind", ["ids", "next ids", "rows", "next", "changes"])
def test_a_read_that_fails_in_its_middle_begins_anew_with_fewer_rows(reading: Reading, kind: str) -> None:
    fails_from(reading, kind, 2)
    reading.read()
    assert reading.captured() == reading.expected()


def test_the_size_grows_by_a_tenth_with_each_read_of_several_pages(reading: Reading) -> None:
    reading.read()
    feed = feed_of(reading.ledger)
    reading.ledger.feeds.shrink_pages("contact", feed.version, 4, feed.fingerprint)
    sizes: list[int | None] = []
    for changed in (2, 10, 10):
        reading.admin.change("contact", changed, lastname=f"Changed {changed} {len(sizes)}")
        reading.read()
        feed = reading.ledger.feeds.feed("contact")
        sizes.append(feed and feed.page_size)
    assert sizes == [4, 5, 6]


def test_a_page_of_the_fewest_rows_that_fails_fails(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_context, "SMALLEST", 4)
    reading.most_rows = 3
    with pytest.raises(ServerFailed):
        reading.read()
    assert reading.sizes == [8] * TRIES + [4] * TRIES


@pytest.mark.parametrize("kind", ["ids", "rows", "changes", "by id"])
def test_an_answer_of_too_many_bytes_is_asked_for_with_fewer_rows_down_to_one(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(capture_context, "SMALLEST", 250)
    if kind in ("changes", "by id"):
        reading.read()
        ids = [row["contactid"] for row in reading.admin.dump_d365()]
        reading.admin.change("contact", ids[:5], lastname="Changed")
        if kind == "by id":
            reading.admin.delete("contact", ids[5:])
    page = reading.d365.page

    async def narrow(link: str, **how: Any) -> bytes:
        if how["size"] > 1 and (kind != "by id" or "$filter" in link):
            raise ResponseTooLarge("too large")
        return await page(link, **how)

    monkeypatch.setitem(vars(reading.d365), "page", narrow)
    reading.read()
    assert reading.captured() == reading.expected()
    assert (feed_of(reading.ledger).page_size or 0) < 8


def test_one_row_of_too_many_bytes_names_its_table(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    page = reading.d365.page

    async def narrow(link: str, **how: Any) -> bytes:
        if link.endswith("$select=contactid"):
            return await page(link, **how)
        raise ResponseTooLarge("too large")

    monkeypatch.setitem(vars(reading.d365), "page", narrow)
    with pytest.raises(D365Refused, match="One row of contact has more than 64 MiB"):
        reading.read()


def test_an_answer_without_end_is_asked_for_twice_and_named_as_one(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def endless(link: str, **how: Any) -> bytes:
        asked.append(how["size"])
        raise ResponseTooLarge("too large")

    monkeypatch.setitem(vars(reading.d365), "page", endless)
    with pytest.raises(D365Refused, match=r"does not end: an id alone has more than 64 MiB\. Check D365_URL"):
        reading.read()
    assert asked == [8, 1]


@pytest.mark.parametrize(
    ("error", "halved"),
    [
        (OutcomeUnknown("no answer"), True),
        (Unavailable("gateway", status=504), True),
        (Unavailable("gateway", status=502), True),
        (Unavailable("maintenance", status=503), False),
        (Unavailable("throttled", status=429), False),
    ],
)
def test_a_refusal_for_another_cause_than_size_halves_nothing(reading: Reading, error: Exception, halved: bool) -> None:
    def before(number: int) -> None:
        if number == 1:
            raise error

    reading.before = before
    if halved:
        reading.read()
        assert reading.captured() == reading.expected()
    else:
        with pytest.raises(Unavailable):
            reading.read()
    feed = reading.ledger.feeds.feed("contact")
    assert (feed is not None) is halved
