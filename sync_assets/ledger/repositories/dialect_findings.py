"""Store how this Campaign instance behaves (its dialect): one finding per resource and premise.

Here: storage alone. What a premise means and how it is tested is defined by the callers (`address: auto`,
`unique: auto`, `style: auto` in the configuration). A finding is kept until it is contradicted.
"""

from collections.abc import Mapping

import sqlalchemy as sa

from sync_assets.ledger.storage import operation_tables
from sync_assets.ledger.storage.session import LedgerSession

_D = operation_tables.dialect.c


class DialectFindings:
    """Reads and writes `sync_dialect`."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session

    def found(self, resource: str) -> dict[str, str]:
        """Return the findings of a resource: premise -> finding."""
        rows = self._session.rows(sa.select(_D.premise, _D.found).where(_D.resource == resource))
        return {row.premise: row.found for row in rows}

    def note(self, resource: str, found: Mapping[str, str]) -> None:
        """Store findings of a resource; they replace earlier ones of the same premises."""
        now = self._session.now()
        rows = [
            {"resource": resource, "premise": premise, "found": finding, "found_at": now}
            for premise, finding in sorted(found.items())
        ]
        if rows:
            self._session.run(self._session.put(operation_tables.dialect, rows))

    def forget(self, resource: str, *premises: str) -> None:
        """Delete findings of a resource, or all of them if no premises are given, so that they are tested again."""
        forgotten = sa.delete(operation_tables.dialect).where(_D.resource == resource)
        if premises:
            forgotten = forgotten.where(_D.premise.in_(premises))
        self._session.run(forgotten)
