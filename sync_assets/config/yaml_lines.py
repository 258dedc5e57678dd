"""Parse a YAML text to plain data, with the line number of every value.

Follows YAML 1.2: only `true` and `false` are booleans; `no`, `on`, `01234` and dates stay texts. So does a number with
a plus, as `+49`: as a number it would lose the plus. Tags and duplicate keys are reported as problems, so that a value
is what it looks like. The lines of merged values (`<<: *name`) are those where they are written.
"""

import re
from typing import Any

import yaml

from sync_assets.config.cross_checks import Path as Place
from sync_assets.config.cross_checks import Problem

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


class Document:
    """A file as plain data, with line numbers, and its findings as YAML."""

    def __init__(self, text: str) -> None:
        self.findings: list[Problem] = []
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

    def _plain(self, node: yaml.Node, place: Place) -> Any:
        self._lines.setdefault(tuple(map(str, place)), node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._plain(item, (*place, n)) for n, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, place, {})
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place, data: dict[Any, Any]) -> dict[Any, Any]:
        """Add the values of `node`, and of those merged into it, to `data`. Values that are there already stay."""
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
