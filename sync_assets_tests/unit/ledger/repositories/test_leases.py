from sync_assets.ledger import Ledger
from sync_assets_tests.support.ledgers import run_out, session_of


def test_one_session_at_a_time_does_a_piece_of_work(ledger: Ledger) -> None:
    capture, first, second = (session_of(ledger, name) for name in ("capture", "first", "second"))
    assert ledger.leases.take("contact", capture)
    assert ledger.leases.take("campaign/contact", first)  # a list of the table's records, beside its capture
    assert ledger.leases.take("campaign/contact", first)
    assert not ledger.leases.take("campaign/contact", second)
    ledger.leases.release("campaign/contact", second)  # not the second's to give back
    assert not ledger.leases.take("campaign/contact", second)
    ledger.leases.release("campaign/contact", first)
    assert ledger.leases.take("campaign/contact", second)
    run_out(ledger, "second")
    assert ledger.leases.take("campaign/contact", session_of(ledger, "third"))
