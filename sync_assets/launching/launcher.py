"""For a `dagster.yaml` of an earlier version, which names a launcher of ours: it is Dagster's own, with a note."""

from __future__ import annotations

import logging
from typing import Any

import dagster as dg

_log = logging.getLogger(__name__)


class WarmRunLauncher(dg.DefaultRunLauncher):
    """Starts runs as Dagster does: a run stays while changes come, so that no process is started for each."""

    def __init__(self, inst_data: Any = None) -> None:
        super().__init__(inst_data)
        _log.warning("dagster.yaml names a run launcher of an earlier version; `run_launcher` can be taken out.")
