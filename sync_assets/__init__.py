"""Dynamics 365 contacts and custom entities into Adobe Campaign Standard, as Dagster data assets.

component          `SyncComponent`, an installation as a component of Dagster
definitions        what Dagster loads: one instance of it, built by `defs`
cli                the program: main, and the commands that start Dagster
defs               every Dagster object
commands           the other commands, a module each; jobs call the same functions
flows              the two flows of a table: capture and push
capture, push      change feed to ledger; ledger to Campaign
opt_out, audit     opt-outs both ways; comparisons of Campaign with the ledger
mapping            rows to payloads, pure
checks             the registry of findings: rules of the set-up, what they find, what they stop
runtime            what the flows of a process share
ledger             desired state against acknowledged state: all that the program stores
dataverse, campaign, sftp             clients
http, config, errors, performance, foreign_text    below all of them
webserver          the guard before Dagster's web server
alerts, scaffold   incidents and notifications; a first configuration
sandbox            local systems for tests and demonstrations

Arrows point one way, see docs/dev/architecture.md; `.importlinter` checks it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTED = "SyncComponent"


def __getattr__(name: str) -> Any:
    """Import the component on first use, since the command line needs no Dagster."""
    if name != _EXPORTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("sync_assets.component").SyncComponent


def __dir__() -> list[str]:
    """Include the component: Dagster lists the components of a package by its names."""
    return [*globals(), _EXPORTED]
