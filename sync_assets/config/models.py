"""Models of the configuration file: the mapped tables, their fields, filters and links, and the guardrails.

Here: the structure of the file and its defaults (docs/configuration.md), and the tables as the flows use them. Not
here: rules of single values (`values.py`), opt-outs (`opt_out.py`), loads by file (`bulk_load.py`), reading the file
and reporting lines (`loader.py`), rules that involve several places of the file (`cross_checks.py`), addresses and
secrets, which come from the environment only (`environment.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from sync_assets.config.bulk_load import BulkLoad
from sync_assets.config.opt_out import OptOutConfig, OptOutMapping
from sync_assets.config.runs import Alerts, History, Logs, Results, RunsConfig
from sync_assets.config.values import (
    CONTACT,
    AttributeName,
    Count,
    LogicalName,
    Model,
    Owner,
    ResourceName,
    Share,
    Text,
    is_plain,
    plain,
    plain_list,
    refused,
    short_form,
)

Operator = Literal[
    "eq", "ne", "lt", "le", "gt", "ge", "in", "not_in",
    "contains", "starts_with", "ends_with", "is_null", "not_null",
]  # fmt: skip
_LISTS = ("in", "not_in")
_TEXT_OPERATORS = ("contains", "starts_with", "ends_with")
_WITHOUT_VALUE = ("is_null", "not_null")


class FieldMapping(Model):
    """The mapping of one D365 column."""

    to: AttributeName
    """Campaign attribute."""
    apply_updates: bool = True
    """false: the value is sent on first load and replay only, later changes are not. Default: that of the table."""
    keep_if_empty: bool = False
    """true: an empty value in Dynamics 365 leaves Campaign's; otherwise it empties the attribute."""
    truncate: bool = False
    """true: a text longer than the attribute is cut; otherwise the record is rejected."""


class AddressFilter(Model):
    """The published Campaign filter, with its parameter, that looks up a record's address."""

    name: Text
    """The filter's name, as in `byExternalId`."""
    parameter: Text
    """Its parameter, as in `externalId_parameter`."""


class FilterRule(Model):
    """One comparison of a D365 column, mapped or not, with a value."""

    field: LogicalName
    """Dynamics 365 column, mapped or not."""
    operator: Operator = Field(alias="is")
    """The comparison. An empty column meets no rule but `is_null`."""
    value: Any = None
    """One value, a list for `in` and `not_in`, nothing for `is_null` and `not_null`. Choices by number or label."""

    @model_validator(mode="after")
    def _value_fits_operator(self) -> Self:
        operator, value = self.operator, self.value
        if operator in _WITHOUT_VALUE:
            if "value" in self.model_fields_set:
                raise refused(f"`is: {operator}` takes no value", "remove `value`")
        elif operator in _LISTS:
            values = plain_list(value)
            if values is None:
                raise refused(f"`is: {operator}` needs a list of values", "write `value: [1, 2]`")
            if None in values or "" in values:  # an empty text is stored as null (docs/dev/references/dataverse.md 2.4)
                null = "null" if None in values else "an empty text, which is null in Dynamics 365"
                raise refused(f"`is: {operator}` cannot contain {null}", "use a rule with `is: is_null` or `not_null`")
        elif "value" not in self.model_fields_set:
            raise refused(f"`is: {operator}` needs a `value`", f"write `value:` beside `is: {operator}`")
        elif value is None or (value == "" and operator not in _TEXT_OPERATORS):
            null_rule = "not_null" if operator == "ne" else "is_null"
            null = "null" if value is None else "an empty text, which is null in Dynamics 365"
            raise refused(f"`is: {operator}` cannot compare with {null}", f"write `is: {null_rule}` without a value")
        elif not is_plain(value):
            raise refused(f"`is: {operator}` compares with one value", "write one value, or use `is: in` with a list")
        elif operator in _TEXT_OPERATORS and (isinstance(value, bool | float) or value == ""):
            raise refused(f"`is: {operator}` needs a text", 'write `value: "..."`')
        elif operator in ("lt", "le", "gt", "ge") and isinstance(value, bool):
            raise refused(f"`is: {operator}` needs a value with an order", "use `is: eq` for true and false")
        return self


class Filters(Model):
    """The filter of a table's rows."""

    match: Literal["all", "any"] = "all"
    """A row passes if all rules hold, or if any rule holds."""
    rules: Annotated[tuple[FilterRule, ...], Field(strict=False, min_length=1)]
    """Comparisons of a column with a value. Texts compare without regard to case."""
    delete_filtered_out: bool = False
    """true: a record whose row no longer passes the filter is deleted in Campaign."""


