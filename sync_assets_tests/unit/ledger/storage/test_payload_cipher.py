"""A payload is unreadable where it is stored, and comes back for its own record only."""

import os

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.ledger.errors import PayloadKeyMissing
from sync_assets.ledger.storage.payload_cipher import MARK, PayloadCipher, key_name

OLD, NEW = os.urandom(32), os.urandom(32)
IDS = pl.repeat("anna", 100, eager=True)


@given(st.text(), st.text())
def test_a_payload_comes_back_as_it_was(payload: str, id_: str) -> None:
    cipher = PayloadCipher([NEW])
    stored = cipher.encrypt(payload, id_)
    assert stored is not None
    assert stored.startswith(MARK + key_name(NEW).encode() + b":")
    assert cipher.decrypt(stored, id_) == payload


@given(rows=st.lists(st.tuples(st.text(), st.none() | st.text())))
def test_a_page_of_payloads_comes_back_as_it_was_each_for_its_record(rows: list[tuple[str, str | None]]) -> None:
    cipher = PayloadCipher([NEW])
    page = pl.DataFrame(rows, schema={"id": pl.String, "payload": pl.String}, orient="row")
    stored = cipher.encrypt_column(page["payload"], page["id"])
    assert stored.name == "payload"
    texts = [cipher.decrypt(one, id_) for one, (id_, _) in zip(stored, rows, strict=True)]
    assert texts == [payload for _, payload in rows]
    assert all(one is None or one.startswith(MARK + key_name(NEW).encode() + b":") for one in stored)


def test_a_page_without_its_key_is_lost_and_one_that_was_changed_too() -> None:
    stored = PayloadCipher([OLD]).encrypt_column(pl.Series(["{}"]), pl.Series(["anna"]))[0]
    for other, id_ in ((PayloadCipher(), "anna"), (PayloadCipher([NEW]), "anna"), (PayloadCipher([OLD]), "bert")):
        with pytest.raises(PayloadKeyMissing, match=key_name(OLD)):
            other.decrypt(stored, id_)


def test_equal_payloads_are_stored_as_different_bytes() -> None:
    assert PayloadCipher([NEW]).encrypt_column(pl.repeat("same", 100, eager=True), IDS).n_unique() == 100


def test_a_payload_of_another_record_is_refused() -> None:
    cipher = PayloadCipher([NEW])
    with pytest.raises(PayloadKeyMissing):
        cipher.decrypt(cipher.encrypt("{}", "anna"), "bert")


def test_earlier_keys_decrypt_and_the_first_one_encrypts() -> None:
    before = PayloadCipher([OLD]).encrypt('{"a":1}', "anna")
    both = PayloadCipher([NEW, OLD])
    assert both.decrypt(before, "anna") == '{"a":1}'
    assert both.name == key_name(NEW) != key_name(OLD)


def test_without_its_key_a_payload_is_lost_and_the_error_names_the_key_and_the_remedy() -> None:
    stored = PayloadCipher([OLD]).encrypt('{"name":"Jane"}', "anna")
    for other in (PayloadCipher(), PayloadCipher([NEW])):
        assert other.decrypt_if_possible(stored, "anna") is None
        with pytest.raises(PayloadKeyMissing, match=f"{key_name(OLD)}.*replay TABLE --force") as caught:
            other.decrypt(stored, "anna")
        assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("cipher", [PayloadCipher(), PayloadCipher([NEW])])
def test_a_payload_that_was_stored_without_a_key_is_read(cipher: PayloadCipher) -> None:
    assert cipher.decrypt('{"a":1}', "anna") == cipher.decrypt(b'{"a":1}', "anna") == '{"a":1}'
    assert cipher.decrypt(None, "anna") is None


def test_without_a_key_payloads_are_stored_as_they_are() -> None:
    assert PayloadCipher().encrypt('{"a":1}', "anna") == b'{"a":1}'
    payloads = pl.Series("payload", ['{"a":1}', None] * 50)
    assert PayloadCipher().encrypt_column(payloads, IDS).to_list() == payloads.to_list()
