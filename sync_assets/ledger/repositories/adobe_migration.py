"""Store which steps of the migration from Adobe's integration are done, and what each found.

Here: storage alone. The steps are those of cli/migrate.py. Invariant: a result holds counts and names of
attributes, no personal data.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.storage import operation_tables
from sync_assets.ledger.storage.session import LedgerSession


class MigrationStep(NamedTuple):
    """A step that is done. configuration: a hash of the configuration that the result is of."""

    step: str
    configuration: str
    result: dict[str, Any]
    done_at: datetime


class AdobeMigration:
    """Reads and writes `sync_adobe_migration`."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session

    def steps(self) -> dict[str, MigrationStep]:
        """Return the steps that are done, by name."""
        return {
            row.step: MigrationStep(row.step, row.configuration, json.loads(row.result), times.from_micros(row.done_at))
            for row in self._session.rows(sa.select(operation_tables.adobe_migration))
        }

    def note_step(self, step: str, configuration: str, result: Mapping[str, Any]) -> None:
        """Store a step as done now; it replaces an earlier result of the step."""
        values = {"configuration": configuration, "result": json.dumps(result), "done_at": self._session.now()}
        self._session.run(self._session.put(operation_tables.adobe_migration, [{"step": step, **values}]))

    def forget_steps(self) -> None:
        """Delete all steps, so that the migration begins anew."""
        self._session.run(sa.delete(operation_tables.adobe_migration))
