"""The configuration file as typed, frozen values: which table goes where, how, and within which limits.

Here: the shape of the file and its defaults (contract section 3), and what one value alone may be. Not here: reading
the file and naming its lines (`config_file.py`), rules that need several places of the file (`config_checks.py`),
addresses and secrets (`settings.py`: they come from the environment only).
"""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

Scalar = str | bool | int | float | None
"""A plain YAML value; which type it must be is known only with the metadata of both systems."""

OPT_OUT_ATTRIBUTES = (
    "blackList",
    "blackListEmail",
    "blackListFax",
    "blackListMobile",
    "blackListPhone",
    "blackListPostalMail",
    "blackListPushnotification",
    "ccpaOptOut",
)
"""All opt-out attributes that Campaign has (contract section 3)."""

Operator = Literal[
    "eq", "ne", "lt", "le", "gt", "ge", "in", "not_in",
    "contains", "starts_with", "ends_with", "is_null", "not_null",
]  # fmt: skip
_LISTS = ("in", "not_in")
_TEXTS = ("contains", "starts_with", "ends_with")
_WITHOUT_VALUE = ("is_null", "not_null")


def refused(what: str, instead: str) -> PydanticCustomError:
    """An error in our own words: what is wrong, and what to write instead. Reported as `what; instead`."""
    return PydanticCustomError("config", "{what}; {instead}", {"what": what, "instead": instead})


def canonical_attribute(name: str) -> str:
    """`denyList…` is how some of Adobe's pages spell `blackList…`; the API knows only the latter."""
    return "blackList" + name[len("denyList") :] if name.startswith("denyList") else name


def _logical_name(value: str) -> str:
    lookup = re.fullmatch(r"_([a-z0-9_]+)_value", value)
    if lookup:
        raise refused(f"`{value}` is how rows show a lookup", f"write its logical name, `{lookup[1]}`")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        raise refused(
            f"`{value}` is no Dynamics 365 logical name",
            "write it in small letters, digits and underscores, as in `emailaddress1`",
        )
    return value


def _resource_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value):
        raise refused(f"`{value}` is no Campaign name", "write the API name, as in `profile` or `cusOrder`")
    return value


