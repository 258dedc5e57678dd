"""The ledger: desired state against acknowledged state, for every D365 row in scope (docs/how-it-works.md).

rules           the state of a record, as pure functions: start reading here
records         repositories of records: capture, claim, acknowledge, delete, dependencies, privacy holds
repositories    the other repositories: opt-outs, runs, maintenance, call limits, reports
storage         SQLite and PostgreSQL: schema, connections, bulk statements, and bringing an older schema up to date
migrations      Alembic's migrations of the schema
model, feed     the value types exchanged with the rest of the program; those of a change feed
report_values   the values of its reports
facade          Ledger, which combines all repositories
prepared_page   one page of a table's rows and deletions, and the rows, transformed and ready to be stored
scratch         a temporary copy of a ledger, to try things on
errors, times   the ledger's exceptions; times as it stores them
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sync_assets.ledger.facade import Ledger

__all__ = ["Ledger"]


def __getattr__(name: str) -> Any:
    """Import `Ledger` on first use: SQLAlchemy is a fifth of what the code location loads, and types don't need it."""
    if name == "Ledger":
        from sync_assets.ledger.facade import Ledger  # noqa: PLC0415

        return Ledger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