class LinkConfig(Model):
    """A D365 lookup that becomes a Campaign link, or (`style: join`) a plain attribute with the parent's key."""

    field: LogicalName
    """Dynamics 365 lookup column, by its logical name."""
    to: AttributeName
    """Campaign link; with `style: join`, the text attribute that takes the parent's key."""
    table: LogicalName
    """The mapped table that it points to."""
    style: Literal["auto", "key", "pkey", "join"] = "auto"
    """`auto`: the program finds out by reading links back. `key`: the link is set by the parent's key. `pkey`: by the
    parent's own PKey, looked up once for each parent. `join`: a plain attribute takes the parent's key."""
    cardinality: Literal["one", "zero_or_one"] = "one"
    """`one`: the child waits for its parent. `zero_or_one`: it is sent without a parent, and linked later."""
    orphans: Literal["keep", "delete"] | None = None
    """An orphan is a child whose parent is gone for good, although cardinality is `one`. `keep` leaves orphans in
    Campaign, `delete` deletes them there. Default: `delete` if the table has `apply_deletes: true`, else `keep`."""


Replacements = dict[Any, Annotated[Any, AfterValidator(plain)]]
"""D365 value (a column's value, an option's code or label, or None for no value) -> Campaign value; both `Scalar`."""


class TableOptions(Model):
    """The keys of a table that `defaults` may set for all tables."""

    key: AttributeName | None = None
    """The Campaign attribute that holds the Dynamics 365 id: a unique text, not mapped under `fields`."""
    api: Literal["profileAndServicesExt", "customResources"] = "profileAndServicesExt"
    """`customResources` for resources that are not linked to profile."""
    address: Literal["auto", "url", "filter"] = "auto"
    """How an existing record is addressed. `auto`: the program finds out, once for each resource. `url`:
    /profile/<key>. `filter`: a published filter looks up the address, one engine call more for each
    update."""
    filter: AddressFilter | None = None
    """The published filter, for `address: filter`, and for `auto` where Campaign takes no keys in URLs."""
    unique: Literal["auto"] | bool = "auto"
    """Whether the key is an identification key, so that Campaign rejects a second record with it. `auto`: the program
    finds out. false: Campaign's records are listed before the first load."""
    replacements: dict[LogicalName, Replacements] = Field(default_factory=dict[str, Replacements])
    """Column: {Dynamics 365 value: Campaign value}. Choices by number or label, null for an empty column. Other values
    are sent unchanged."""
    filters: Filters | None = None
    """The rows to send. Default: every row."""
    apply_deletes: bool = False
    """true: rows that are deleted in Dynamics 365 are deleted in Campaign, too. A plain delete leaves traces in
    Campaign's logs."""
    apply_updates: bool = True
    """false: rows are sent on first load and replay only, later changes are not, links included. For a field that
    follows nevertheless, write its own `apply_updates: true`."""
    picklists: Literal["labels", "codes"] = "labels"
    """The value of a choice in a text attribute: its label, or its code (a number)."""


class TableConfig(TableOptions):
    """The mapping of one D365 table to a Campaign resource."""

    table: LogicalName
    """Dynamics 365 table, by its logical name as in `contact`. Its primary key is found by itself."""
    resource: ResourceName
    """Campaign resource, by its API name. Custom ones carry the prefix cus."""
    key: AttributeName  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride] - models are frozen
    """The Campaign attribute that holds the Dynamics 365 id: a unique text, not mapped under `fields`."""
    fields: dict[
        LogicalName,
        Annotated[FieldMapping, BeforeValidator(short_form, json_schema_input_type=AttributeName | FieldMapping)],
    ] = Field(default_factory=dict[str, FieldMapping])
    """Dynamics 365 column: Campaign attribute, or {to, apply_updates, keep_if_empty, truncate}. Sub-fields with a dot,
    as in `location.city`."""
    links: Annotated[tuple[LinkConfig, ...], Field(strict=False)] = ()
    """Lookups that become links. Parents are written first; the parent's table must be mapped, too."""
    _opt_outs: dict[str, OptOutMapping] = PrivateAttr(default_factory=dict[str, OptOutMapping])
    _carries_merged: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _fields_apply_updates_as_the_table(self) -> Self:
        if not self.apply_updates:
            for column, field in self.fields.items():
                if "apply_updates" not in field.model_fields_set:
                    self.fields[column] = field.model_copy(update={"apply_updates": False})
        return self

    @property
    def opt_outs(self) -> Mapping[str, OptOutMapping]:
        """The fields that are opt-outs, by column: only of contact, with direction d365_to_campaign."""
        return self._opt_outs

    @property
    def carries_merged(self) -> bool:
        """True if opt-outs of merged contacts count for their masters: only of contact, with `merged: carry`."""
        return self._carries_merged

    def keeps_orphans(self, link: LinkConfig) -> bool:
        """Return True if Campaign keeps children whose parent is gone for good, as this link is configured."""
        return link.orphans == "keep" or (link.orphans is None and not self.apply_deletes)

    def with_opt_outs(self, opt_out: OptOutConfig) -> Self:
        """Return contact with its opt-outs (docs/dev/references/campaign.md 14).

        In direction d365_to_campaign they are further fields, with replacements for their inversion, 0 and 1. A column
        without a value, as one that became secured, takes no opt-out back.
        """
        mappings = opt_out.mappings if opt_out.direction == "d365_to_campaign" else {}
        opt_outs = {column: FieldMapping(to=mapping.to, keep_if_empty=True) for column, mapping in mappings.items()}
        fields = self.fields | opt_outs
        replaced = self.replacements | {column: mapping.replacements for column, mapping in mappings.items()}
        whole = self.model_copy(update={"fields": fields, "replacements": replaced})
        whole._opt_outs, whole._carries_merged = dict(mappings), opt_out.merged == "carry"
        return whole

    def without_opt_outs(self) -> Self:
        """Return the table as written in the file."""
        fields = {column: field for column, field in self.fields.items() if column not in self._opt_outs}
        replaced = {column: values for column, values in self.replacements.items() if column not in self._opt_outs}
        bare = self.model_copy(update={"fields": fields, "replacements": replaced})
        bare._opt_outs = {}
        return bare


