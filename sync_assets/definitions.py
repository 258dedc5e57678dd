"""The entry point of Dagster: the definitions of the configuration that the environment names (`defs/build.py`).

Importing this module changes nothing in the process; Dagster calls `defs` in each process of the code location.
"""

from __future__ import annotations

import os

import dagster as dg

from sync_assets.performance import collector_paused, return_large_buffers


@dg.definitions
def defs() -> dg.Definitions:
    return_large_buffers()
    with collector_paused():
        from sync_assets.defs.build import load  # noqa: PLC0415 - here, since every run waits for these modules

        return load(os.environ)
