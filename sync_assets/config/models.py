"""The configuration file as typed, frozen values: which table goes where, how, and within which limits.

Here: the shape of the file and its defaults (docs/configuration.md), and the tables as the flows see them. Not here:
what one value alone may be (`values.py`), opt-outs (`opt_out.py`), reading the file and naming its lines (`loader.py`),
rules that need several places of the file (`cross_checks.py`), addresses and secrets (`environment.py`: they come from
the environment only).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from sync_assets.config.alerts import Alerts
from sync_assets.config.log_export import Logs
from sync_assets.config.opt_out import Export, OptOut, OptOutMapping, Storage
from sync_assets.config.runs import Runs
from sync_assets.config.values import (
    OPT_OUT_ATTRIBUTES,
    AttributeName,
    Count,
    LogicalName,
    Model,
    Owner,
    ResourceName,
    Scalar,
    Share,
    Text,
    canonical_attribute,
    is_plain,
    plain,
    plain_list,
    refused,
    short_form,
)

__all__ = [
    "OPT_OUT_ATTRIBUTES",
    "AddressFilter",
    "Config",
    "Export",
    "FieldMapping",
    "FilterRule",
    "Filters",
    "Guardrails",
    "Link",
    "Logs",
    "Operator",
    "OptOut",
    "OptOutMapping",
    "Owners",
    "Replacements",
    "Runs",
    "Scalar",
    "Storage",
    "TableConfig",
    "canonical_attribute",
]

CONTACT = "contact"

Operator = Literal[
    "eq", "ne", "lt", "le", "gt", "ge", "in", "not_in",
    "contains", "starts_with", "ends_with", "is_null", "not_null",
]  # fmt: skip
_LISTS = ("in", "not_in")
_TEXTS = ("contains", "starts_with", "ends_with")
_WITHOUT_VALUE = ("is_null", "not_null")


class FieldMapping(Model):
    """Where one D365 column goes. `apply_updates` false: sent on first load and replay only."""

    to: AttributeName
    apply_updates: bool = True
    truncate: bool = False


class AddressFilter(Model):
    """The published Campaign filter by which a record's address is looked up, and its parameter."""

    name: Text
    parameter: Text


class FilterRule(Model):
    """One comparison of a D365 column (mapped or not) with `value`."""

    field: LogicalName
    operator: Operator = Field(alias="is")
    value: Any = None

    @model_validator(mode="after")
    def _value_fits_operator(self) -> Self:
        operator, value = self.operator, self.value
        if operator in _WITHOUT_VALUE:
            if "value" in self.model_fields_set:
                raise refused(f"`is: {operator}` compares with nothing", "remove `value`")
        elif operator in _LISTS:
            values = plain_list(value)
            if values is None:
                raise refused(f"`is: {operator}` needs a list of values", "write `value: [1, 2]`")
            if None in values or "" in values:  # an empty text is stored as null (docs/references/dataverse.md 2.4)
                what = "null" if None in values else "an empty text, which is null in Dynamics 365"
                raise refused(f"`is: {operator}` cannot look for {what}", "use a rule with `is: is_null` or `not_null`")
        elif "value" not in self.model_fields_set:
            raise refused(f"`is: {operator}` needs a `value`", f"write `value:` beside `is: {operator}`")
        elif value is None or (value == "" and operator not in _TEXTS):
            null_rule = "not_null" if operator == "ne" else "is_null"
            what = "null" if value is None else "an empty text, which is null in Dynamics 365"
            raise refused(f"`is: {operator}` cannot compare with {what}", f"write `is: {null_rule}` without a value")
        elif not is_plain(value):
            raise refused(f"`is: {operator}` compares with one value", "write one value, or use `is: in` with a list")
        elif operator in _TEXTS and (isinstance(value, bool | float) or value == ""):
            raise refused(f"`is: {operator}` needs a text", 'write `value: "..."`')
        elif operator in ("lt", "le", "gt", "ge") and isinstance(value, bool):
            raise refused(f"`is: {operator}` needs something that has an order", "use `is: eq` for true and false")
        return self


class Filters(Model):
    """Which rows are sent at all. `delete_filtered_out`: those that no longer pass are deleted in Campaign."""

    match: Literal["all", "any"] = "all"
    rules: Annotated[tuple[FilterRule, ...], Field(strict=False, min_length=1)]
    delete_filtered_out: bool = False


class Link(Model):
    """A D365 lookup that becomes a Campaign link, or (`style: join`) a plain attribute holding the parent's key.

    key: the link carries the parent's key; pkey: the parent's own PKey, looked up; auto: found out at run time."""

    field: LogicalName
    to: AttributeName
    table: LogicalName
    style: Literal["auto", "key", "pkey", "join"] = "auto"
    cardinality: Literal["one", "zero_or_one"] = "one"


Replacements = dict[Any, Annotated[Any, AfterValidator(plain)]]
"""D365 value (a column's value, or an option's code or label; None: no value) -> Campaign value; both `Scalar`."""


