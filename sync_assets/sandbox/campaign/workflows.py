"""Workflows in the API: status, queued commands, external signals (docs/dev/references/campaign.md 7)."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sync_assets.sandbox.campaign import errors
from sync_assets.sandbox.campaign.errors import CampaignError
from sync_assets.sandbox.campaign.store import Store
from sync_assets.sandbox.campaign.tokens import ACTIVITY
from sync_assets.sandbox.campaign.values import time_text

Status = Literal["edition", "started", "finished", "warning", "error"]
STATUSES: tuple[Status, ...] = ("edition", "started", "finished", "warning", "error")

EXPORT = "WKF12"
"""Id of the workflow that writes the opt-out file when it starts."""
IMPORT = "WKF13"
"""Id of a workflow that waits for a signal with the name of a file to load; it loads nothing."""

_EFFECT: dict[str, Status] = {"start": "started", "pause": "warning", "resume": "started", "stop": "finished"}
_ONLY_IN: dict[str, Status] = {"pause": "started", "resume": "warning"}
"""Status without which a command has no effect."""
_UNDER_WAY: tuple[Status, ...] = ("started", "warning")
_SIGNAL_LIMIT = 64 * 1024
_PARAMETER_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float, str),
    "boolean": (bool, str),
}


@dataclass
class Signal:
    """An "External signal" activity. `parameters`: declared parameters, name to type."""

    name: str
    number: int
    parameters: dict[str, str]
    triggered_at: float | None = None
    received: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Workflow:
    """One workflow."""

    id: str
    label: str
    number: int
    status: Status
    signals: dict[str, Signal] = field(default_factory=dict)
    queued: list[tuple[float, str]] = field(default_factory=list)
    """(time at which it takes effect, command)."""
    delay: float | None = None
    """Seconds until a command takes effect; None: as the settings say."""
    stuck: bool = False
    """True: no queued command takes effect."""
    run: object | None = None
    """The import that is in progress. None: there is none, or it was stopped."""


class Workflows:
    """All workflows of the instance."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on_start: dict[str, Callable[[], object]] = {}
        """Called when a workflow starts, by its id."""
        signal = Signal("signal1", 1, {"fileName": "string", "lines": "number", "full": "boolean"})
        self._all = [
            Workflow(EXPORT, "Export opt-outs", 1, "started"),
            Workflow(IMPORT, "Import file", 2, "started", {"signal1": signal}),
        ]

    def add(self, id_: str, label: str, start: Callable[[], object]) -> Workflow:
        """Add a workflow that has not run yet. `start` is called when it starts, unless a run is in progress."""
        workflow = Workflow(id_, label, len(self._all) + 1, "edition")
        self._all.append(workflow)
        self.on_start[id_] = start
        return workflow

    def find(self, name: str) -> Workflow:
        """Return a workflow by id or PKey, after its due commands. Raises CampaignError."""
        reference = self._store.tokens.read(name) if name.startswith("@") else None
        for workflow in self._all:
            is_activity = reference is not None and (reference.kind, reference.table) == (ACTIVITY, workflow.number)
            if workflow.id == name or is_activity:
                self.run_due_commands(workflow)
                return workflow
        raise errors.not_found("Workflow", "execution", name)

    def show(self, workflow: Workflow, base: str) -> dict[str, Any]:
        pkey = self._pkey(workflow)
        activities = {
            signal.name: {
                "label": signal.name,
                "name": signal.name,
                "parameters": {name: {"name": name, "type": kind} for name, kind in signal.parameters.items()},
                "trigger": {
                    "href": f"{base}/workflow/execution/{pkey}/activities/activity/"
                    f"{self._pkey(workflow, signal.number)}/trigger/"
                },
            }
            for signal in workflow.signals.values()
        }
        tomorrow = datetime.fromtimestamp(self._store.clock() + 86400, UTC)
        return {
            "PKey": pkey,
            "activities": {"activity": activities},
            "href": f"{base}/workflow/execution/{pkey}",
            "label": workflow.label,
            "logicalStatus": workflow.status,
            "name": workflow.id,
            "nextProcessingDate": time_text(tomorrow) if workflow.status == "started" else "",
        }

    def command(self, workflow: Workflow, body: Any) -> dict[str, Any]:
        """Queue start, pause, resume or stop, which takes effect after the workflow's delay. Raises CampaignError."""
        method = body.get("method") if isinstance(body, dict) else None
        if method not in _EFFECT:
            raise errors.bad_enumeration_value(method, "xtk:workflow", "method")
        delay = self._store.settings.workflow_delay_ms / 1000 if workflow.delay is None else workflow.delay
        insort(workflow.queued, (self._store.clock() + delay, method), key=lambda queued: queued[0])
        self.run_due_commands(workflow)
        if workflow.queued:
            asyncio.get_running_loop().call_later(delay + 0.01, self.run_due_commands, workflow)
        return {}

    def trigger(self, workflow: Workflow, activity: str, body: bytes, document: Any) -> dict[str, Any]:
        """Trigger a signal. Raises CampaignError, also within `signal_interval_s` of the last one (text inferred)."""
        reference = self._store.tokens.read(activity)
        number = (reference.number % 1000) if reference is not None else 0
        signal = next((signal for signal in workflow.signals.values() if number in (0, signal.number)), None)
        if signal is None or (number == 0 and activity != signal.name):
            raise errors.not_found("Activity", "signal", activity)
        if len(body) > _SIGNAL_LIMIT:
            raise CampaignError(500, errors.RST, "The payload of a signal is limited to 64 kB.")
        if not isinstance(document, dict) or not isinstance(document.get("source"), str) or not document["source"]:
            raise CampaignError(500, errors.RST, "'source' parameter is mandatory.")
        parameters = document.get("parameters") or {}
        for name, value in parameters.items():
            declared = signal.parameters.get(name)
            if declared is None or not isinstance(value, _PARAMETER_TYPES.get(declared, str)):
                raise _bad_signal(f"'{name}' parameter isn't defined in signal activity.")
        if workflow.status != "started":
            raise _bad_signal(f"The workflow '{workflow.id}' is not running.")
        now = self._store.clock()
        if signal.triggered_at is not None and now - signal.triggered_at < self._store.settings.signal_interval_s:
            raise _bad_signal("The signal was triggered less than 10 minutes ago.")
        signal.triggered_at = now
        signal.received.append(document)
        return {}

    def set_status(self, workflow: Workflow, status: Status) -> None:
        """Set a status, as an event inside Campaign would, such as an error that stopped the workflow."""
        workflow.queued.clear()
        workflow.status = status
        if status not in _UNDER_WAY:
            workflow.run = None

    def run_due_commands(self, workflow: Workflow) -> None:
        """Execute the queued commands that are due. `start` resumes a run that is paused, and starts no second one."""
        now = self._store.clock()
        while not workflow.stuck and workflow.queued and workflow.queued[0][0] <= now:
            _, method = workflow.queued.pop(0)
            if method in _ONLY_IN and workflow.status != _ONLY_IN[method]:
                continue
            workflow.status = _EFFECT[method]
            if method == "stop":
                workflow.run = None
            elif method == "start" and workflow.run is None and (work := self.on_start.get(workflow.id)) is not None:
                work()

    def _pkey(self, workflow: Workflow, activity: int = 0) -> str:
        return self._store.tokens.make(ACTIVITY, workflow.number, activity)


def _bad_signal(reason: str) -> CampaignError:
    return CampaignError(
        500,
        errors.RST,
        reason,
        "XTK-170006 Unable to parse expression 'HandleTrigger(@name, $(source), $({parameters}))'.",
        "RST-360000 Error while assessing 'HandleTrigger(@name, $(source), $({parameters}))' expression "
        "('xtk:workflow:execution/activities/signal/trigger' resource)",
    )
