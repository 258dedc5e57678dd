"""Settings of the processes of our own servers and of the runs that these start: logs, memory, two mends of Dagster.

Our entry points set OWN in the environment, which child processes inherit; `definitions.py` then calls `configure`.
Loading the definitions in any other process changes nothing there: it may hold other people's assets.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from sync_assets import logs
from sync_assets.config.files import complete
from sync_assets.performance import return_large_buffers

OWN = "SYNC_ASSETS_OWN_PROCESS"
"""The variable that marks our own processes. The image sets it, too, since its runs may be started by a platform."""


def mark_as_own() -> None:
    """Mark this process and those that it starts as our own."""
    os.environ[OWN] = "1"


def configure() -> None:
    """Set what a process of our own needs. Raises LogSettingsError."""
    environment = dict(os.environ)
    complete(environment)
    logs.configure(environment)
    return_large_buffers()
    find_migrations_by_path()
    detach_copies_of_output()


def find_migrations_by_path() -> None:
    """Let Dagster find the migrations of its SQLite databases by a path, so that the ticks of sensors leave nothing.

    Each tick opens the instance, and Alembic is asked for the newest migration of its two or three databases. Asked
    for a package's folder, it registers a function for the end of the process (`coerce_resource_to_filename`).

    Reason: no setting of Dagster names the folder.
    """
    storage: Any = sys.modules.get("dagster._core.storage.sql")  # in a code server it is loaded before the definitions
    if storage:
        folder = str(Path(dg.__file__).parent / "_core" / "storage" / "alembic")
        storage.ALEMBIC_SCRIPTS_LOCATION = folder.replace("%", "%%")  # in Alembic's settings, % begins a variable
        storage.get_alembic_config.cache_clear()


def detach_copies_of_output() -> None:
    """Start the processes that copy a run's output to the terminal in sessions of their own.

    Ctrl-C in the terminal would reach them, too, and each would print a traceback. They end with the run, or once this
    process is gone.

    Reason: no setting of Dagster does that.
    """
    from dagster._core.execution import compute_logs  # noqa: PLC0415

    detached = SimpleNamespace(Popen=partial(subprocess.Popen, start_new_session=True))
    setattr(compute_logs, "subprocess", detached)  # noqa: B010
