"""Parse `$filter` into a predicate over rows (docs/dev/references/dataverse.md 2.2).

The logic is three-valued, as in the real server's database: a comparison with null is neither true nor false (None
here), and only rows with a true result are returned. So `not contains(lastname,'x')` excludes rows without a last name.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from sync_assets.sandbox.dataverse import operators
from sync_assets.sandbox.dataverse.errors import DataverseError, bad_query, no_such_property
from sync_assets.sandbox.dataverse.operators import Literal, Operand, Predicate
from sync_assets.sandbox.dataverse.organization import Organization
from sync_assets.sandbox.dataverse.store import Row, Store

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<guid>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})
    | (?P<time>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?)
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"\\]|\\.|"")*")
    | (?P<name>@?[A-Za-z_][\w.]*(?:/[A-Za-z_][\w.]*)*)
    | (?P<sign>[(),=\[\]:])
    )""",
    re.VERBOSE,
)
_COMPARISONS = frozenset({"eq", "ne", "gt", "ge", "lt", "le"})
_TEXT_FUNCTIONS = frozenset({"contains", "startswith", "endswith"})
_NAMESPACE = "Microsoft.Dynamics.CRM."
Thing = TypeVar("Thing")


def compile_filter(text: str, store: Store, org: Organization, aliases: Mapping[str, str]) -> Callable[[Row], bool]:
    """Return the predicate of a `$filter`. Raises DataverseError.

    Args:
        text: Of the filter.
        store: Of the table.
        org: The organization, for filters over other tables.
        aliases: Query parameters, for parameter aliases such as `@p1`.
    """
    parser = _Parser(tokens(text), store, org, aliases)
    predicate = parser.disjunction()
    parser.end()
    return lambda row: predicate(row) is True


def tokens(text: str) -> list[tuple[str, str]]:
    """Split a filter into (kind, text). Raises DataverseError."""
    result: list[tuple[str, str]] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            if "'" in text[at:]:
                raise bad_query(f"There is an unterminated literal at position {len(text)} in '{text}'.")
            raise bad_query(f"Syntax error at position {at} in '{text}'.")
        assert match.lastgroup is not None
        result.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return result


