"""Dagster resources for the external systems and the ledger, so that the UI shows which of them each asset uses.

Each resource holds the environment variables of its system; the UI shows their names, not their values. Clients are
made in `runtime/clients.py`. The definitions load without any variable set; a run that needs a missing one fails with
its name.
"""

# No `from __future__ import annotations`: Dagster reads the annotations of the fields at run time.

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Self

import dagster as dg

from sync_assets.config.installation import Installation
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.pkeys import ParentKeys


class System(dg.ConfigurableResource):
    """Address and credentials of a system. An empty field is read from its environment variable."""

    PREFIX: ClassVar[str] = ""
    """Prefix of the environment variables: with `D365_` the field `tenant_id` is read from D365_TENANT_ID."""

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Return the environment variable of each field."""
        return {field: cls.PREFIX + field.upper() for field in cls.model_fields}

    @classmethod
    def of_environment(cls, environment: Mapping[str, str], prefix: str) -> Self:
        """Build the resource with a `dg.EnvVar` for each variable that this process has as `environment` has it.

        The fields of other variables, those of a file, are empty: runs take them from `environment`, too (`bound`).
        prefix: Of the installation's variables in this process.
        """
        variables: dict[str, Any] = {
            field: dg.EnvVar(prefix + variable)
            for field, variable in cls.variables().items()
            if (value := os.environ.get(prefix + variable)) and value == environment.get(variable)
        }
        return cls(**variables)

    def environment(self) -> dict[str, str]:
        """Return the values of the non-empty fields, by environment variable."""
        return {variable: value for field, variable in self.variables().items() if (value := getattr(self, field))}


class Dynamics365(System):
    """Dynamics 365 (Dataverse): its URL, and the Microsoft Entra application to sign in with."""

    PREFIX = "D365_"
    url: str = ""
    authority: str = ""
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    client_certificate: str = ""
    client_certificate_password: str = ""
    federated_token_file: str = ""


class CampaignStandard(System):
    """Adobe Campaign Standard: its URL, and the Adobe IMS credentials to sign in with."""

    PREFIX = "CAMPAIGN_"
    url: str = ""
    ims_url: str = ""
    client_id: str = ""
    client_secret: str = ""
    scopes: str = ""


class CampaignSftp(System):
    """The SFTP server to which Campaign exports its opt-out files."""

    PREFIX = "CAMPAIGN_SFTP_"
    host: str = ""
    port: str = ""
    user: str = ""
    private_key: str = ""
    private_key_passphrase: str = ""
    host_key: str = ""


class LedgerDatabase(System):
    """The database of the ledger. Without a URL: SQLite in a folder below DAGSTER_HOME."""

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
"""Resources of the table assets and of their audits."""


def systems(environment: Mapping[str, str], installation: Installation | None = None) -> dict[str, System]:
    """Return all resources of an installation by name."""
    installation = installation or Installation()
    named, variables = installation.named, installation.variables
    return {named(name): system.of_environment(environment, variables) for name, system in _SYSTEMS.items()}


def resource_names(configuration: Configuration, names: Iterable[str]) -> set[str]:
    """Return the names of resources in the installation."""
    return {configuration.installation.named(name) for name in names}


@contextmanager
def bound(runtime: Runtime, resources: Any, names: Iterable[str]) -> Generator[Runtime]:
    """Yield a runtime that uses the values of a run's resources instead of the environment's, and close it.

    It is `runtime` itself if the resources have the same values.

    Args:
        runtime: The runtime of the definitions.
        resources: `context.resources` of the run.
        names: The resources that the caller declared as required.
    """
    values = {
        name: value
        for resource_name in resource_names(runtime, names)
        for name, value in getattr(resources, resource_name).environment().items()
    }
    if any(runtime.environment.get(name) != value for name, value in values.items()):
        runtime = replace(runtime, environment={**runtime.environment, **values}, parent_keys=ParentKeys())
    with closing(runtime):
        yield runtime
