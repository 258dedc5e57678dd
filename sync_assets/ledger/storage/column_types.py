"""Define the types of the ledger's columns: times, days, names, payloads.

Times are microseconds and days are days, both since 1970 (UTC), see `times`.
"""

import json
from datetime import date, datetime

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.feed import Replay

# Ids and names sort and compare by bytes: faster than by a language's collation, and the same on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


class Instant(sa.TypeDecorator[datetime]):
    """A time in UTC, stored as microseconds since 1970. A number of these is stored as such."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | int | None, dialect: sa.Dialect) -> int | None:
        return times.to_micros(value) if isinstance(value, datetime) else value

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return times.instant(value)


class Day(sa.TypeDecorator[date]):
    """A day in UTC, stored as days since 1970."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: date | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else times.to_day_number(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> date | None:
        return None if value is None else times.from_day_number(value)


class ReplayedDays(sa.TypeDecorator[Replay]):
    """A replay by days, stored as JSON."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Replay | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else json.dumps(value, default=date.isoformat)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Replay | None:
        if value is None:
            return None
        first, last, *others = json.loads(value)
        return Replay(date.fromisoformat(first), date.fromisoformat(last), *others)


SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Bytes, encrypted or not: see `payload_cipher`. SQLite's column of texts takes bytes as well, and takes the texts of a
# page that is not encrypted in less time.
PAYLOAD = sa.Text().with_variant(sa.LargeBinary(), "postgresql")
