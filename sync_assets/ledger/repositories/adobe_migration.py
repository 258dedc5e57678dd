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
        with self._session.database.read() as connection:
            return {
                row.step: MigrationStep(
                    row.step, row.configuration, json.loads(row.result), times.from_micros(row.done_at)
                )
                for row in connection.execute(sa.select(operation_tables.adobe_migration))
            }

    def note_step(self, step: str, configuration: str, result: Mapping[str, Any]) -> None:
        """Store a step as done now; it replaces an earlier result of the step."""

        def work(connection: sa.Connection) -> None:
            row = {"configuration": configuration, "result": json.dumps(result), "done_at": self._session.now()}
            new = self._session.upsert(operation_tables.adobe_migration).values(step=step, **row)
            connection.execute(new.on_conflict_do_update(index_elements=["step"], set_=row))

        self._session.database.write(work)

    def forget_steps(self) -> None:
        """Delete all steps, so that the migration begins anew."""
        self._session.database.write(
            lambda connection: connection.execute(sa.delete(operation_tables.adobe_migration)) and None
        )