class TableConfig(Model):
    """One D365 table and the Campaign resource that it feeds."""

    table: LogicalName
    resource: ResourceName
    key: AttributeName
    api: Literal["profileAndServicesExt", "customResources"] = "profileAndServicesExt"
    address: Literal["auto", "url", "filter"] = "auto"
    filter: AddressFilter | None = None
    unique: Literal["auto"] | bool = "auto"
    fields: dict[
        LogicalName,
        Annotated[FieldMapping, BeforeValidator(short_form, json_schema_input_type=AttributeName | FieldMapping)],
    ] = Field(default_factory=dict[str, FieldMapping])
    replacements: dict[LogicalName, Replacements] = Field(default_factory=dict[str, Replacements])
    filters: Filters | None = None
    apply_deletes: bool = False
    picklists: Literal["labels", "codes"] = "labels"
    links: Annotated[tuple[Link, ...], Field(strict=False)] = ()
    _opt_outs: dict[str, OptOutMapping] = PrivateAttr(default_factory=dict[str, OptOutMapping])

    @property
    def opt_outs(self) -> Mapping[str, OptOutMapping]:
        """Those of `fields` that are opt-outs, by column: contact has some with direction d365_to_campaign."""
        return self._opt_outs

    def with_opt_outs(self, mappings: Mapping[str, OptOutMapping]) -> TableConfig:
        """The table with the opt-outs as further fields, with replacements where they are inverted, 0 or 1, or null."""
        fields = self.fields | {column: FieldMapping(to=mapping.to) for column, mapping in mappings.items()}
        replaced = self.replacements | {column: mapping.replacements for column, mapping in mappings.items()}
        whole = self.model_copy(update={"fields": fields, "replacements": replaced})
        whole._opt_outs = dict(mappings)
        return whole

    def without_opt_outs(self) -> TableConfig:
        """The table as it stands in the file."""
        fields = {column: field for column, field in self.fields.items() if column not in self._opt_outs}
        replaced = {column: values for column, values in self.replacements.items() if column not in self._opt_outs}
        bare = self.model_copy(update={"fields": fields, "replacements": replaced})
        bare._opt_outs = {}
        return bare


class Guardrails(Model):
    """Limits that stop the program before the first write (docs/references/campaign.md 14)."""

    max_contacts: Count = 30_000_000
    max_custom_entities: Annotated[int, Field(ge=0)] = 5
    max_columns: Count = 50
    max_link_depth: Annotated[int, Field(ge=0)] = 2
    calls_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    engine_calls_per_hour: Count | None = None
    engine_calls_per_day: Count | None = None
    max_delete_share: Share = 0.05
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 64


class Owners(Model):
    """Whom Dagster names as the owners of an asset, by its group: `team:...` or e-mail addresses."""

    d365: Annotated[tuple[Owner, ...], Field(strict=False)] = ("team:crm",)
    campaign: Annotated[tuple[Owner, ...], Field(strict=False)] = ("team:marketing",)
    opt_out: Annotated[tuple[Owner, ...], Field(strict=False)] = ("team:crm", "team:marketing")
    report: Annotated[tuple[Owner, ...], Field(strict=False)] = ("team:crm", "team:marketing")


class Config(Model):
    """The whole file. Get one from `config_file.load_config`: it also holds what several places must agree on."""

    privacy_acknowledged: bool
    tables: Annotated[tuple[TableConfig, ...], Field(strict=False, min_length=1)]
    opt_out: OptOut = OptOut()
    storage: Storage = Storage()
    logs: Logs = Logs()
    runs: Runs = Runs()
    guardrails: Guardrails = Guardrails()
    owners: Owners = Owners()
    alerts: Alerts | None = None
    _file: tuple[str, Callable[[tuple[int | str, ...]], int]] | None = PrivateAttr(default=None)

    @field_validator("privacy_acknowledged")
    @classmethod
    def _acknowledged(cls, value: bool) -> bool:
        if not value:
            raise refused(
                "privacy requests are your task, in both systems; this program neither sees nor forwards them",
                "write `privacy_acknowledged: true` once that is arranged",
            )
        return value

    @model_validator(mode="after")
    def _opt_outs_are_fields(self) -> Self:
        """With direction d365_to_campaign they are mapped like any field (docs/references/campaign.md 14). Every
        reader of the tables gets them so."""
        if self.opt_out.direction == "d365_to_campaign":
            mappings = self.opt_out.mappings
            tables = tuple(one.with_opt_outs(mappings) if one.table == CONTACT else one for one in self.tables)
            object.__setattr__(self, "tables", tables)  # frozen, but nobody has it yet
        return self

    def read_from(self, file: str, line: Callable[[tuple[int | str, ...]], int]) -> None:
        """Notes the file that this is, and how the line of a place in it is found."""
        self._file = (file, line)

    def line_of(self, *place: int | str) -> tuple[str, int] | None:
        """The file and the line of what stands at `place` in it; None if this was read from no file."""
        return self._file and (self._file[0], self._file[1](place))

    @property
    def targets(self) -> dict[str, str]:
        """D365 table -> Campaign resource."""
        return {table.table: table.resource for table in self.tables}

    @property
    def in_link_order(self) -> tuple[TableConfig, ...]:
        """The tables, parents before their children, else as in the file. There are no circles (config_checks)."""
        order: dict[str, TableConfig] = {}

        def add(table: TableConfig) -> None:
            for link in table.links:
                if link.table not in order:
                    add(self.table(link.table))
            order.setdefault(table.table, table)

        for table in self.tables:
            add(table)
        return tuple(order.values())

    def table(self, name: str) -> TableConfig:
        """The mapping of D365 table `name`; KeyError if it is not mapped."""
        for table in self.tables:
            if table.table == name:
                return table
        raise KeyError(name)
