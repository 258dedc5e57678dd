"""The workflows of an instance that import files from the SFTP: Transfer file, Load file, Reconciliation, Update data
(docs/dev/references/campaign.md 8).

Their life cycle and commands: `workflows.py`. What a run does: `import_run.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.campaign.imports.import_run import WAIT, Import, ImportWorkflow, Run, Steps
from sync_assets.sandbox.campaign.settings import BadSettings
from sync_assets.sandbox.campaign.workflows import Status

_RESOURCES = {"contact": "profile", "new_order": "cusOrder", "new_orderline": "cusOrderLine", "account": "cusStore"}


class Imports:
    """All import workflows of an instance.

    Args:
        campaign: The instance.
        root: Of the SFTP server. The copies that activities keep are in the folder `workflows` beside it.
        record: Called at the beginning and the end of a run with its path and counts, status and milliseconds.
    """

    def __init__(
        self, campaign: Campaign, root: Path, record: Callable[[str, Status, float], object] = lambda *_: None
    ) -> None:
        self._campaign = campaign
        self._root = root
        self._record = record
        self._imports: dict[str, Import] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        for mode, first in (("insert", 20), ("update", 30)):
            for number, (table, resource) in enumerate(_RESOURCES.items(), first):
                self.configure({"id": f"WKF{number}", "resource": resource, "pattern": f"{table}_*.tsv*", "mode": mode})

    def shown(self) -> dict[str, Any]:
        """Return settings, status, queued commands, runs and copies of each workflow, by id."""
        return {id_: self._shown(imported) for id_, imported in self._imports.items()}

    def configure(self, values: dict[str, Any]) -> dict[str, Any]:
        """Create a workflow, or change some settings of one. Return what `shown` shows of it. Raises BadSettings."""
        known = self._imports.get(values.get("id", ""))
        former = msgspec.to_builtins(known.settings) if known else {}
        try:
            settings = msgspec.convert({**former, **values}, ImportWorkflow)
        except msgspec.ValidationError as error:
            raise BadSettings(str(error)) from None
        if settings.resource not in self._campaign.tables:
            raise BadSettings(f"there is no resource {settings.resource!r}; one of: {', '.join(self._campaign.tables)}")
        if not (0 <= settings.at <= 1 and 0 <= settings.read_share <= 1):
            raise BadSettings("`at` and `read_share` are numbers from 0 to 1")
        if known is None:
            id_, label = settings.id, f"Import {settings.pattern}, {settings.mode} only"
            workflow = self._campaign.workflows.add(id_, label, partial(self.run, id_))
            known = self._imports[id_] = Import(settings, workflow)
        known.settings = settings
        known.workflow.delay = settings.queue_seconds
        known.workflow.stuck = settings.trouble == "never_starts"
        self._campaign.workflows.run_due_commands(known.workflow)
        return self._shown(known)

    def run(self, id_: str, repeat: int | None = None) -> None:
        """Begin a run. Raises BadSettings if it cannot begin.

        Args:
            id_: Of the workflow.
            repeat: Number of an earlier run: its copies are imported again, without its troubles.
        """
        imported = self._imports.get(id_)
        if imported is None:
            raise BadSettings(f"there is no import workflow {id_!r}; one of: {', '.join(self._imports)}")
        if imported.workflow.run is not None:
            raise BadSettings(f"a run of {id_} is in progress; stop it first")
        if repeat is not None and not 1 <= repeat <= len(imported.runs):
            raise BadSettings(f"{id_} has no run {repeat}; its runs are numbered from 1 to {len(imported.runs)}")
        steps = Steps(self._campaign, imported, imported.runs[repeat - 1] if repeat else None)
        imported.runs.append(steps.run)
        imported.workflow.run, imported.workflow.status = steps.run, "started"
        self._record(_summary(id_, steps.run), "started", 0.0)
        began = time.perf_counter()
        if steps.settings.trouble == "unseen":
            for _ in steps.all(self._root):
                pass
            self._end(imported, steps.run, began)
        else:
            task = asyncio.get_running_loop().create_task(self._drive(imported, steps, began))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _drive(self, imported: Import, steps: Steps, began: float) -> None:
        try:
            for seconds in steps.all(self._root):
                await asyncio.sleep(seconds)
        finally:
            self._end(imported, steps.run, began)
        if steps.settings.repeat_after_seconds is not None:
            await asyncio.sleep(steps.settings.repeat_after_seconds)
            while imported.workflow.run is not None:
                await asyncio.sleep(WAIT)
            self.run(imported.settings.id, steps.run.number)

    def _end(self, imported: Import, run: Run, began: float) -> None:
        run.ended = self._campaign.now()
        run.status = run.status or "error"
        if imported.workflow.run is run:
            imported.workflow.run, imported.workflow.status = None, run.status
        self._record(_summary(imported.settings.id, run), run.status, (time.perf_counter() - began) * 1000)

    def _shown(self, imported: Import) -> dict[str, Any]:
        workflow, now = imported.workflow, self._campaign.clock()
        return {
            **msgspec.to_builtins(imported.settings),
            "status": workflow.status,
            "queued": [method for _, method in workflow.queued],
            "runs": msgspec.to_builtins(imported.runs),
            "copies": [
                {"name": copy.name, "bytes": copy.bytes, "hours": (now - copy.created) / 3600}
                for copy in imported.copies
            ],
        }


_COUNTS = ("rows", "read", "inserted", "updated", "equal", "existing", "unknown", "rejected", "unlinked")


def _summary(id_: str, run: Run) -> str:
    """Return the path of a workflow with the counts of a run, for the journal."""
    counts = {name: getattr(run, name) for name in _COUNTS}
    query = {"run": run.number, **({"repeats": run.repeats} if run.repeats else {}), "files": len(run.files), **counts}
    return f"/workflow/execution/{id_}?{urlencode(query)}"
