"""Answer requests for metadata: `EntityDefinitions`, `RelationshipDefinitions`
(docs/dev/references/dataverse.md 2.5)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse import describe
from sync_assets.sandbox.dataverse.call import Call, json_answer, no_content
from sync_assets.sandbox.dataverse.columns import metadata_id
from sync_assets.sandbox.dataverse.describe import Document
from sync_assets.sandbox.dataverse.errors import (
    DataverseError,
    bad_query,
    no_such_property,
    no_such_segment,
    not_allowed,
    not_built,
)
from sync_assets.sandbox.dataverse.filters import ExpressionParser, tokens
from sync_assets.sandbox.dataverse.keys import parse_pairs
from sync_assets.sandbox.dataverse.relations import relations
from sync_assets.sandbox.dataverse.store import Store
from sync_assets.sandbox.dataverse.values import GUID

_NAMESPACE = "Microsoft.Dynamics.CRM."
_RELATIONSHIPS = frozenset({"OneToManyRelationships", "ManyToOneRelationships", "ManyToManyRelationships"})
_EXPANDABLE = frozenset({"OptionSet", "GlobalOptionSet"})


def definitions(call: Call) -> Answer:
    """Answer a request whose path begins with EntityDefinitions."""
    call.touches("read")
    if call.method != "GET":
        if call.method in ("POST", "PUT", "DELETE"):
            raise not_built("Changing metadata through the Web API (the sandbox's admin interface does it)")
        raise not_allowed(f"The method {call.method} is not allowed for metadata.")
    _check_options(call)
    first, *further = call.segments
    if first.key is None:
        documents = [_expanded(call, store, describe.table(store)) for store in call.org.stores.values()]
        return _collection(call, documents, "EntityDefinitions", "EntityMetadata", call.options)
    store = _store(call, first.key)
    if not further:
        document = _selected(
            _expanded(call, store, describe.table(store)), call.options.get("$select"), "EntityMetadata"
        )
        context = f"{call.api}/$metadata#EntityDefinitions/$entity"
        return json_answer({"@odata.context": context, **document})
    name = further[0].name
    if name == "Attributes":
        return _attributes(call, store)
    path = f"EntityDefinitions('{store.table.name}')/{name}"
    if len(further) > 1 or further[0].key is not None:
        raise not_built(f"The path '{call.path}'")
    if name == "Keys":
        keys = [describe.alternate_key(store.table, key) for key in store.table.keys]
        return _collection(call, keys, path, "EntityKeyMetadata", call.options)
    if name in _RELATIONSHIPS:
        return _collection(call, _relationships(call, store, name), path, "OneToManyRelationshipMetadata", call.options)
    document = describe.table(store)
    if name not in document:
        raise no_such_segment(name)
    return json_answer({"@odata.context": f"{call.api}/$metadata#{path}", "value": document[name]})


def relationships(call: Call) -> Answer:
    """Answer `RelationshipDefinitions`: those of all tables, or one by its SchemaName or MetadataId."""
    call.touches("read")
    if call.method != "GET":
        raise not_built("Changing metadata through the Web API")
    _check_options(call)
    documents = [describe.relationship(relation) for relation in relations(call.org.stores, call.org.switches)]
    for cast in call.segments[1:]:
        documents = [document for document in documents if document["@odata.type"] == f"#{cast.name}"]
    if (key := call.segments[0].key) is None:
        return _collection(call, documents, "RelationshipDefinitions", "RelationshipMetadataBase", call.options)
    name = key.strip().lower() if GUID.fullmatch(key.strip()) else parse_pairs(key).get("SchemaName", "").lower()
    for document in documents:
        if name in (document["MetadataId"], document["SchemaName"].lower()):
            context = f"{call.api}/$metadata#RelationshipDefinitions/$entity"
            selected = _selected(document, call.options.get("$select"), "RelationshipMetadataBase")
            return json_answer({"@odata.context": context, **selected})
    raise DataverseError(404, "0x80060888", f"Could not find a relationship with the key ({key}).")


def global_option_sets(call: Call) -> Answer:
    """Answer `GlobalOptionSetDefinitions`: none, since the option set of each emulated column is a local one."""
    call.touches("read")
    if call.method != "GET":
        raise not_built("Changing metadata through the Web API")
    _check_options(call)
    if (key := call.segments[0].key) is not None:
        raise DataverseError(404, "0x80060888", f"Could not find a global option set with the key ({key}).")
    return _collection(call, [], "GlobalOptionSetDefinitions", "OptionSetMetadataBase", call.options)


def _check_options(call: Call) -> None:
    for name in call.options:
        if name.startswith("$") and name not in ("$select", "$filter", "$expand"):
            raise not_built(f"The query option '{name}' for metadata")


def _relationships(call: Call, store: Store, name: str) -> list[Document]:
    """Return a table's relationships. OneToMany: lookups to it; ManyToOne: its lookups; ManyToMany: none emulated."""
    side = {"OneToManyRelationships": "parent", "ManyToOneRelationships": "child"}.get(name)
    return [
        describe.relationship(relation)
        for relation in relations(call.org.stores, call.org.switches)
        if side is not None and getattr(relation, side) is store
    ]


