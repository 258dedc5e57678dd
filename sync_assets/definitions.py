"""The entry point of Dagster: the definitions of the configuration that `config/files.py` finds (`defs/build.py`).

Importing this module changes nothing in the process; Dagster calls `defs` in each process of the code location, where
it adds the configuration's path and the variables of its `.env` to the environment: resources read them from there.
"""

from __future__ import annotations

import os

import dagster as dg

from sync_assets.performance import collector_paused, return_large_buffers


@dg.definitions
def defs() -> dg.Definitions:
    return_large_buffers()
    with collector_paused():
        from sync_assets.config.files import complete  # noqa: PLC0415 - here, since every run waits for these modules
        from sync_assets.defs.build import load  # noqa: PLC0415

        complete(os.environ)
        return load(os.environ)
