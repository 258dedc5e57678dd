"""Dagster's resources: the systems that the assets work with, so that the UI shows which of them each asset uses.

Thin: each carries the variables of its system, of which the UI shows the names. Clients are made by
`context.py`. The definitions load without any variable; a run that needs one names it.
"""

# No `from __future__ import annotations`: Dagster reads the types of the fields itself.

import os
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import dagster as dg

from sync_assets.runtime.context import Runtime


class System(dg.ConfigurableResource):
    """A system and how to sign in to it. An empty field: the environment decides."""

    PREFIX: ClassVar[str] = ""
    """What the environment variable of a field begins with: `tenant_id` of D365_ is D365_TENANT_ID."""

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Field -> environment variable."""
        return {field: cls.PREFIX + field.upper() for field in cls.model_fields}

    @classmethod
    def of_environment(cls) -> Self:
        """The system with a reference to each of its variables that is set."""
        found: dict[str, Any] = {
            field: dg.EnvVar(variable) for field, variable in cls.variables().items() if os.environ.get(variable)
        }
        return cls(**found)

    def environment(self) -> dict[str, str]:
        """The variables with the values of the fields that are filled."""
        return {variable: value for field, variable in self.variables().items() if (value := getattr(self, field))}


class Dynamics365(System):
    """Dynamics 365 (Dataverse), and Microsoft's sign-in."""

    PREFIX = "D365_"
    url: str = ""
    authority: str = ""
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = ""


class CampaignStandard(System):
    """Adobe Campaign Standard, and Adobe's sign-in."""

    PREFIX = "CAMPAIGN_"
    url: str = ""
    ims_url: str = ""
    client_id: str = ""
    client_secret: str = ""
    scopes: str = ""


class CampaignSftp(System):
    """The SFTP server of Campaign, on which its opt-out files lie."""

    PREFIX = "CAMPAIGN_SFTP_"
    host: str = ""
    port: str = ""
    user: str = ""
    private_key: str = ""
    host_key: str = ""


class LedgerDatabase(System):
    """The database of the ledger: SQLite below DAGSTER_HOME while no URL is set."""

    PREFIX = "SYNC_ASSETS_LEDGER_"
    url: str = ""


DYNAMICS_365, CAMPAIGN, SFTP, LEDGER = "dynamics_365", "campaign_standard", "campaign_sftp", "ledger"
_SYSTEMS: dict[str, type[System]] = {
    DYNAMICS_365: Dynamics365,
    CAMPAIGN: CampaignStandard,
    SFTP: CampaignSftp,
    LEDGER: LedgerDatabase,
}
OF_TABLES = {DYNAMICS_365, CAMPAIGN, LEDGER}
"""What the assets of tables and their audits use."""


def systems() -> dict[str, System]:
    """The resources by name."""
    return {name: system.of_environment() for name, system in _SYSTEMS.items()}


def bound(runtime: Runtime, resources: Any, names: Iterable[str]) -> Runtime:
    """The runtime with the variables of the resources that a run was given; itself if they say the same."""
    wanted = {name: value for one in names for name, value in getattr(resources, one).environment().items()}
    if all(runtime.environment.get(name) == value for name, value in wanted.items()):
        return runtime
    return Runtime({**runtime.environment, **wanted}, progress=runtime.progress)
