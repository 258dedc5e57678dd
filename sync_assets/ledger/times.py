"""Convert times to and from the integers that the ledger stores: microseconds or days since 1970, UTC.

Integers compare and copy fast, and no database can apply a time zone to them.
"""

from datetime import UTC, date, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = EPOCH.date().toordinal()
_MICROSECOND = timedelta(microseconds=1)
DAY = 86_400_000_000
"""Microseconds of a day."""


def to_micros(instant: datetime) -> int:
    """Return microseconds since 1970. ValueError for a time without a time zone, which is ambiguous."""
    if instant.tzinfo is None:
        raise ValueError("the ledger needs times with a time zone")
    return (instant - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the UTC time of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)


def instant(micros: int | None) -> datetime | None:
    """Return the UTC time of microseconds since 1970; None for None."""
    return None if micros is None else from_micros(micros)


def seconds(amount: float) -> int:
    """Return seconds as microseconds."""
    return round(amount * 1_000_000)


def to_day_number(day: date) -> int:
    """Return days since 1970."""
    return day.toordinal() - _EPOCH_DAY


def from_day_number(number: int) -> date:
    """Return the date of days since 1970."""
    return date.fromordinal(number + _EPOCH_DAY)


def clock(moment: datetime, now: datetime | None = None) -> str:
    """Return a time as sentences show it: UTC to the minute, a later one rounded up, with the date unless today's."""
    now = (now or datetime.now(UTC)).astimezone(UTC)
    at = moment.astimezone(UTC)
    at = at.replace(second=0, microsecond=0) + timedelta(minutes=at > now and bool(at.second or at.microsecond))
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def iso(moment: datetime) -> str:
    """Return a time as documents show it: UTC, whole seconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