def _attribute(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*", value):
        raise refused(
            f"`{value}` is no Campaign attribute",
            "write its API name, as in `firstName`, or `location.city` for a sub-field",
        )
    return canonical_attribute(value)


def _opt_out_attribute(value: str) -> str:
    name = canonical_attribute(value)
    if name not in OPT_OUT_ATTRIBUTES:
        raise refused(
            f"`{value}` is not one of Campaign's opt-out attributes", f"write one of {', '.join(OPT_OUT_ATTRIBUTES)}"
        )
    return name


def _short_form(value: Any) -> Any:
    """`firstname: firstName` is short for `firstname: {to: firstName}`."""
    return {"to": value} if isinstance(value, str) else value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _plain(value: Any) -> Any:
    if not _is_plain(value):
        raise refused("this is not one plain value", "write a text, a number, true, false or null")
    return value


def _plain_list(value: Any) -> list[Scalar] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    return items if items and all(map(_is_plain, items)) else None


LogicalName = Annotated[str, AfterValidator(_logical_name)]
ResourceName = Annotated[str, AfterValidator(_resource_name)]
AttributeName = Annotated[str, AfterValidator(_attribute)]
OptOutAttribute = Annotated[str, AfterValidator(_opt_out_attribute)]
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FieldMapping(_Model):
    """Where one D365 column goes. `apply_updates` false: sent on first load and replay only."""

    to: AttributeName
    apply_updates: bool = True
    truncate: bool = False


class AddressFilter(_Model):
    """The published Campaign filter by which a record's address is looked up, and its parameter."""

    name: Text
    parameter: Text


class FilterRule(_Model):
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
            values = _plain_list(value)
            if values is None:
                raise refused(f"`is: {operator}` needs a list of values", "write `value: [1, 2]`")
            if None in values or "" in values:  # an empty text is stored as null (dataverse-web-api.md section 2.4)
                what = "null" if None in values else "an empty text, which is null in Dynamics 365"
                raise refused(f"`is: {operator}` cannot look for {what}", "use a rule with `is: is_null` or `not_null`")
        elif "value" not in self.model_fields_set:
            raise refused(f"`is: {operator}` needs a `value`", f"write `value:` beside `is: {operator}`")
        elif value is None or (value == "" and operator not in _TEXTS):
            null_rule = "not_null" if operator == "ne" else "is_null"
            what = "null" if value is None else "an empty text, which is null in Dynamics 365"
            raise refused(f"`is: {operator}` cannot compare with {what}", f"write `is: {null_rule}` without a value")
        elif not _is_plain(value):
            raise refused(f"`is: {operator}` compares with one value", "write one value, or use `is: in` with a list")
        elif operator in _TEXTS and (isinstance(value, bool | float) or value == ""):
            raise refused(f"`is: {operator}` needs a text", 'write `value: "..."`')
        elif operator in ("lt", "le", "gt", "ge") and isinstance(value, bool):
            raise refused(f"`is: {operator}` needs something that has an order", "use `is: eq` for true and false")
        return self


class Filters(_Model):
    """Which rows are sent at all. `delete_filtered_out`: those that no longer pass are deleted in Campaign."""

    match: Literal["all", "any"] = "all"
    rules: Annotated[tuple[FilterRule, ...], Field(strict=False, min_length=1)]
    delete_filtered_out: bool = False


class Link(_Model):
    """A D365 lookup that becomes a Campaign link, or (`style: join`) a plain attribute holding the parent's key."""

    field: LogicalName
    to: AttributeName
    table: LogicalName
    style: Literal["key", "join"] = "key"
    cardinality: Literal["one", "zero_or_one"] = "one"


Replacements = dict[Any, Annotated[Any, AfterValidator(_plain)]]
"""D365 value (a column's value, or an option's code or label; None: no value) -> Campaign value; both `Scalar`."""


class TableConfig(_Model):
    """One D365 table and the Campaign resource that it feeds."""

    table: LogicalName
    resource: ResourceName
    key: AttributeName
    api: Literal["profileAndServicesExt", "customResources"] = "profileAndServicesExt"
    address: Literal["url", "filter"] = "url"
    filter: AddressFilter | None = None
    fields: dict[LogicalName, Annotated[FieldMapping, BeforeValidator(_short_form)]] = Field(
        default_factory=dict[str, FieldMapping]
    )
    replacements: dict[LogicalName, Replacements] = Field(default_factory=dict[str, Replacements])
    filters: Filters | None = None
    apply_deletes: bool = False
    picklists: Literal["labels", "codes"] = "labels"
    links: Annotated[tuple[Link, ...], Field(strict=False)] = ()


class OptOutMapping(_Model):
    """A D365 boolean and the Campaign opt-out attribute beside it. `inverted`: true in D365 means allow."""

    to: OptOutAttribute
    inverted: bool = False


class Export(_Model):
    """The file that a Campaign workflow writes with the opt-outs of changed profiles (campaign-standard-api.md 8)."""

    directory: Text = "d365_loads/exports"
    pattern: Text = "optout_*.csv*"
    separator: Text = ","
    encoding: Text = "utf-8"
    settle_seconds: Annotated[int, Field(ge=0)] = 60
    key_column: Text = "externalId"
    changed_suffix: Text = "LastModified"
    after: Literal["keep", "archive", "delete"] = "keep"
    keep_days: Count = 15
    expected_every_hours: Annotated[float, Field(gt=0)] = 24
    workflow_id: Text | None = None
    restart_stalled: bool = False

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value == "tab":
            return "\t"
        if len(value) != 1 or value in '"\r\n':
            raise refused(
                "a separator is one character, and neither a quote nor a line end",
                'write e.g. `separator: ";"` or `separator: tab`',
            )
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except (LookupError, ValueError):
            raise refused(f"`{value}` is no known encoding", "write e.g. `utf-8`, `latin-1` or `cp1252`") from None
        return value

    @field_validator("pattern")
    @classmethod
    def _name_only(cls, value: str) -> str:
        if "/" in value:
            raise refused("the pattern is for names within the directory", "put the folder into `directory`")
        return value

    @field_validator("restart_stalled")
    @classmethod
    def _needs_workflow(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("workflow_id"):
            raise refused("restarting the export needs the workflow's id", "write `workflow_id: WKF12` beside it")
        return value


class OptOut(_Model):
    """How opt-outs travel between contact and profile, and which columns and attributes belong together."""

    direction: Literal["disabled", "d365_to_campaign", "campaign_to_d365", "bidirectional"] = "disabled"
    mappings: dict[LogicalName, Annotated[OptOutMapping, BeforeValidator(_short_form)]] = Field(
        default_factory=dict[str, OptOutMapping]
    )
    poll_profiles_minutes: Count | None = None
    export: Export = Export()


class Guardrails(_Model):
    """Limits that stop the program before the first write (features.md section 8)."""

    max_contacts: Count = 30_000_000
    max_custom_entities: Annotated[int, Field(ge=0)] = 5
    max_columns: Count = 50
    max_link_depth: Annotated[int, Field(ge=0)] = 2
    engine_calls_per_day: Count | None = None
    max_delete_share: Share = 0.05
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 64


class Config(_Model):
    """The whole file. Get one from `config_file.load_config`: it also holds what several places must agree on."""

    privacy_acknowledged: bool
    tables: Annotated[tuple[TableConfig, ...], Field(strict=False, min_length=1)]
    opt_out: OptOut = OptOut()
    guardrails: Guardrails = Guardrails()

    @field_validator("privacy_acknowledged")
    @classmethod
    def _acknowledged(cls, value: bool) -> bool:
        if not value:
            raise refused(
                "privacy requests are your task, in both systems; this program neither sees nor forwards them",
                "write `privacy_acknowledged: true` once that is arranged",
            )
        return value

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
