"""Translate a database driver's errors to LedgerError: one line with cause and remedy.

Invariant: a message never holds row content or a password; the driver's own text may quote rows.
"""

from sync_assets.errors import is_disk_full
from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.storage.database_url import SETTING, Address

BUSY_SECONDS = 60  # how long an SQLite writer waits for other processes
_COLLISIONS = {"40001", "40P01"}  # PostgreSQL: serialization failure, deadlock
_UNREACHABLE = {"08", "28", "3D", "57"}  # SQLSTATE classes: connection, sign-in, database name, shutdown


class Busy(LedgerError):
    """SQLite: another process has locked the file."""


class Collided(LedgerError):
    """PostgreSQL aborted this transaction to break a deadlock. Nothing was written."""


def fault(error: BaseException | None, address: Address) -> LedgerError:
    """Return the error to raise instead of the driver's."""
    state: str | None = getattr(error, "sqlstate", None)
    if state in _COLLISIONS:
        return Collided(
            f"The ledger {address.location} kept colliding with other writers.",
            "Run fewer workers at once, or try again.",
        )
    # PostgreSQL's primary message names objects only; its detail and context quote values.
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = str(primary or error).splitlines()
    cause = lines[0].strip() if lines else type(error).__name__
    if address.password:
        cause = cause.replace(address.password, "***")
    if not address.sqlite:
        return _postgres_fault(address, cause, state)
    if is_disk_full(error):
        return LedgerError(
            f"The disk of the ledger file {address.location} is full.", "Make room there, then try again."
        )
    return _sqlite_fault(address.location, cause)


def no_connection_left(address: Address) -> LedgerError:
    """Return the error for a connection pool that is exhausted."""
    return LedgerError(f"All connections to the ledger {address.location} are in use.", "Use fewer threads.")


def _sqlite_fault(location: str, cause: str) -> LedgerError:
    if "locked" in cause or "busy" in cause:
        return Busy(
            f"Another process has been writing to the ledger file {location} for {BUSY_SECONDS} seconds.",
            "Wait for it or stop it, then try again.",
        )
    if "not a database" in cause or "malformed" in cause:
        return LedgerError(
            f"The file {location} is no ledger, or is damaged ({cause}).",
            f"Restore it, or set {SETTING} to another file.",
        )
    return LedgerError(
        f"The ledger file {location} can't be used ({cause}).", f"Check the file and its folder, and {SETTING}."
    )


def _postgres_fault(address: Address, cause: str, state: str | None) -> LedgerError:
    if state is None or state[:2] in _UNREACHABLE:
        return LedgerError(
            f"The ledger {address.location} can't be reached ({cause}).",
            f"Check that the server runs, and {SETTING}.",
        )
    if state[:2] == "42":
        return LedgerError(
            f"The ledger {address.location} refused ({cause}, SQLSTATE {state}).",
            "Give its user the right to create and use tables there.",
        )
    return LedgerError(
        f"The ledger {address.location} failed ({cause}, SQLSTATE {state}).", "See the log of the server."
    )
