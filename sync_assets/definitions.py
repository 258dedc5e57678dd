"""The entry point of Dagster: the definitions of the configuration that `config/files.py` finds (`defs/build.py`).

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
        from sync_assets.config.files import complete  # noqa: PLC0415 - here, since every run waits for these modules
        from sync_assets.defs.build import build_definitions  # noqa: PLC0415
        from sync_assets.launching.processes import OWN, configure  # noqa: PLC0415
        from sync_assets.runtime.context import Runtime  # noqa: PLC0415

        environment = dict(os.environ)
        complete(environment)
        if environment.get(OWN):
            configure(environment)
        return build_definitions(Runtime(environment))
