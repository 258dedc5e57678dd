"""The Dagster component: an installation as a line of YAML in a project of Dagster's. Any number may stand in one."""

# No `from __future__ import annotations`: Dagster reads the annotations of the fields at run time.

import os
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from dagster.components.utils.translation import ResolvedTranslationFn
from pydantic import AfterValidator, BaseModel, Field

from sync_assets.config.files import COMPONENT, DEFAULT_NAME, DEFS, PREFIX, complete, components_in
from sync_assets.config.installation import Installation, prefix_of_keys
from sync_assets.config.values import CONTACT, PROFILE
from sync_assets.config.variables import NEEDED
from sync_assets.errors import SyncAssetsError

FIRST_CONFIGURATION = """\
# Begun by `dg scaffold`. In this folder, with the variables of `dg list envs` set, the next line writes it anew from
# the metadata of both systems. sync_assets/docs/configuration.md has all options.
#     sync-assets init --force --config sync_assets.yaml --table {tables}
# Privacy requests (access, erasure) are your task, in both systems: this program neither sees nor forwards them.
# Nothing loads before you set this to true: do so once that is arranged.
privacy_acknowledged: false
runs: {{start_date: {day}}} # the first partition
tables:
"""
TABLE_ENTRY = """\
  - table: {}
    resource: {}
    key: {}
    fields: {{{}}} # column: attribute
"""
REQUIREMENTS = """
# What `dg list envs` shows. `NAME_FILE` may take the place of a secret, `{0}D365_CLIENT_CERTIFICATE` or
# `{0}D365_FEDERATED_TOKEN_FILE` that of `{0}D365_CLIENT_SECRET`.
requirements:
  env:
"""
LOCAL_FILES = """\
# The ledger has personal data while records are pending; the other files are of this machine.
/.dagster/
/.sync_assets.yaml.*
!/.sync_assets.yaml.types
"""
Prefix = Annotated[str, Field(pattern=rf"^({PREFIX}|.*\{{\{{.*\}}\}}.*)$")]
"""A template is evaluated before the component is made, and its value matched again."""
CONTACT_ENTRY = (CONTACT, PROFILE, "externalId", "firstname: firstName, lastname: lastName, emailaddress1: email")
OTHER_TABLE = re.compile(r"(\w+)=(\w+):(\w+)", re.ASCII)


def _checked(table: str) -> str:
    if table != CONTACT and not OTHER_TABLE.fullmatch(table):
        raise ValueError(f"`{table}` names no resource and key. Write it as in new_order=cusOrder:cusOrderId.")
    return table


class ScaffoldParameters(BaseModel):
    """The options of `dg scaffold defs sync_assets.SyncComponent`."""

    table: list[Annotated[str, AfterValidator(_checked)]] = [CONTACT]
    prefix: Annotated[str, Field(pattern=f"^{PREFIX}$")] | None = None


class SyncScaffolder(dg.Scaffolder[ScaffoldParameters]):
    """Writes `defs.yaml`, whose installation is named after its folder, a first configuration and `.gitignore`."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParameters]:
        return ScaffoldParameters

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParameters]) -> None:
        name = re.sub("[^A-Za-z0-9]", "_", request.target_path.name)
        name = name if name[0].isalpha() else f"sync_{name}"
        prefix = f"{name.upper()}_" if request.params.prefix is None else request.params.prefix
        scaffold_component(request, {"name": name, "environment_prefix": prefix})
        if request.scaffold_format == "yaml":
            with (request.target_path / DEFS).open("a", encoding="utf-8") as file:
                file.write(REQUIREMENTS.format(prefix) + "".join(f"    - {prefix}{needed}\n" for needed in NEEDED))
        (request.target_path / ".gitignore").write_text(LOCAL_FILES, "utf-8")
        configuration = request.target_path / DEFAULT_NAME
        if not configuration.exists():
            configuration.write_text(first_configuration(*request.params.table), "utf-8")


def first_configuration(*tables: str) -> str:
    """Return a configuration that a person must complete. tables: `contact`, or new_order=cusOrder:cusOrderId."""
    text = FIRST_CONFIGURATION.format(tables=" --table ".join(tables), day=datetime.now(UTC).date())
    for table in tables:
        other = OTHER_TABLE.fullmatch(table)
        text += TABLE_ENTRY.format(*(*other.groups(), "") if other else CONTACT_ENTRY)
    return text


@dg.scaffold_with(SyncScaffolder)
class SyncComponent(dg.Component, dg.Model, dg.Resolvable):
    """Synchronises Dynamics 365 with Adobe Campaign Standard.

    Each installation in a code location has its own `name`. Options of `dg scaffold`, whose help names none: `--table
    contact` or `--table new_order=cusOrder:cusOrderId`, any number; `--prefix CRM_`, of the environment variables.
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
    groups: dict[Literal["d365", "campaign", "opt_out", "audit", "report", "results"], str] = Field(
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

    def get_asset_spec(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Return an asset with owners, tags and translation. A subclass may override this.

        spec: as documented. Its key and partitions must stay; the key's last part names the table or the resource.
        """
        owners = list(dict.fromkeys([*spec.owners, *self.owners]))
        ours = spec.replace_attributes(owners=owners, tags={**spec.tags, **self.tags})
        return self.translation(ours, ours) if self.translation else ours

    def _translated(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Return an asset as its subclass has it. Raises SyncAssetsError if its runs would fail."""
        translated = self.get_asset_spec(spec)
        if (translated.key, translated.partitions_def) != (spec.key, spec.partitions_def):
            name = spec.key.to_user_string()
            raise SyncAssetsError(
                f"`translation` or `get_asset_spec` changes the key or the partitions of {name}.",
                "Set `key_prefix` instead.",
            )
        return translated

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__name__.endswith(COMPONENT):
            text = f"{cls.__name__} is a subclass of {COMPONENT}, and commands find only names that end so."
            raise SyncAssetsError(text, f"Rename it, as in `{cls.__name__.removesuffix('Component')}{COMPONENT}`.")
