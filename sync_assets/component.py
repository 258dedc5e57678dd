"""The Dagster component: an installation as a line of YAML in a project of Dagster's. Any number may stand in one."""

# No `from __future__ import annotations`: Dagster reads the annotations of the fields at run time.

import os
import re
from datetime import UTC, datetime
from typing import Annotated, Literal

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from dagster.components.utils.translation import ResolvedTranslationFn
from pydantic import Field

from sync_assets.config.files import DEFAULT_NAME, DEFS, PREFIX, complete, components_in
from sync_assets.config.installation import Installation, prefix_of_keys
from sync_assets.errors import SyncAssetsError

FIRST_CONFIGURATION = """\
# `sync-assets init` writes a whole file; sync_assets/docs/configuration.md has all options.
# Privacy requests are your task, in both systems: set this to true once that is agreed.
privacy_acknowledged: true
tables:
  - table: contact
    resource: profile
    key: externalId
    fields: {firstname: firstName, lastname: lastName, emailaddress1: email}
"""
LOCAL_FILES = """\
# The ledger has personal data while records are pending; the other files are of this machine.
/.dagster/
/.sync_assets.yaml.*
!/.sync_assets.yaml.types
"""
Prefix = Annotated[str, Field(pattern=f"^{PREFIX}$")]


class SyncScaffolder(dg.Scaffolder):
    """Writes `defs.yaml`, whose installation is named after its folder, a first configuration and `.gitignore`."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        name = re.sub("[^A-Za-z0-9]", "_", request.target_path.name)
        name = name if name[0].isalpha() else f"sync_{name}"
        scaffold_component(request, {"name": name, "environment_prefix": f"{name.upper()}_"})
        (request.target_path / ".gitignore").write_text(LOCAL_FILES, "utf-8")
        configuration = request.target_path / DEFAULT_NAME
        if not configuration.exists():
            runs = f"runs: {{start_date: {datetime.now(UTC).date()}}} # the first partition\n"
            configuration.write_text(FIRST_CONFIGURATION + runs, "utf-8")


@dg.scaffold_with(SyncScaffolder)
class SyncComponent(dg.Component, dg.Model, dg.Resolvable):
    """Synchronises Dynamics 365 with Adobe Campaign Standard.

    Each installation in a code location has its own `name`.
    """

    configuration: Annotated[
        str, Field(description="Path of the configuration file, relative to the folder of this file.")
    ] = DEFAULT_NAME
    environment_file: Annotated[
        str | None, Field(description="Path of a file of variables, relative to the folder of this file.")
    ] = None
    environment_prefix: Annotated[
        Prefix, Field(description="Prefix of the variables: with `STAGE_`, `D365_URL` is read from `STAGE_D365_URL`.")
    ] = ""
    name: Annotated[
        Prefix, Field(description="Prefix of the names of jobs, sensors, resources, groups; and of asset keys.")
    ] = ""
    key_prefix: Annotated[str | list[str] | None, Field(description="Prefix of asset keys in place of `name`.")] = None
    groups: dict[Literal["d365", "campaign", "opt_out", "audit", "report"], str] = Field(
        default={}, description="Other names for the groups of the documentation."
    )
    owners: list[str] = Field(default=[], description="Owners of all assets, as in `team:crm`.")
    tags: dict[str, str] = Field(default={}, description="Tags of all assets.")
    schedules: dict[str, str | Literal[False]] = Field(
        default={}, description="By job, such as `audit`: a cron expression in place of ours, or `off` for no schedule."
    )
    translation: Annotated[
        ResolvedTranslationFn[dg.AssetSpec],
        Field(description="Further attributes of the assets, as in Dagster's components; `{{ spec }}` is the asset."),
    ] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the definitions.

        Raises SyncAssetsError if `defs.yaml` names a file that does not exist, or has the name of another one.
        """
        here = context.path if context.path.is_dir() else context.path.parent
        configuration, variables = here / self.configuration, here / (self.environment_file or "")
        for attribute, path in {"configuration": configuration, "environment_file": variables}.items():
            if not path.exists():
                raise SyncAssetsError(
                    f"{here / DEFS}: `{attribute}` names {path}, which does not exist.", "Correct the path."
                )
        files = sorted(context.defs_module_path.rglob(DEFS))
        others = [(file, Installation.of(attributes)) for file in files for attributes in components_in(file)]
        for attribute in ("name", "key_prefix"):
            own = getattr(self._installation, attribute)
            same = [str(file) for file, other in others if getattr(other, attribute) == own]
            if len(same) > 1:
                raise SyncAssetsError(
                    f"{' and '.join(same)} have installations with the same `{attribute}`.", "Give each its own."
                )
        return self.definitions(str(configuration), str(variables) if self.environment_file else "")

    def definitions(self, configuration: str = "", environment_file: str = "") -> dg.Definitions:
        """Build the definitions of a configuration. Both paths: as of `config.files.complete`."""
        from sync_assets.defs.build import build_definitions  # noqa: PLC0415 - Dagster lists components without these
        from sync_assets.runtime.context import Runtime  # noqa: PLC0415

        environment = dict(os.environ)
        complete(environment, config=configuration, env_file=environment_file, prefix=self.environment_prefix)
        return build_definitions(Runtime(environment, installation=self._installation))

    @property
    def _installation(self) -> Installation:
        return Installation(
            name=self.name,
            key_prefix=prefix_of_keys(self.name, self.key_prefix),
            variables=self.environment_prefix,
            groups={**self.groups},
            schedules={job: cron or "" for job, cron in self.schedules.items()},
            translate=self._translated,
        )

    def _translated(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Return an asset with owners, tags and translation. Raises SyncAssetsError if its runs would fail."""
        owners = list(dict.fromkeys([*spec.owners, *self.owners]))
        ours = spec.replace_attributes(owners=owners, tags={**spec.tags, **self.tags})
        translated = self.translation(ours, ours) if self.translation else ours
        if (translated.key, translated.partitions_def) != (spec.key, spec.partitions_def):
            name = spec.key.to_user_string()
            raise SyncAssetsError(
                f"translation: changes the key or the partitions of {name}.", "Set `key_prefix` instead."
            )
        return translated
