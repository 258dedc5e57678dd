"""Reasons that differ only in what is particular to a record count as one."""

import pytest

from sync_assets.ledger.rules.rejection_reasons import kind_of_reason


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Campaign gave no answer, 4 times.", "Campaign gave no answer, <n> times."),
        ("jobtitle: 130 characters, at most 100", "jobtitle: <n> characters, at most 100"),
        ("Unable to find document from key '@h0dzdYCvKKe8k2sI4lX1xAbc'", "Unable to find document from key '<id>'"),
        ("No parent 6FD3C1A2-0b1c-4c5d-8e9f-0123456789AB.", "No parent <id>."),
        ("A name of 12 characters", "A name of <n> characters"),
        ("RST-360011 An error has occurred", "RST-360011 An error has occurred"),
        ("'age' property of 'profile' is not valid", "'age' property of 'profile' is not valid"),
    ],
)
def test_a_reason_is_stored_without_the_parts_of_one_record(reason: str, kind: str) -> None:
    assert kind_of_reason(reason) == kind
