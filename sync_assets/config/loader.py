"""Load the configuration file as `Config`, or report all its problems with line numbers and remedies.

It follows YAML 1.2: only `true` and `false` are booleans; `no`, `on`, `01234` and dates stay texts. So does a number
with a plus, as `+49`: as a number it would lose the plus. Tags and duplicate keys are reported as problems, so that a
value is what it looks like. The lines of merged values (`<<: *name`) are those where they are written.
"""

import re
import types
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from sync_assets.config.cross_checks import Path as Place
from sync_assets.config.cross_checks import Problem, check
from sync_assets.config.models import Config, TableConfig, TableOptions
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import printable
from sync_assets.words import did_you_mean

_WHOLE = "tag:yaml.org,2002:int"


class _Loader(yaml.SafeLoader):
    """Composes nodes; resolves plain scalars by YAML 1.2, not 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^([Tt]rue|TRUE|[Ff]alse|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_WHOLE, re.compile(r"^-?(0|[1-9][0-9]*)$"), list("-0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"), list("-0123456789")
)


MOST_VALUES = 100_000
"""Of a file with its aliases: ten lines, each of which repeats the one before, can stand for billions."""


class Document:
    """A file as plain data, with line numbers, and its findings as YAML."""

    def __init__(self, text: str) -> None:
        self.findings: list[Problem] = []
        self._values = 0
        self._lines: dict[tuple[str, ...], int] = {(): 1}
        self.data: Any = None
        try:
            if (node := yaml.compose(text, Loader=_Loader)) is not None:
                self.data = self._plain(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._report_syntax(mark.line + 1 if mark else 1, error.problem or "it cannot be read")
        except yaml.reader.ReaderError as error:
            self._report_syntax(text.count("\n", 0, error.position) + 1, "it contains a control character")
        except RecursionError:
            self._report_syntax(1, "it is nested too deeply, or aliases (`*name`) form a circle")

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the innermost place around it that exists."""
        where = tuple(map(str, place))
        while where not in self._lines:
            where = where[:-1]
        return self._lines[where]

    def has(self, place: Place) -> bool:
        return tuple(map(str, place)) in self._lines

    def copy_lines(self, source: Place, target: Place) -> None:
        """Give `target`, and all that is in it, the lines of `source`."""
        start, to = tuple(map(str, source)), tuple(map(str, target))
        inside = {to + place[len(start) :]: n for place, n in self._lines.items() if place[: len(start)] == start}
        self._lines |= inside

    def _report_syntax(self, line: int, problem: str) -> None:
        self._lines[("syntax",)] = line
        self.findings.append(
            (("syntax",), f"this is not valid YAML: {problem}", "check quotes, colons and indentation")
        )

    def _refuse(self, place: Place, node: yaml.Node, problem: str, remedy: str) -> None:
        self._lines.setdefault(tuple(map(str, place)), node.start_mark.line + 1)
        self.findings.append((place, problem, remedy))

    def _count(self) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"with its aliases (`*name`) it has more than {MOST_VALUES:,} values")

    def _plain(self, node: yaml.Node, place: Place) -> Any:
        self._count()
        self._lines.setdefault(tuple(map(str, place)), node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._plain(item, (*place, n)) for n, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, place, {})
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place, data: dict[Any, Any]) -> dict[Any, Any]:
        """Add the values of `node`, and of those merged into it, to `data`. Values that are there already stay."""
        self._count()
        written: set[Any] = set()
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(place, key_node, "a key is one plain value", "remove the brackets around it")
                continue
            key = self._scalar(key_node, place)
            key_place = (*place, key)
            if not place and isinstance(key, str) and key.startswith("x-"):
                continue  # for anchors
            if key == "<<":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            if key in written:  # also 1 and true, which are the same key in Python
                first = self.line(key_place if self.has(key_place) else place)
                text = f"`{key_node.value}` occurs twice, first in line {first}"
                self._refuse((*key_place, "again"), key_node, text, "keep one of the two")
                continue
            written.add(key)
            if key not in data:
                self._lines[tuple(map(str, key_place))] = key_node.start_mark.line + 1
                data[key] = self._plain(value_node, key_place)
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                self._refuse((*place, "<<"), other, "`<<` merges keys and values", "write e.g. `<<: *name`")
            else:
                self._mapping(other, place, data)
        return data

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        try:
            match kind:
                case "str":
                    return str(node.value)
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[node.value.lower()]
                case "int":
                    return int(node.value)
                case "float":
                    return float(node.value)
                case _:
                    self._refuse(place, node, "tags (`!...`) are not supported", "write plain values")
        except (KeyError, ValueError):
            self._refuse(place, node, f"this value is not of type {kind}", "remove the tag before it")
        return None


_SECRET = re.compile(r"secret|passw|passphrase|token|credential|api_?key|private_?key", re.IGNORECASE)

_EXAMPLES = {
    "privacy_acknowledged": "privacy_acknowledged: true",
    "tables": "tables: [{table: contact, resource: profile, key: externalId, fields: {firstname: firstName}}]",
    "table": "table: contact",
    "resource": "resource: profile",
    "key": "key: externalId",
    "to": "to: firstName",
    "field": "field: statecode",
    "is": "is: eq",
    "rules": "rules: [{field: statecode, is: eq, value: 0}]",
    "name": "name: byExternalId",
    "parameter": "parameter: externalId_parameter",
    "host": "host: smtp.example.com",
    "from": "from: sync@example.com",
}
"""Required key -> example shown if it is missing."""

