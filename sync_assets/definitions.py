"""The entry point of Dagster: one instance of `SyncComponent`, of the configuration that `config/files.py` finds.

Importing this module and calling `defs` change nothing in the process, except in processes of our own servers
(`launching/processes.py`). Addresses and secrets are read by the runs.
"""

from __future__ import annotations

import os

import dagster as dg

from sync_assets.performance import collector_paused


@dg.definitions
def defs() -> dg.Definitions:
    with collector_paused(os.environ.get("SYNC_ASSETS_OWN_PROCESS")):
        from sync_assets.component import SyncComponent  # noqa: PLC0415 - here, since every run waits for these modules

        if os.environ.get("SYNC_ASSETS_OWN_PROCESS"):
            from sync_assets.launching.processes import configure  # noqa: PLC0415

            configure()
        return SyncComponent().definitions()
