"""How this Campaign was found to behave: one finding for each resource and premise, kept until it is contradicted.

Here: remembering. What a premise means and how it is found out belongs to the callers (`address: auto`, `unique: auto`,
`style: auto` in the configuration).
"""

from collections.abc import Mapping

import sqlalchemy as sa

from sync_assets.ledger.repositories.base import Repository
from sync_assets.ledger.storage import schema

_D = schema.dialect.c


class DialectFindings(Repository):
    def dialect(self, resource: str) -> dict[str, str]:
        """What was found out about a resource: premise -> finding."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(_D.premise, _D.found).where(_D.resource == resource))
            return {row.premise: row.found for row in rows}

    def note_dialect(self, resource: str, found: Mapping[str, str]) -> None:
        """Remember findings of a resource, in place of earlier ones of the same premises."""

        def work(connection: sa.Connection) -> None:
            now = self._now()
            rows = [
                {"resource": resource, "premise": premise, "found": finding, "found_at": now}
                for premise, finding in sorted(found.items())
            ]
            if rows:
                new = self._upsert(schema.dialect).values(rows)
                changes = {"found": new.excluded.found, "found_at": new.excluded.found_at}
                connection.execute(new.on_conflict_do_update(index_elements=["resource", "premise"], set_=changes))

        self._database.write(work)

    def forget_dialect(self, resource: str, *premises: str) -> None:
        """Forget findings of a resource, all of them without `premises`: they are found out again."""
        forgotten = sa.delete(schema.dialect).where(_D.resource == resource)
        if premises:
            forgotten = forgotten.where(_D.premise.in_(premises))
        self._database.write(lambda connection: connection.execute(forgotten) and None)
