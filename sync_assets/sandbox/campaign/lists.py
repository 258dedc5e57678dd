"""List requests of the API: filters in the path, order, pages, counts (docs/dev/references/campaign.md 4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from sync_assets.sandbox.campaign import errors
from sync_assets.sandbox.campaign.schema import Filter
from sync_assets.sandbox.campaign.store import Record
from sync_assets.sandbox.campaign.tokens import LINE, RECORD
from sync_assets.sandbox.campaign.values import converter

if TYPE_CHECKING:
    from sync_assets.sandbox.campaign.engine import Campaign
    from sync_assets.sandbox.campaign.view import View

Test = Callable[[Record], bool]


class SubCollection(NamedTuple):
    """The records below another one. under: path of its resource; path: of the URL after that, without `_count`."""

    under: str
    path: str
    serials: set[int]


class Listing:
    """One list request."""

    def __init__(
        self, campaign: Campaign, view: View, filters: list[Filter], query: str, among: SubCollection | None = None
    ) -> None:
        """Parse the request. Unknown query parameters are ignored. Raises CampaignError.

        Args:
            campaign: The instance.
            view: Of the listed resource.
            filters: Of the path; all apply.
            query: Query string.
            among: The sub-collection to list, instead of all records.
        """
        self._campaign = campaign
        self._view = view
        path = "".join(f"/{given.name}" for given in filters)  # of the URL after the resource
        self._under, self._path, self._among = among or (view.path, path, None)
        self._query = dict(parse_qsl(query, keep_blank_values=True))
        self._filtered = bool(filters)
        self._tests: list[Test] = [self._test(given) for given in filters]
        if any(link.cardinality == "one" for link in view.table.resource.links.values()):
            self._tests.append(lambda record: campaign.visible(view.table, record))

    def count(self) -> int:
        if not self._tests:
            return len(self._view.table.records if self._among is None else self._among)
        return sum(1 for _ in self._matches(self._candidates()))

    def page(self, base: str, attribute: str | None = None) -> dict[str, Any]:
        """Return one page. With `attribute`, its content is a list of that attribute's values."""
        size = self._number("_lineCount") or self._campaign.settings.line_count
        start = self._start()
        records: list[Record] = []
        has_more = False
        position = start
        if order := self._query.get("_order"):
            everything = self._sorted(order)
            records = everything[start : start + size]
            has_more = start + size < len(everything)
            position = start + size
        else:
            candidates = self._candidates()
            behind = range(bisect_left(candidates, start), len(candidates))  # a slice would copy millions
            for record in self._matches(map(candidates.__getitem__, behind)):
                if len(records) == size:
                    has_more = True
                    break
                records.append(record)
                position = record.serial + 1
        view = self._view
        content = (
            [view.value(record, attribute) for record in records]
            if attribute is not None
            else [view.show(record, base) for record in records]
        )
        count: dict[str, Any] = {"href": self._href(base, f"{self._path}/_count", {})}
        if self._filtered:
            count["value"] = self.count()
        page: dict[str, Any] = {"content": content, "count": count, "serverSidePagination": True}
        big = len(view.table.records) > self._campaign.settings.big_table_threshold
        if has_more and (not big or self._query.get("_forcePagination") == "true"):
            token = self._campaign.tokens.make(LINE, view.table.number, position)
            path = f"{self._path}/{attribute}" if attribute is not None else self._path
            page["next"] = {"href": self._href(base, path, {"_lineStart": token})}
        return dict(sorted(page.items()))

    def _candidates(self) -> list[int]:
        return self._view.table.order if self._among is None else sorted(self._among)

    def _matches(self, serials: Iterable[int]) -> Iterator[Record]:
        records = self._view.table.records
        for serial in serials:
            record = records[serial]
            if all(test(record) for test in self._tests):
                yield record

    def _number(self, name: str) -> int:
        text = self._query.get(name, "")
        if text and not text.isdecimal():
            raise errors.bad_value(text, "integer", name)
        return int(text or 0)

    def _start(self) -> int:
        token = self._query.get("_lineStart")
        if not token:
            return 0
        reference = self._campaign.tokens.read(token)
        if reference is None or reference.kind != LINE:
            resource = self._view.table.resource
            raise errors.undecodable_pkey(token, resource.plural, resource.schema)
        return reference.number

    def _sorted(self, order: str) -> list[Record]:
        """Return the matching records in the order of `email`, `email desc`, or several of these, comma-separated.

        Decodes the order a second time, since Adobe's Node client encodes the space twice.
        """
        table = self._view.table
        changes = sum(table.changes for table in self._campaign.tables.values())  # parents make a record visible
        sort = None if self._filtered or self._among is not None else (order, self._view.path, changes)
        if sort and table.in_order[0] == sort:
            return table.in_order[1]
        records = list(self._matches(self._candidates()))
        for part in reversed(unquote(order).split(",")):
            name, _, direction = part.strip().partition(" ")
            by_created = self._campaign.settings.order_by_created if name == "created" else "kept"
            if name not in self._view.fields or by_created == "refused":
                raise self._view.unknown_attribute(name)
            if by_created == "ignored":
                continue
            descending = direction.strip().lower() == "desc"
            records.sort(key=lambda record, name=name: self._view.value(record, name), reverse=descending)
        if sort:
            table.in_order = (sort, records)
        return records

    def _href(self, base: str, path: str, parameters: dict[str, str]) -> str:
        settings = self._campaign.settings
        query = {name: value for name, value in self._query.items() if name != "_lineStart"} | parameters
        start = "" if settings.relative_links else base
        slash = "/" if settings.double_slash_links and path else ""
        text = urlencode(query, quote_via=quote, safe="@")
        return f"{start}{self._under}{slash}{quote(path, safe='/@')}" + (f"?{text}" if text else "")

    def _test(self, filter_: Filter) -> Test:
        """Return the condition of a filter. Without its parameter, as with a misspelt one, it lets all records pass."""
        if filter_.operator == "not_built":
            raise errors.not_built(f"The filter '{filter_.name}'")
        value = self._query.get(filter_.parameter)
        if value is None:
            return lambda record: True
        if filter_.operator == "text":
            return self._text(value)
        name = filter_.attribute
        if filter_.operator == "record":
            reference = self._campaign.tokens.read(value)
            number = reference.number if reference is not None and reference.kind == RECORD else 0
            return lambda record: record.serial == number
        field = self._view.table.resource.fields[name]
        if filter_.operator == "prefix":
            return lambda record: record.values.get(name, "").startswith(value)
        operand = converter(field, self._view.table.resource.schema, policies=False, cut=True)(value)
        if name == self._view.table.resource.key and operand:
            serials = {known.serial for known in self._view.table.with_key(operand)}  # by index instead of a scan
            self._among = serials if self._among is None else self._among & serials
            return lambda record: True
        empty = field.empty
        return lambda record: record.values.get(name, empty) == operand

    def _text(self, value: str) -> Test:
        """Return the condition of `byText`: email or last name begins with the text, case-sensitive.

        `filterType` selects another attribute instead of these two.
        """
        names = ("email", "lastName")
        if narrowed := self._query.get("filterType"):
            if narrowed not in self._view.fields:
                raise self._view.unknown_attribute(narrowed)
            names = (narrowed,)
        return lambda record: any(str(record.values.get(name, "")).startswith(value) for name in names)