_EXAMPLES_IN = {
    ("links", "field"): "field: new_contactid",
    ("links", "to"): "to: cusContactLink",
    ("mappings", "to"): "to: blackListEmail",
    ("email", "to"): "to: [ops@example.com]",
}
"""The same for keys with another meaning within a part of the file."""

_MUST_BE = {
    "bool_type": "true or false",
    "string_type": "a text (put it in quotes if it looks like a number)",
    "int_type": "a whole number",
    "float_type": "a number",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "tuple_type": "a list (each entry begins with `- `)",
}
"""pydantic's error type -> description of a valid value."""


class ConfigError(SyncAssetsError):
    """The configuration file is invalid. problems: one line each, `<file>:<line>: problem; remedy`."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(map(printable, problems))
        super().__init__("\n".join(self.problems))


def load_config(path: Path | str) -> Config:
    """Load the configuration file at `path`. Raises ConfigError with all its problems."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: the file is not UTF-8; save the file as UTF-8"]) from None
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise ConfigError(
            [f"{path}:1: cannot be opened ({reason}); set SYNC_ASSETS_CONFIG to a file that can be read"]
        ) from None
    return parse_config(text, str(path))


def parse_config(text: str, name: str) -> Config:
    """Parse a configuration. Raises ConfigError. name: of the file, for its messages."""
    document = Document(text)
    config, findings = None, document.findings
    if isinstance(document.data, dict) and document.data:
        defaults, tables = document.data.get("defaults"), document.data.get("tables")
        if isinstance(defaults, dict) and isinstance(tables, list):
            options = (key for key in TableOptions.model_fields if key in defaults)
            for key, (n, table) in product(options, enumerate(tables)):
                if isinstance(table, dict) and key not in table:
                    table[key] = defaults[key]
                    document.copy_lines(("defaults", key), ("tables", n, key))
        try:
            config = Config.model_validate(document.data)
        except ValidationError as error:
            findings += _of_models(error, document)
        findings += check(document.data, document.line)
    elif not findings:
        findings.append(((), "the file is not a configuration", f"begin with `{_EXAMPLES['privacy_acknowledged']}`"))
    if findings or config is None:
        lines = {(document.line(place), f"{problem}; {remedy}") for place, problem, remedy in findings}
        raise ConfigError([f"{name}:{line}: {message}" for line, message in sorted(lines)])
    config.read_from(str(Path(name).absolute()), document.line)
    return config


def _of_models(error: ValidationError, document: Document) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        place: Place = ()
        known = detail["type"]
        for step in detail["loc"]:  # some steps are not in the file: `[key]`, a missing key
            if document.has((*place, step)):
                place = (*place, step)
        if known == "too_short" and detail["input"]:
            continue  # not empty, but no entry is valid, and each is reported by itself
        name = str(detail["loc"][-1]) if known in ("missing", "extra_forbidden") else _name(place)
        context = detail.get("ctx", {})
        if known == "config":
            yield place, context["problem"], context["remedy"]
        elif known == "missing":
            of = f" in `{_name(place)}`" if place else ""
            yield place, f"`{name}` is missing{of}", f"write e.g. `{_example(name, place)}`"
        elif known in ("extra_forbidden", "invalid_key"):
            yield _unknown_key(place, name)
        elif known == "too_short":
            yield place, f"`{name}` is empty", f"write e.g. `{_example(name, place)}`"
        else:
            expected = detail["msg"].replace("Input should be ", "").replace("String should have ", "")
            remedy = f"write {_MUST_BE[known]}" if known in _MUST_BE else f"it must be {expected}"
            if known == "literal_error":
                remedy = "write " + context["expected"].replace("'", "")
            yield place, f"`{name}` cannot be {_shown(detail['input'])}", remedy


def _name(place: Place) -> str:
    """Return the name of a place for messages: its key, or `rules[2]` for an entry of a list."""
    if len(place) > 1 and isinstance(place[-1], int) and place[-2] in ("tables", "rules", "links"):
        return f"{place[-2]}[{place[-1]}]"
    return str(place[-1]) if place else "the file"


def _example(name: str, place: Place) -> str:
    within = (text for (around, key), text in _EXAMPLES_IN.items() if key == name and around in place)
    return next(within, _EXAMPLES.get(name, f"{name}: ..."))


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list | tuple):
        return "a list"
    shown = f"`{value}`" if len(str(value)) <= 40 else "such a long value"
    return "a URL" if "://" in shown else shown  # it may hold a secret, as that of a webhook does


def _unknown_key(place: Place, name: str) -> Problem:
    if _SECRET.search(name):
        return (
            place,
            f"`{name}` looks like a secret, and this file must hold no secret",
            "remove it, set it in the environment (e.g. D365_CLIENT_SECRET), and renew it if others saw the file",
        )
    if place[:-1] == ("defaults",) and name in TableConfig.model_fields:
        return place, f"`{name}` belongs to one table", "write it under `tables`"
    known = _known_keys(place[:-1])
    meant = did_you_mean(name, known)
    return place, f"unknown key `{name}`", f"did you mean `{meant}`?" if meant else f"write one of {', '.join(known)}"


def _known_keys(place: Place) -> list[str]:
    kind: Any = Config
    for step in place:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is tuple or origin is dict:
            kind = arguments[0] if origin is tuple else arguments[1]
        elif _is_model(kind) and step in (keys := _keys(kind)):
            kind = keys[step]
        else:
            return []
        while get_origin(kind) in (Annotated, Union, types.UnionType):
            kind = get_args(kind)[0]
    return list(_keys(kind)) if _is_model(kind) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _keys(model: type[BaseModel]) -> dict[Any, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}
