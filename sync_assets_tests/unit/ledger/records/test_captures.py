"""Captures: what a page of rows does to the records. A row that is no news writes nothing."""

from collections.abc import Callable
from typing import Any, cast

import polars as pl
import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.feed import PageResult, Position
from sync_assets.ledger.model import ANY_ATTRIBUTE, LinkSpec, State
from sync_assets.ledger.prepared_page import LedgerPage
from sync_assets_tests.support.ledgers import (
    Clock,
    capture,
    claim,
    claim_one,
    feed_of,
    frame,
    guid,
    hash_of,
    linked,
    many,
    payload_of,
    push,
    record,
    row,
    save_page,
    settle,
    stored,
)


def result(**counts: int) -> PageResult:
    numbers = dict.fromkeys(("new", "changed", "unchanged", "invalid"), 0)
    return PageResult(**{**numbers, **counts}, feed=cast(Any, None))  # not compared


@pytest.mark.postgresql
def test_a_new_row_is_pending_with_its_payload(ledger: Ledger, clock: Clock) -> None:
    assert capture(ledger, row("anna", insert_only="1990")) == result(new=1)
    anna = record(ledger, "anna")
    assert anna.state == State.PENDING
    assert (anna.desired_hash, anna.acked_hash) == (hash_of("a"), None)
    assert payload_of(anna) == '{"value":"a","once":"1990"}'
    assert anna.update_payload in ('{"value":"a"}', b'{"value":"a"}')
    assert ledger.reports.backlog("contact") == 1


def test_a_change_of_a_field_that_is_only_inserted_counts_until_the_insert(ledger: Ledger) -> None:
    capture(ledger, row("anna", insert_only="1990"))
    assert capture(ledger, row("anna", insert_only="1991")) == result(changed=1)
    assert push(ledger)[0].payload == '{"value":"a","once":"1991"}'
    assert capture(ledger, row("anna", insert_only="1992")) == result(unchanged=1)
    assert claim(ledger) == []