def _store(call: Call, key: str) -> Store:
    """Return a table by `LogicalName='contact'` or by MetadataId. Raises DataverseError."""
    name = key.strip().lower()
    if not GUID.fullmatch(name):
        name = metadata_id(parse_pairs(key).get("LogicalName", ""))
    for store in call.org.stores.values():
        if metadata_id(store.table.name) == name:
            return store
    raise DataverseError(404, "0x80060888", f"Could not find an entity with the key ({key}) in the MetadataCache.")


def _attributes(call: Call, store: Store) -> Answer:
    """Answer `Attributes`, one attribute, or those of a type, as `Attributes/<namespace>.StringAttributeMetadata`."""
    segment = call.segments[1]
    if len(call.segments) > 4 or (len(call.segments) > 2 and not call.segments[2].name.startswith(_NAMESPACE)):
        raise not_built(f"The path '{call.path}'")
    cast = call.segments[2].name.removeprefix(_NAMESPACE) if len(call.segments) > 2 else None
    path = f"EntityDefinitions('{store.table.name}')/Attributes"
    names = list(store.columns)
    if segment.key is not None:
        names = [_column_name(store, segment.key)]
    documents = [_attribute(store, name, cast, call.options) for name in names if _is_a(store, name, cast)]
    type_name = cast or "AttributeMetadata"
    if cast is not None:
        path = f"{path}/{_NAMESPACE}{cast}"
    if segment.key is None:
        return _collection(call, documents, path, type_name, call.options)
    if not documents:
        raise no_such_segment(f"{_NAMESPACE}{cast}")
    if len(call.segments) > 3:
        return _part_of_attribute(call, store, names[0], f"{path}/{call.segments[3].name}")
    document = _selected(documents[0], call.options.get("$select"), type_name)
    return json_answer({"@odata.context": f"{call.api}/$metadata#{path}/$entity", **document})


def _part_of_attribute(call: Call, store: Store, column: str, path: str) -> Answer:
    """Answer `<attribute>/<cast>/OptionSet`, and `GlobalOptionSet`, which no column has."""
    name = call.segments[3].name
    option_set = describe.options(store.table, store.columns[column])
    if name not in _EXPANDABLE or option_set is None:
        raise no_such_segment(name)
    if name == "GlobalOptionSet":
        return no_content()
    select = call.options.get("$select")
    context = f"{call.api}/$metadata#{path}{f'({select})' if select else ''}/$entity"
    return json_answer({"@odata.context": context, **_selected(option_set, select, "OptionSetMetadata")})


def _column_name(store: Store, key: str) -> str:
    column_key = key.strip().lower()
    if not GUID.fullmatch(column_key):
        column_key = metadata_id(store.table.name, parse_pairs(key).get("LogicalName", ""))
    for name in store.columns:
        if metadata_id(store.table.name, name) == column_key:
            return name
    raise DataverseError(404, "0x80060888", f"Could not find an attribute with the key ({key}) in {store.table.name}.")


def _is_a(store: Store, name: str, cast: str | None) -> bool:
    return cast in (None, "AttributeMetadata", describe.type_name(store.columns[name]))


def _attribute(store: Store, name: str, cast: str | None, options: dict[str, str]) -> Document:
    """Return the document of a column. Members of its specific type can be selected or expanded with a cast only."""
    column = store.columns[name]
    own_type = describe.type_name(column)
    document: Document = {"@odata.type": f"#{_NAMESPACE}{own_type}"}
    document |= describe.column(store.table, column, store.position[name] + 1)
    expanding = _expand(options.get("$expand"))
    if cast is None:
        if expanding:
            raise no_such_property(next(iter(expanding)), "AttributeMetadata")
        # Without $select, members of the specific type are included; $select can contain common members only.
        return document if "$select" in options else document | describe.details(column)
    document |= describe.details(column)
    for navigation, inner in expanding.items():
        if navigation not in _EXPANDABLE or (option_set := describe.options(store.table, column)) is None:
            raise no_such_property(navigation, cast)
        is_global = navigation == "GlobalOptionSet"
        document[navigation] = None if is_global else _selected(option_set, inner.get("$select"), "OptionSetMetadata")
    return document


