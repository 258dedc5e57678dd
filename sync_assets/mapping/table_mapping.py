"""Compile a table's configuration against the metadata of both systems.

The result is a TableMapping (which column goes to which attribute, by which conversion), or a MappingError with every
problem. Pure: the metadata is passed in. What a TableMapping does to rows is in `transform.py`.
"""

import hashlib
import json
from collections.abc import Mapping as ABCMapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.config.models import FieldMapping, LinkConfig, TableConfig
from sync_assets.config.opt_out import OptOutMapping
from sync_assets.dataverse.metadata import MASTER, MODIFIED, Column, ColumnType, Table
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.model import LinkSpec
from sync_assets.mapping.configured_values import is_option, named_option
from sync_assets.mapping.conversions import AS_TEXT, SEPARATORS, Conversion, conversion, option_values, possible_targets
from sync_assets.mapping.filters import RowFilter, compile_filters
from sync_assets.mapping.replacements import CompiledReplacements, compile_replacements
from sync_assets.words import did_you_mean

FORM_VERSION = 1
"""Increased whenever the same row would have another result: payload, scope, links, opt-outs or unknown codes. Then
every table is read in full once more.
"""

_ID_LENGTH = 36

Targets = ABCMapping[str, str]
"""Dynamics 365 table -> Campaign resource, for all mapped tables."""