def test_a_change_starts_attempts_anew(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    settle(ledger, "later", claim_one(ledger), reason="503", retry_after=3600)
    assert claim(ledger) == []
    capture(ledger, row("anna", "b"))
    assert claim_one(ledger).attempts == 0


def test_a_row_that_the_transform_refuses_fails_with_its_reason(ledger: Ledger, clock: Clock) -> None:
    assert capture(ledger, row("anna", validation_error="email: 300 characters")) == result(invalid=1)
    anna = record(ledger, "anna")
    assert (anna.state, anna.payload) == (State.REJECTED, None)
    reject = ledger.reports.rejects("contact")[0]
    assert (reject.id, reject.reason, reject.since) == (guid("anna"), "email: 300 characters", clock.now)
    assert not reject.retryable
    assert claim(ledger) == []


def test_a_row_deleted_before_it_was_sent_is_purged(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert", validation_error="no"))
    assert capture(ledger, deleted=["anna", "bert"]) == result()
    assert stored(ledger) == {}
    assert ledger.reports.counts()["contact"].records == 0


def test_a_delete_known_already_is_ignored(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    push(ledger)
    capture(ledger, deleted=["anna"])
    assert capture(ledger, deleted=["anna", "anna"]) == result()
    assert [one.operation for one in push(ledger)] == ["delete"]


def test_deletes_count_after_the_rows_of_their_page(ledger: Ledger) -> None:
    assert capture(ledger, row("anna"), deleted=["anna"]) == result(new=1)
    assert stored(ledger) == {}


def test_a_forced_read_sends_every_row_again_as_a_whole(ledger: Ledger) -> None:
    capture(ledger, row("anna", insert_only="1990"), row("bert"), complete=True)
    push(ledger)
    ledger.feeds.reset_feed("contact", 1, resend=True)
    assert capture(ledger, row("anna", insert_only="1990")) == result(changed=1)
    assert capture(ledger, row("bert"), complete=True) == result(changed=1)
    sent = push(ledger)
    assert {one.operation for one in sent} == {"update"}
    assert {one.update for one in sent} == {'{"value":"a","once":"1990"}', '{"value":"a"}'}
    # The read is complete, so it is over; from here on unchanged rows are unchanged.
    assert capture(ledger, row("anna", insert_only="1990"), row("bert")) == result(unchanged=2)


def test_texts_of_all_kinds_come_back_as_they_were(ledger: Ledger) -> None:
    texts = ["", '"quoted"', "a,b;c\td", "line\nbreak\r\n", "\\N", "Zoë 李 😀", "\\x41", " \u2028 "]
    rows = [row(text) | {"payload": text, "update_payload": text[:1] or None} for text in texts]
    capture(ledger, *rows)
    claimed = {one.id: (one.payload, one.update_payload) for one in claim(ledger)}
    assert claimed == {guid(text): (text, text[:1] or None) for text in texts}


@pytest.mark.postgresql
def test_a_nul_in_a_refusal_is_dropped_since_one_of_the_databases_knows_none(ledger: Ledger) -> None:
    capture(ledger, row("anna", validation_error="a\x00b"))
    assert ledger.reports.rejects()[0].reason == "ab"
    assert capture(ledger, row("anna", validation_error="a\x00b")) == result(unchanged=1)


@pytest.mark.postgresql
def test_columns_may_come_in_any_order_and_wholly_null_ones_without_a_type(ledger: Ledger) -> None:
    page = frame([row("anna")]).with_columns(
        pl.lit(None).alias("validation_error"), pl.lit(None).alias("update_payload")
    )
    assert capture(ledger, page=page.select(reversed(page.columns))) == result(new=1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda page: page.drop("hash"), "hash is missing"),
        (lambda page: page.with_columns(pl.col("hash").bin.encode("hex")), "hash is String, must be Binary"),
        (lambda page: page.with_columns(id=pl.lit(None, pl.String)), "id must not be null"),
        (lambda page: page.with_columns(hash=pl.lit(b"short")), "hash must be 16 bytes long"),
        (lambda page: pl.concat([page, page]), "an id occurs twice"),
    ],
)
def test_rows_of_the_wrong_form_are_refused_as_a_whole(
    ledger: Ledger, change: Callable[[pl.DataFrame], pl.DataFrame], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        save_page(ledger, "contact", change(frame([row("anna")])), [], Position("link", "f"), None)
    assert ledger.feeds.feed("contact") is None


def test_records_are_apart_whose_ids_begin_and_end_alike(ledger: Ledger) -> None:
    """SQLite finds a record by two pieces of its id, which several may share."""
    ids = [f"ab123456-000{n}-4000-8000-aaaaaa654321" for n in range(3)]
    anna, bert, carl = ({**row("a"), "id": id_} for id_ in ids)
    capture(ledger, anna, bert)
    push(ledger)
    captured = capture(ledger, anna, {**row("b", "b"), "id": ids[1]}, carl)
    assert captured == result(new=1, changed=1, unchanged=1)
    assert {(one.id, one.operation) for one in push(ledger)} == {(ids[1], "update"), (ids[2], "insert")}
    states = ledger.audits.states("contact", ids[:2])
    assert {id_: state.hash for id_, state in states.items()} == {ids[0]: hash_of("a"), ids[1]: hash_of("b")}
    capture(ledger, out_of_scope=[ids[1]])
    assert {id_ for id_, one in stored(ledger).items() if one.out_of_scope} == {ids[1]}


def test_a_large_page_of_new_changed_unchanged_and_deleted_rows(ledger: Ledger) -> None:
    capture(ledger, page=many(3000))
    push(ledger)
    page = pl.concat([many(1000), many(4000, "b")[1000:2500], many(4000, "b")[3000:]])
    gone = [f"row{n}" for n in range(2500, 3000)]
    assert capture(ledger, page=page, deleted=gone) == result(new=1000, changed=1500, unchanged=1000)
    assert ledger.reports.counts()["contact"].pending == 3000
    operations = [one.operation for one in push(ledger)]
    assert {kind: operations.count(kind) for kind in set(operations)} == {"insert": 1000, "update": 1500, "delete": 500}
    assert ledger.reports.counts()["contact"].synced == 3500


def test_a_full_read_deletes_kept_records_whose_rows_are_gone(ledger: Ledger) -> None:
    """Whether a row's end stands in the feed, or is seen by its absence after the token expired, must not matter."""
    capture(ledger, row("anna"), row("bert"), complete=True)
    push(ledger)
    captured = capture(ledger, out_of_scope=[guid("anna"), guid("bert")])
    ledger.feeds.reset_feed("contact", captured.feed.version)
    capture(ledger, complete=True, out_of_scope=[guid("bert")], missing_are_deleted=True)
    assert [(one.id, one.operation) for one in claim(ledger)] == [(guid("anna"), "delete")]


@pytest.mark.postgresql
def test_a_child_kept_out_of_scope_follows_a_stricter_cardinality(ledger: Ledger) -> None:
    """Otherwise it would be hidden in Campaign, where nobody can delete it any more, once its parent goes."""
    lax, strict = LinkSpec("cusContact", "contact", required=False), LinkSpec("cusContact", "contact")
    capture(ledger, row("anna"), complete=True)
    push(ledger)
    capture(ledger, page=linked([row("order")], cusContact=["anna"]), table="order", links=[lax], complete=True)
    push(ledger, table="order")
    captured = capture(ledger, page=linked([], cusContact=[]), table="order", links=[lax], out_of_scope=[guid("order")])
    ledger.feeds.reset_feed("order", captured.feed.version)
    capture(ledger, page=linked([], cusContact=[]), table="order", links=[strict], complete=True)
    assert claim(ledger, table="order") == []

    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    [child] = claim(ledger, table="order")
    assert child.operation == "delete"


class TestAChangedMapping:
    """Each row of the page stands beside the same row under the earlier mapping."""

    def capture_under(self, ledger: Ledger, earlier: str, difference: str | None, left: str = "") -> PageResult:
        """Capture `ada` with value b, and her row under an earlier mapping, which gave the value `earlier`."""
        under = self.under(earlier, difference, left)
        return capture(ledger, page=self.page("b", under, {"email", "cusSent"}, {"email", "all"}))

    def under(self, value: str, difference: str | None, left: str = "") -> pl.DataFrame:
        """Return the row of `ada` under an earlier mapping, which gave the value."""
        return pl.DataFrame(
            {
                "hash": [hash_of(value)],
                "difference": [difference],
                "full_difference": ['{"all":1}'],
                "left_attributes": [left],
            },
            schema_overrides={"difference": pl.String},
        )

    def page(self, value: str, under: pl.DataFrame | None, written: set[str], attributes: set[str]) -> LedgerPage:
        """Return a page with `ada`: under the mapping, which writes `attributes`, and under an earlier one."""
        return LedgerPage(frame([row("ada", value)]), (), [(under, written)], attributes)

    def left(self, ledger: Ledger) -> str | None:
        return record(ledger, "ada").left_attributes

    @pytest.fixture(autouse=True)
    def _acknowledged(self, ledger: Ledger) -> None:
        capture(ledger, row("ada", "a"))
        push(ledger)

    def test_a_record_that_needs_nothing_is_acknowledged_under_the_new_mapping(self, ledger: Ledger) -> None:
        assert self.capture_under(ledger, "a", None, "cusJob,email") == result(unchanged=1)
        ada = record(ledger, "ada")
        assert (ada.state, ada.acked_hash, ada.desired_hash) == (State.SYNCED, hash_of("b"), hash_of("b"))
        assert self.left(ledger) == "cusJob"
        assert claim(ledger) == []

    def test_an_update_holds_the_differences_and_an_insert_all_fields(self, ledger: Ledger) -> None:
        self.capture_under(ledger, "a", '{"email":"x"}')
        sent = claim_one(ledger)
        assert (sent.operation, sent.update, sent.payload) == (
            "update",
            '{"email":"x"}',
            payload_of(record(ledger, "ada")),
        )
        assert self.left(ledger) is None

    def test_a_record_acknowledged_otherwise_is_sent_whole_and_may_hold_any_attribute(self, ledger: Ledger) -> None:
        self.capture_under(ledger, "c", '{"email":"x"}')
        assert claim_one(ledger).update == payload_of(record(ledger, "ada"))
        assert self.left(ledger) == "*"

    @pytest.mark.parametrize(("left", "update"), [("*", '{"all":1}'), ("all,x", '{"all":1}'), ("x", '{"email":"x"}')])
    def test_an_attribute_that_campaign_may_hold_is_sent_again(self, ledger: Ledger, left: str, update: str) -> None:
        statement = "UPDATE sync_record SET left_attributes = ?".replace("?", f"'{left}'")
        ledger.database.write(lambda connection: connection.exec_driver_sql(statement) and None)
        self.capture_under(ledger, "a", '{"email":"x"}')
        assert claim_one(ledger).update == update

    @pytest.mark.parametrize("acknowledged", [True, False])
    def test_what_was_left_stays_known_until_a_mapping_that_writes_it_is_acknowledged(
        self, ledger: Ledger, acknowledged: bool
    ) -> None:
        self.capture_under(ledger, "a", None, "cusJob")
        without, with_job = {"email", "all"}, {"email", "all", "cusJob"}
        capture(ledger, page=self.page("c", self.under("b", None), without, with_job))
        assert self.left(ledger) == "cusJob"
        if acknowledged:
            assert [record.update for record in push(ledger)] == ['{"all":1}']
        capture(ledger, page=self.page("b", self.under("c", None), with_job, without))  # her job is empty by now
        assert self.left(ledger) == (None if acknowledged else "cusJob")
        assert claim(ledger) == []

    @pytest.mark.parametrize("acknowledged", [True, False])
    def test_a_record_whose_outcome_is_unknown_may_hold_all_that_only_the_earlier_mapping_writes(
        self, ledger: Ledger, acknowledged: bool
    ) -> None:
        if not acknowledged:
            for statement in (
                "UPDATE sync_record SET acked_hash = NULL, state = 1",
                "UPDATE sync_tally SET records = state",
            ):
                with ledger.database.read() as connection:
                    connection.exec_driver_sql(statement)
        capture(ledger, row("ada", "c"))
        claim_one(ledger)
        self.capture_under(ledger, "a", None, "cusJob")
        assert self.left(ledger) == ("cusJob,cusSent" if acknowledged else "cusSent")

    def test_an_earlier_mapping_that_is_not_known_any_more_may_have_written_any_attribute(self, ledger: Ledger) -> None:
        capture(ledger, page=self.page("b", None, {ANY_ATTRIBUTE}, {"email"}))
        assert self.left(ledger) == "*"

    def test_records_whose_rows_the_read_did_not_map_may_hold_any_attribute(self, ledger: Ledger) -> None:
        capture(ledger, deleted=["ada"])
        ledger.mappings.settle("contact", feed_of(ledger).fingerprint)
        assert self.left(ledger) == "*"