def _expanded(call: Call, store: Store, document: Document) -> Document:
    """Add the `$expand`ed columns, keys and relationships to the document of a table."""
    for name, inner in _expand(call.options.get("$expand")).items():
        if name == "Attributes":
            columns = [_attribute(store, column, None, inner) for column in store.columns]
            document[name] = _shown(call, columns, "AttributeMetadata", inner)
        elif name == "Keys":
            keys = [describe.alternate_key(store.table, key) for key in store.table.keys]
            document[name] = _shown(call, keys, "EntityKeyMetadata", inner)
        elif name in _RELATIONSHIPS:
            document[name] = _shown(call, _relationships(call, store, name), "OneToManyRelationshipMetadata", inner)
        else:
            raise no_such_property(name, "EntityMetadata")
    return document


def _expand(text: str | None) -> dict[str, dict[str, str]]:
    """Parse `A($select=x,y;$filter=z),B` into {"A": {"$select": "x,y", "$filter": "z"}, "B": {}}."""
    expansions: dict[str, dict[str, str]] = {}
    for match in re.finditer(r"\s*(\w+)\s*(?:\(((?:[^()]|\([^()]*\))*)\))?\s*(?:,|$)", text or ""):
        options = (part.partition("=") for part in (match[2] or "").split(";") if part.strip())
        expansions[match[1]] = {name.strip(): value for name, _, value in options}
    return expansions


# Selecting and filtering documents


def _collection(call: Call, documents: list[Document], path: str, type_name: str, options: dict[str, str]) -> Answer:
    """Return a collection. Metadata is not paged (2.5)."""
    selected = _shown(call, documents, type_name, options)
    return json_answer({"@odata.context": f"{call.api}/$metadata#{path}", "value": selected})


def _shown(call: Call, documents: Iterable[Document], type_name: str, options: dict[str, str]) -> list[Document]:
    if "$filter" in options:
        parser = _MetadataParser(tokens(options["$filter"]), options)
        test = parser.disjunction()
        parser.end()
        documents = [document for document in documents if test(document) is True]
    return [_selected(document, options.get("$select"), type_name) for document in documents]


def _selected(document: Document, select: str | None, type_name: str) -> Document:
    if select is None:
        return document
    always = {"@odata.type", "MetadataId", *_EXPANDABLE, "Attributes", "Keys", *_RELATIONSHIPS}
    names = [name.strip() for name in select.split(",") if name.strip()]
    for name in names:
        if name not in document and not name.startswith("@"):
            raise no_such_property(name, type_name)
    return {name: value for name, value in document.items() if name in names or name in always}


class _MetadataParser(ExpressionParser[Document]):
    """Parser of filters over metadata: comparisons with literals, no functions."""

    def __init__(self, parts: list[tuple[str, str]], aliases: dict[str, str]) -> None:
        super().__init__(parts)
        self._aliases = aliases

    def comparison(self) -> Callable[[Document], bool | None]:
        kind, path = self.next()
        if kind == "name" and self.take("("):
            # String functions are not supported for metadata (2.5).
            raise DataverseError(501, "0x8006088a", f"The '{path}' function isn't supported for Metadata Entities.")
        sign = self.next()[1]
        if kind != "name" or sign not in ("eq", "ne"):
            raise bad_query(f"The filter on metadata needs 'property eq value', not '{path} {sign}'.")
        value = self._value()
        test = operator.eq if sign == "eq" else operator.ne
        return lambda document: test(_folded(_follow(document, path)), value)

    def _value(self) -> Any:
        kind, text = self.next()
        if text.startswith("@"):
            kind, text = tokens(self._aliases.get(text, "null"))[0]
        if text.startswith(_NAMESPACE):  # an enumeration's member: Namespace.Type'Member'
            kind, text = self.next()
        match kind:
            case "text":
                return text[1:-1].replace("''", "'").casefold()
            case "number":
                return int(text)
            case _:
                return {"true": True, "false": False, "null": None}.get(text, text.casefold())


def _follow(document: Document, path: str) -> Any:
    value: Any = document
    for name in path.split("/"):
        if not isinstance(value, dict) or name not in value:
            raise bad_query(f"Could not find a property named '{path}' on the metadata type.")
        value = value[name]
    return value


def _folded(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value