class Guardrails(Model):
    """Limits that stop the program before the first write (docs/dev/references/campaign.md 14)."""

    max_contacts: Count = 30_000_000
    """Maximum of contacts."""
    max_custom_entities: Annotated[int, Field(ge=0)] = 5
    """Maximum of mapped tables besides contact."""
    max_columns: Count = 50
    """Maximum of mapped columns of a table other than contact, links included."""
    max_link_depth: Annotated[int, Field(ge=0)] = 2
    """Maximum of links in a row: table1 -> table2 -> table3 is 2."""
    calls_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Engine calls to Campaign, all processes of a ledger together. null: no limit."""
    engine_calls_per_hour: Count | None = None
    """null: no limit. Else pushing stops there until the next UTC hour."""
    engine_calls_per_day: Count | None = None
    """null: no limit. Else pushing stops there until the next UTC day."""
    max_delete_share: Share = 0.05
    """Of the known records within 24 hours, once there are more than 100."""
    max_emptied_share: Share = 0.05
    """Share of known records in which a mapped column may become empty in 24 hours, once there are more than 100."""
    horizon_minutes: Annotated[float, Field(gt=0, le=1440)] = 15
    """How long a request to Campaign without an answer may still take effect: longer than gateway and engine work on
    one. Then the record is sent, or deleted, once more."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 64
    """Maximum of requests in flight to Campaign, all processes of a ledger together. Adapts below that."""


class Audit(Model):
    """How much of Campaign the daily audit lists."""

    calls_per_day: Annotated[int, Field(ge=0)] = 200
    """Pages of 500 records that it lists, in rotation through each resource, divided among the tables by size. 0: off.
    Calls on top: the number of records as a list begins, up to 200 parents, a look-up for each record that it lacks."""


class Owners(Model):
    """The owners of Dagster's assets, by group: `team:...` or e-mail addresses. Those of `report` own results, too."""

    d365: Annotated[tuple[Owner, ...], Field(strict=False)] = ("team:crm",)
    """Of the captured tables: `team:<name>`, or e-mail addresses."""
    campaign: Annotated[tuple[Owner, ...], Field(strict=False)] = ("team:marketing",)
    """Of profiles and resources."""
    opt_out: Annotated[tuple[Owner, ...], Field(strict=False)] = ("team:crm", "team:marketing")
    """Of opt-outs."""
    report: Annotated[tuple[Owner, ...], Field(strict=False)] = ("team:crm", "team:marketing")
    """Of the daily report."""


