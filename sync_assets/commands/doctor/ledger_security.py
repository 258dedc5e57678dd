"""`doctor`: whether the ledger's payloads are encrypted, and the connection to its server verified."""

from __future__ import annotations

from sync_assets.operations.diagnosis_line import Line
from sync_assets.runtime.context import Runtime

_KEY = "set SYNC_ASSETS_LEDGER_KEY_FILE, see docs/privacy.md"


def ledger_lines(runtime: Runtime) -> list[Line]:
    """Return the lines on encryption and, of a PostgreSQL server on another host, on the connection."""
    return [_payloads(runtime), *_connection(runtime)]


def _payloads(runtime: Runtime) -> Line:
    if name := runtime.cipher.name:
        return Line("ok", "payloads", f"encrypted with the key {name} until Campaign acknowledges them")
    if runtime.settings.ledger_in_sqlite:
        return Line("ok", "payloads", f"not encrypted, erased from the file once acknowledged; to encrypt them, {_KEY}")
    kept = "not encrypted: PostgreSQL keeps erased payloads in old pages, its write-ahead log and backups"
    return Line("warn", "payloads", f"{kept}; {_KEY}")


def _connection(runtime: Runtime) -> list[Line]:
    match runtime.settings.ledger_connection:
        case "verified":
            return [Line("ok", "connection to the ledger", "the server's certificate and name are verified")]
        case "unverified":
            told = "the server's certificate is not verified, so another server could get the password: "
            return [
                Line(
                    "warn",
                    "connection to the ledger",
                    told + "write sslmode=verify-full into the URL, unless the network is this host's own",
                )
            ]
        case _:
            return []
