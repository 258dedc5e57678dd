"""Settings of the processes of our own servers and of the runs that these start: logs, memory, a mend of Dagster.

Our entry points set OWN in the environment, which child processes inherit; `definitions.py` then calls `configure`.
Loading the definitions in any other process changes nothing there: it may hold other people's assets.
"""

import os

from sync_assets import logs
from sync_assets.config.files import complete
from sync_assets.launching.dagster_patches import find_migrations_by_path
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
