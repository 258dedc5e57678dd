"""Times as the ledger stores them: whole numbers, UTC, alike on both databases.

An instant is microseconds since 1970, a day is days since 1970. Numbers compare and copy fast and
leave no room for a time zone that one database applies and the other does not.
"""

from datetime import UTC, date, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = EPOCH.date().toordinal()
_MICROSECOND = timedelta(microseconds=1)


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970. ValueError for a time without a zone, which could mean anything."""
    if instant.tzinfo is None:
        raise ValueError("the ledger needs times with a time zone")
    return (instant - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def seconds(amount: float) -> int:
    """Seconds in microseconds."""
    return round(amount * 1_000_000)


def to_day_number(day: date) -> int:
    return day.toordinal() - _EPOCH_DAY


def from_day_number(number: int) -> date:
    return date.fromordinal(number + _EPOCH_DAY)
