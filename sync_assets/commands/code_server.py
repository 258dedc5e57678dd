"""`code-server`: start Dagster's code server behind the guard of `launching/code_server.py`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import dagster as dg

from sync_assets.config.environment import Settings
from sync_assets.config.loader import load_config
from sync_assets.errors import SyncAssetsError
from sync_assets.launching import servers
from sync_assets.launching.code_server import CodeServerGuard

MODULE = ("--module-name", "sync_assets.definitions")


def code_server(arguments: Sequence[str]) -> None:
    """Run the code server with the options of `dagster code-server start`. Does not return.

    It serves only once configuration and environment are valid, so that the health check of a platform means that, and
    a release that cannot work replaces none that works.

    Raises:
        SyncAssetsError: The configuration or the environment is not valid.
    """
    words = [*MODULE, *arguments]
    if "--help" in arguments:
        servers.run_code_server(words, lambda _: "Refused by sync_assets: this server only prints its help.")
    if not os.environ.get("DAGSTER_HOME"):
        raise SyncAssetsError(
            "DAGSTER_HOME is not set.", "Name the folder with the dagster.yaml of web server and daemon."
        )
    settings = Settings.from_environment(os.environ)
    load_config(settings.configuration())
    settings.d365()
    settings.campaign()
    settings.alerts()
    with dg.DagsterInstance.get() as instance:
        servers.run_code_server(words, CodeServerGuard(instance).refusal)