class ExpressionParser(ABC, Generic[Thing]):
    """Parser of the grammar that all filters share. Subclasses define the comparisons."""

    def __init__(self, parts: list[tuple[str, str]]) -> None:
        self._tokens = parts
        self.at = 0

    @abstractmethod
    def comparison(self) -> Callable[[Thing], bool | None]:
        """Parse one comparison, beginning at the present token."""

    def disjunction(self) -> Callable[[Thing], bool | None]:
        left = self._conjunction()
        while self.take("or"):
            left = operators.either(left, self._conjunction())
        return left

    def _conjunction(self) -> Callable[[Thing], bool | None]:
        left = self._negation()
        while self.take("and"):
            left = operators.both(left, self._negation())
        return left

    def _negation(self) -> Callable[[Thing], bool | None]:
        if self.take("not"):
            return operators.negated(self._negation())
        if self.take("("):
            inner = self.disjunction()
            self.expect(")")
            return inner
        return self.comparison()

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        at = self.at + ahead
        return self._tokens[at] if at < len(self._tokens) else ("end", "")

    def next(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def take(self, text: str) -> bool:
        """Consume the word or sign, and return True, if it is the next token."""
        matches = self.peek() in (("name", text), ("sign", text))
        self.at += matches
        return matches

    def expect(self, sign: str) -> None:
        if not self.take(sign):
            raise self.unexpected(f"'{sign}' expected")

    def end(self) -> None:
        if self.peek()[0] != "end":
            raise self.unexpected("end of the expression expected")

    def unexpected(self, expected: str) -> DataverseError:
        shown = " ".join(text for _, text in self._tokens)
        return bad_query(f"Syntax error: {expected} at token {self.at + 1} in '{shown}'.")


class _Parser(ExpressionParser[Row]):
    """Parser of filters over rows."""

    def __init__(
        self,
        parts: list[tuple[str, str]],
        store: Store,
        org: Organization,
        aliases: Mapping[str, str],
        variable: str | None = None,
    ) -> None:
        super().__init__(parts)
        self._store = store
        self._org = org
        self._aliases = aliases
        self._variable = variable
        """Range variable of any/all: the name before the slash of each property."""

    def comparison(self) -> Predicate:
        kind, text = self.peek()
        if kind == "name" and self.peek(1) == ("sign", "("):
            if text in _TEXT_FUNCTIONS:
                return self._text_function(text)
            if text.startswith(_NAMESPACE):
                return self._named_function(text.removeprefix(_NAMESPACE))
            if text.rpartition("/")[2] in ("any", "all"):
                return self._lambda(*text.rpartition("/")[::2])
            raise bad_query(f"An unknown function with name '{text}' was found.")
        left = self._operand()
        operator = self.next()[1]
        if operator not in _COMPARISONS:
            self.at -= 1
            if isinstance(left, Operand) and left.column is not None and left.column.type == "Boolean":
                return operators.compare("eq", left, Literal("name", "true"))
            raise self.unexpected("a comparison expected")
        return operators.compare(operator, left, self._operand())

    def _operand(self) -> Operand | Literal:
        kind, text = self.next()
        if kind == "end":
            raise self.unexpected("a value expected")
        if kind in ("text", "quoted"):
            escape = r"(')'" if kind == "text" else r'[\\"](.)'
            return Literal("text", re.sub(escape, r"\1", text[1:-1]))
        if kind in ("guid", "time", "number") or text in ("null", "true", "false"):
            return Literal(kind, text)
        if kind == "sign":
            self.at -= 1
            raise self.unexpected("a property or a value expected")
        if text.startswith("@"):
            return self._alias(text)._operand()
        return self._property(text)

    def _alias(self, name: str) -> _Parser:
        """Return a parser of the value of a parameter alias."""
        if name not in self._aliases:
            raise bad_query(f"The parameter alias '{name}' has no value in the query.")
        return _Parser(tokens(self._aliases[name]), self._store, self._org, {})

    def _property(self, path: str) -> Operand:
        if self._variable is not None:
            variable, _, path = path.partition("/")
            if variable != self._variable:
                raise bad_query(f"'{variable}' is not the range variable '{self._variable}'.")
        return operators.operand(path, self._store, self._org)

    def _text_function(self, name: str) -> Predicate:
        self.next()
        self.expect("(")
        operand = self._operand()
        self.expect(",")
        argument = self._operand()
        self.expect(")")
        if self.peek() == ("name", "eq") and self.peek(1) == ("name", "true"):
            self.at += 2
        if not isinstance(operand, Operand) or not isinstance(argument, Literal) or argument.kind != "text":
            raise bad_query(
                f"No function signature for the function with name '{name}' matches the specified arguments."
            )
        return operators.text_function(name, operand, argument.text)

    def _named_function(self, name: str) -> Predicate:
        self.next()
        self.expect("(")
        arguments: dict[str, Any] = {}
        while not self.take(")"):
            _, parameter = self.next()
            self.expect("=")
            arguments[parameter] = self._argument()
            self.take(",")
        name_of_property = arguments.pop("PropertyName", "")
        column = self._store.columns.get(name_of_property)  # of a lookup, the logical name works, too
        operand = self._property(name_of_property if column is None else column.json_name)
        return operators.named_function(name, operand, arguments, self._org)

    def _argument(self) -> str | list[str]:
        kind, text = self.peek()
        if kind == "name" and text.startswith("@"):
            self.next()
            return self._alias(text)._argument()
        return self._list() if self.take("[") else self._plain_value()

    def _list(self) -> list[str]:
        values: list[str] = []
        while not self.take("]"):
            values.append(self._plain_value())
            self.take(",")
        return values

    def _plain_value(self) -> str:
        value = self._operand()
        if not isinstance(value, Literal):
            raise self.unexpected("a literal expected")
        return value.text

    def _lambda(self, collection: str, quantifier: str) -> Predicate:
        """Parse `nav/any(o:o/x eq 1)` or `all`. Evaluates the inner filter once for all rows of the other table."""
        link = self._store.table.collections.get(collection)
        if link is None:
            raise no_such_property(collection, self._store.table.name)
        child = self._org.store(link[0])
        parent_at = child.position[link[1]]
        self.next()
        self.expect("(")
        if quantifier == "any" and self.take(")"):
            parents = {row[parent_at] for row in child.in_key_order()}
            return lambda row: row[self._store.key_at] in parents
        variable = self.next()[1]
        self.expect(":")
        inner = _Parser(self._tokens, child, self._org, self._aliases, variable)
        inner.at = self.at
        predicate = inner.disjunction()
        self.at = inner.at
        self.expect(")")
        key_at = self._store.key_at
        if quantifier == "any":
            matching = {row[parent_at] for row in child.in_key_order() if predicate(row) is True}
            return lambda row: row[key_at] in matching
        failing = {row[parent_at] for row in child.in_key_order() if predicate(row) is not True}
        return lambda row: row[key_at] not in failing