class Config(Model):
    """The whole file. Load it with `loader.load_config`, which also checks the rules of `cross_checks`."""

    privacy_acknowledged: bool
    """Required, and true: privacy requests (access, erasure) are your task, in both systems. This program neither sees
    nor forwards them."""
    tables: Annotated[tuple[TableConfig, ...], Field(strict=False, min_length=1)]
    """One entry for each table. A table and a resource may each occur in one entry only."""
    defaults: TableOptions = TableOptions()
    """Keys of a table, for each table that does not set them itself."""
    opt_out: OptOutConfig = OptOutConfig()
    """Opt-outs between contact and profile."""
    logs: Logs = Logs()
    """A log file a day on the Campaign SFTP."""
    history: History | None = None
    """The outcome of each request for a record, for `sync-assets history`. null: no history."""
    results: Results | None = None
    """Deliveries, opt-out decisions and totals of each day, as Parquet files. null: none."""
    runs: RunsConfig = RunsConfig()
    """How Dagster runs the program."""
    audit: Audit = Audit()
    """The daily audit, which compares Campaign with Dynamics 365 by list."""
    bulk_load: BulkLoad | None = None
    """First loads by file, through workflows of Campaign. null: all records go by REST."""
    guardrails: Guardrails = Guardrails()
    """Limits that stop the program before its first write."""
    owners: Owners = Owners()
    """The owners of the assets in Dagster, by group."""
    alerts: Alerts | None = None
    """Channels of notifications about failed runs, failed checks and stale data. null: no notifications."""
    _file: tuple[str, Callable[[tuple[int | str, ...]], int]] | None = PrivateAttr(default=None)

    @field_validator("privacy_acknowledged", mode="before")
    @classmethod
    def _acknowledged(cls, value: object) -> object:
        if value is not True:
            raise refused(
                "privacy requests are your task, in both systems; this program neither sees nor forwards them",
                "write `privacy_acknowledged: true` once that is arranged",
            )
        return value

    @model_validator(mode="after")
    def _contact_has_opt_outs(self) -> Self:
        """Give contact its opt-outs. Every reader of the tables gets them so."""
        opt_out = self.opt_out
        tables = tuple(table.with_opt_outs(opt_out) if table.table == CONTACT else table for table in self.tables)
        object.__setattr__(self, "tables", tables)  # frozen, but not in use yet
        return self

    def read_from(self, file: str, line: Callable[[tuple[int | str, ...]], int]) -> None:
        """Store the name of the file, and the function that returns the line of a place in it."""
        self._file = (file, line)

    def line_of(self, *place: int | str) -> tuple[str, int] | None:
        """Return the file and line of a place; None if the configuration was not read from a file."""
        return self._file and (self._file[0], self._file[1](place))

    @property
    def history_days(self) -> int | None:
        """How long the history of records is kept, for `history` or for `results`; None: no history is kept."""
        days = [*([self.history.days] if self.history else []), *([self.results.keep_days] if self.results else [])]
        return max(days, default=None)

    @property
    def targets(self) -> dict[str, str]:
        """The mapped tables: D365 table -> Campaign resource."""
        return {table.table: table.resource for table in self.tables}

    def opt_outs_of_new_records(self, table: str) -> Mapping[str, OptOutMapping]:
        """Return the opt-outs (column -> mapping) that new records of a table carry beside the payload.

        Empty unless opt-outs are bidirectional and the table is contact: then a new record gets the value of Dynamics
        365 until the conflict is decided (sync_assets/opt_out). In direction d365_to_campaign they are ordinary fields.
        """
        return self.opt_out.mappings if self.opt_out.direction == "bidirectional" and table == CONTACT else {}

    def captured_opt_outs(self, table: str) -> Mapping[str, OptOutMapping]:
        """Return the opt-outs (column -> mapping) that a table's rows bring beside the payload.

        In direction d365_to_campaign they matter for rows that the filter excludes, whose record is not sent, for those
        in a load by file, whose record is sent later, and for merged ones; in direction campaign_to_d365 they are
        compared with what Campaign stated.
        """
        direction, carries = self.opt_out.direction, self.opt_out.merged == "carry"
        loads = self.bulk_load is not None and CONTACT in self.bulk_load.workflows
        excluded = direction == "d365_to_campaign" and (self.table(CONTACT).filters or carries or loads)
        if table == CONTACT and (excluded or direction == "campaign_to_d365"):
            return self.opt_out.mappings
        return self.opt_outs_of_new_records(table)

    @property
    def in_link_order(self) -> tuple[TableConfig, ...]:
        """The tables, parents before their children, else as in the file. Links have no circles (cross_checks.py)."""
        order: dict[str, TableConfig] = {}

        def add(table: TableConfig) -> None:
            for link in table.links:
                if link.table not in order:
                    add(self.table(link.table))
            order.setdefault(table.table, table)

        for table in self.tables:
            add(table)
        return tuple(order.values())

    def parents_beyond(self, tables: Sequence[TableConfig]) -> list[TableConfig]:
        """Return the tables to which these link, directly or through others, without these. Parents first."""
        linked = {table.table for table in tables}
        for table in reversed(self.in_link_order):
            linked |= {link.table for link in table.links if table.table in linked}
        return [table for table in self.in_link_order if table.table in linked and table not in tables]

    def table(self, name: str) -> TableConfig:
        """Return the mapping of a D365 table. KeyError if it is not mapped."""
        for table in self.tables:
            if table.table == name:
                return table
        raise KeyError(name)