class MappingError(SyncAssetsError):
    """Raised for a mapping that the two systems do not allow, with one line per problem.

    Attributes:
        d365: problems with the table's columns.
        campaign: problems with the resource's attributes.
        problems: both.
    """

    def __init__(self, table: str, d365: list[str], campaign: list[str]) -> None:
        self.d365, self.campaign = tuple(d365), tuple(campaign)
        self.problems = (*self.d365, *self.campaign)
        super().__init__("\n".join(f"{table}: {problem}" for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Field:
    """One column mapped to one attribute.

    Attributes:
        options: option number -> text in Campaign, for choices.
        separator: between the texts of several choices.
    """

    column: Column
    attribute: Attribute
    conversion: Conversion
    replacements: CompiledReplacements
    options: dict[int, str]
    apply_updates: bool = True
    keep_if_empty: bool = False
    truncate: bool = False
    separator: str = "; "

    @property
    def replaced_codes(self) -> set[int]:
        """Return the option numbers that are replaced."""
        return {value for value in self.replacements if isinstance(value, int)}


@dataclass(frozen=True, slots=True)
class LinkField:
    """A lookup column mapped to a link, or to a plain attribute (`style: join`)."""

    column: Column
    attribute: Attribute
    link: LinkConfig
    keep_orphans: bool = True


@dataclass(frozen=True, slots=True)
class OptOutField:
    """A column with the value of an opt-out, which is not part of the payload. `inverted`: True means allowed."""

    column: Column
    attribute: str
    inverted: bool


@dataclass(frozen=True, slots=True)
class TableMapping:
    """A table's configuration, compiled: what `transform` does with its rows.

    Attributes:
        fields: in the order of their attributes' names, so that their order in the file changes nothing.
        select: sorted names for `$select`.
        column_types: the types of these columns.
        apply_updates: True if the links of acknowledged records follow the lookups.
        master: the lookup of a merged contact's master; None unless opt-outs are carried to it.
        fingerprint: equal as long as the same row gives the same result.
    """

    table: str
    resource: str
    table_key: Column
    key: Attribute
    fields: tuple[Field, ...]
    select: tuple[str, ...]
    column_types: dict[str, ColumnType]
    fingerprint: str
    row_filter: RowFilter | None = None
    links: tuple[LinkField, ...] = ()
    apply_updates: bool = True
    opt_outs: tuple[OptOutField, ...] = ()
    master: Column | None = None
    warnings: tuple[str, ...] = ()

    @property
    def insert_only(self) -> bool:
        """Return True if updates leave out fields or links."""
        return any(not field.apply_updates for field in self.fields) or (bool(self.links) and not self.apply_updates)

    @property
    def link_specs(self) -> tuple[LinkSpec, ...]:
        """Return the links in the ledger's form."""
        return tuple(
            LinkSpec(
                field.attribute.path,
                field.link.table,
                required=field.link.cardinality == "one",
                keyed=field.link.style != "join",
                keep_orphans=field.keep_orphans,
                apply_updates=self.apply_updates,
            )
            for field in self.links
        )

    @property
    def opt_outs_are_fields(self) -> bool:
        """Return True if the payload holds the opt-outs, too (direction d365_to_campaign)."""
        return any(field.attribute.path == opt_out.attribute for field in self.fields for opt_out in self.opt_outs)


def compile_mapping(
    config: TableConfig,
    table: Table,
    resource: Resource,
    targets: Targets = MappingProxyType({}),
    carried: ABCMapping[str, OptOutMapping] = MappingProxyType({}),
) -> TableMapping:
    """Compile the mapping of one table. Raises MappingError with every problem, one line each.

    Args:
        targets: the resource of each mapped table, to check where links lead.
        carried: opt-outs that the rows bring beside the payload (push/target.py). Whether their columns are suitable is
            checked in checks/opt_out_columns.py.
    """
    return _Compiler(config, table, resource, targets, carried).mapping()


def attribute_problem(resource: Resource, path: str, where: str) -> str | None:
    """Return why an attribute of the resource cannot be written; None if it can."""
    attribute = resource.attributes.get(path)
    if attribute is None:
        meant = did_you_mean(path, list(resource.attributes))
        remedy = f"did you mean `{meant}`?" if meant else "name an attribute, or add it in Campaign and publish"
        return f"{where}: {resource.name} has no attribute `{path}`; {remedy}"
    if attribute.read_only:
        return f"{where}: `{path}` is read-only in Campaign; map it to another attribute"
    return None


def key_problem(resource: Resource, path: str) -> str | None:
    """Return why an attribute cannot be the key; None if it can."""
    problem = attribute_problem(resource, path, f"key `{path}`")
    if problem:
        return problem
    key = resource.attributes[path]
    if key.type != "string" or (key.length is not None and key.length < _ID_LENGTH):
        return f"key `{path}`: it cannot hold an id; name a text attribute of at least {_ID_LENGTH} characters"
    return None


class _Compiler:
    def __init__(
        self,
        config: TableConfig,
        table: Table,
        resource: Resource,
        targets: Targets,
        carried: ABCMapping[str, OptOutMapping],
    ) -> None:
        self._config, self._table, self._resource, self._targets = config, table, resource, targets
        self._carried = carried
        self._d365: list[str] = []
        self._campaign: list[str] = []
        self._warnings: list[str] = []

    def mapping(self) -> TableMapping:
        if problem := key_problem(self._resource, self._config.key):
            self._campaign.append(problem)
        key = self._resource.attributes.get(self._config.key)
        table_key, modified = self._column(self._table.key), self._column(MODIFIED)
        fields = [
            self._field(name, field) for name, field in sorted(self._config.fields.items(), key=lambda item: item[1].to)
        ]
        links = [self._link(link) for link in self._config.links]
        row_filter, filtered = self._filter()
        opt_outs = [
            OptOutField(column, mapping.to, mapping.inverted)
            for name, mapping in self._carried.items()
            if (column := self._column(name, "opt-out "))
        ]
        master = self._column(MASTER, "merged contacts, ") if self._config.carries_merged and opt_outs else None
        if self._d365 or self._campaign or not (key and table_key and modified):
            raise MappingError(self._table.name, self._d365, self._campaign)
        done = tuple(field for field in fields if field)
        linked = tuple(link for link in links if link)
        columns = [table_key, modified, *filtered, *(field.column for field in (*done, *linked, *opt_outs))]
        columns += [master] if master else []
        types: dict[str, ColumnType] = {
            column.select_name: column.type for column in sorted(columns, key=lambda column: column.select_name)
        }
        return TableMapping(
            table=self._table.name,
            resource=self._resource.name,
            table_key=table_key,
            key=key,
            fields=done,
            select=tuple(types),
            column_types=types,
            fingerprint=self._fingerprint(key, types, done, row_filter, opt_outs),
            row_filter=row_filter,
            links=linked,
            apply_updates=self._config.apply_updates,
            opt_outs=tuple(opt_outs),
            master=master,
            warnings=tuple(self._warnings),
        )

    def _field(self, name: str, configured: FieldMapping) -> Field | None:
        column = self._column(name)
        attribute = self._attribute(configured.to, f"`{name}`")
        if not (column and attribute):
            return None
        if attribute.type in ("link", "collection"):
            remedy = "use `links` for lookups" if attribute.type == "link" else "map another attribute"
            self._campaign.append(
                f"`{name}`: `{attribute.path}` of {self._resource.name} is a {attribute.type}; {remedy}"
            )
            return None
        if attribute.type == "group":
            inner = [path for path in self._resource.attributes if path.startswith(f"{attribute.path}.")]
            self._campaign.append(
                f"`{name}`: `{attribute.path}` holds sub-fields; map one of them, {', '.join(inner[:8])}"
            )
            return None
        configured_values = self._config.replacements.get(name, {})
        replacements, problems = compile_replacements(configured_values, column, attribute)
        self._campaign += problems
        kind = conversion(column, attribute) or ("replaced" if configured_values else None)
        if kind is None:
            targets = possible_targets(column)
            can = f"map it to one of type {', '.join(targets)}" if targets else "leave it out"
            self._campaign.append(
                f"`{name}` ({column.type}) cannot become `{attribute.path}` ({attribute.type}); {can}, "
                "or write `replacements` for its values"
            )
            return None
        if configured.truncate and attribute.type != "string":
            self._campaign.append(f"`{name}`: only texts can be cut, and `{attribute.path}` is none; remove `truncate`")
        options: dict[int, str] = {}
        if is_option(column) and attribute.type in ("string", "enumeration"):
            options = option_values(column, attribute, self._config.picklists)
            if column.type == "multiselect":
                options |= {code: str(to) for code, to in replacements.items() if isinstance(code, int)}
        field = Field(
            column,
            attribute,
            kind,
            replacements,
            options,
            apply_updates=configured.apply_updates,
            keep_if_empty=configured.keep_if_empty,
            truncate=configured.truncate,
            separator=SEPARATORS[self._config.picklists],
        )
        self._warn(field)
        return field

    def _link(self, link: LinkConfig) -> LinkField | None:
        column = self._column(link.field)
        attribute = self._attribute(link.to, f"link `{link.field}`")
        if not (column and attribute):
            return None
        if column.type != "lookup":
            self._d365.append(f"link `{link.field}`: the column is of type {column.type}; name a lookup column")
        if link.style != "join" and attribute.type != "link":
            self._campaign.append(f"link `{link.field}`: `{link.to}` is no link; write `style: join` or name a link")
        target = self._targets.get(link.table)
        if link.style != "join" and attribute.target and target and attribute.target != target:
            self._campaign.append(
                f"link `{link.field}`: `{link.to}` leads to {attribute.target}, but {link.table} is mapped to {target};"
                " name another link"
            )
        if link.style == "join" and attribute.type != "string":
            self._campaign.append(f"link `{link.field}`: `{link.to}` is no text; leave `style` out or name a text")
        return LinkField(column, attribute, link, self._config.keeps_orphans(link))

    def _filter(self) -> tuple[RowFilter | None, list[Column]]:
        if self._config.filters is None:
            return None, []
        columns = [self._column(rule.field, "filter on ") for rule in self._config.filters.rules]
        row_filter, problems = compile_filters(self._config.filters, self._table)
        self._d365 += problems
        return row_filter, [column for column in columns if column]

    def _column(self, name: str, where: str = "") -> Column | None:
        """Return the readable column, or None after recording a problem."""
        column = self._table.columns.get(name)
        if column is None:
            meant = did_you_mean(name, list(self._table.columns))
            remedy = f"did you mean `{meant}`?" if meant else "name a column of the table"
            self._d365.append(f"{where}`{name}`: {self._table.name} has no such column; {remedy}")
        elif not column.readable:
            self._d365.append(f"{where}`{name}`: Dynamics 365 does not let anybody read this column; leave it out")
            return None
        return column

    def _attribute(self, path: str, where: str) -> Attribute | None:
        """Return the writable attribute, or None after recording a problem."""
        if problem := attribute_problem(self._resource, path, where):
            self._campaign.append(problem)
            return None
        return self._resource.attributes[path]

    def _warn(self, field: Field) -> None:
        name, to = field.column.name, field.attribute.path
        replaced = field.replaced_codes
        if field.column.secured:
            self._warnings.append(
                f"`{name}` is secured: without a column security profile that lets the application user read it, "
                f"Dynamics 365 sends it empty, and `{to}` becomes empty in Campaign; add the user to such a profile"
            )
        if field.column.type in AS_TEXT:
            self._warnings.append(f"`{name}` ({field.column.type}) is sent to `{to}` as text")
        known = set(field.column.labels)
        removed = sorted(replaced - known) if known and is_option(field.column) else []
        if removed and field.column.type != "boolean":
            codes = ", ".join(map(str, removed))
            self._warnings.append(
                f"`{name}`: {codes} in its replacements is no option; only rows that hold one that was removed get it"
            )
        if field.conversion == "whole":
            self._warnings.append(f"`{name}`: `{to}` takes whole numbers only; rows with a fraction will be rejected")
        if field.conversion == "replaced":
            self._warnings.append(f"`{name}`: rows with values that have no replacement will be rejected")
        if field.conversion == "option" and field.attribute.type == "enumeration":
            missing = sorted(set(field.column.labels) - field.options.keys() - replaced)
            if missing:
                named = ", ".join(named_option(code, field.column) for code in missing[:8])
                self._warnings.append(
                    f"`{name}`: `{to}` has no value for {named}; rows with them will be rejected, add replacements"
                )

    def _fingerprint(
        self,
        key: Attribute,
        columns: ABCMapping[str, ColumnType],
        fields: tuple[Field, ...],
        row_filter: RowFilter | None,
        opt_outs: list[OptOutField],
    ) -> str:
        """Return a short hash of all that determines the result of a row. If it changes, the table is read in full."""
        config, columns_read = self._config, tuple(columns.items())
        parts: list[Any] = [FORM_VERSION, self._table.set_name, columns_read, config.resource, key.path]
        for field in fields:
            to = field.attribute
            limits = (to.length if to.type == "string" else None, to.values if to.type == "enumeration" else ())
            options = (field.apply_updates, field.keep_if_empty, field.truncate)
            parts.append((field.column.name, to.path, to.type, limits, field.conversion, *options))
            separator = field.separator if field.conversion == "choices" else ""
            parts.append((sorted(field.options.items()), separator, sorted(field.replacements.items(), key=str)))
        for link in config.links:
            # Style key or pkey is not included: it changes how a link is sent, not the prepared rows.
            style = "join" if link.style == "join" else "key"
            rules = (link.cardinality, config.keeps_orphans(link), config.apply_updates)
            parts.append((link.field, link.to, link.table, style, *rules))
        if row_filter:
            rules = [(rule.column.name, rule.operator, rule.values) for rule in row_filter.rules]
            parts.append((row_filter.match, rules, row_filter.delete_filtered_out))
        parts += [(opt_out.column.name, opt_out.attribute, opt_out.inverted) for opt_out in opt_outs]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()
