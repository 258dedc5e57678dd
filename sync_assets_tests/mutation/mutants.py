"""List the mutants of a module: copies of its syntax tree that differ in one place.

Changed are comparisons, boolean operators, arithmetic, constants, members of enumerations, returns, conditions,
statements, members of sets, lists and dicts, keyword arguments, and conditions in SQL. Not changed are annotations,
docstrings and prose (a text of more than PROSE characters), which are no rules.
"""

import ast
import re
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path

PROSE = 40
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Mod: ast.Mult,
}
_FUNCTIONS = {"any": "all", "all": "any", "min": "max", "max": "min"}
_SQL = re.compile(r"\b(SELECT|UPDATE|DELETE|WHERE|EXISTS|NULL)\b|\bstate [<>=]")
_SQL_CONDITION = re.compile(r"\b(?:WHERE|ON)\b")
_SQL_CHANGES = (
    (re.compile(r"<>"), ("=",)),
    (re.compile(r"(?<![<>])=(?!=)"), ("<>",)),
    (re.compile(r">(?![=])(?<!<>)"), (">=", "<=")),
    (re.compile(r"<(?![=>])"), ("<=", ">=")),
    (re.compile(r">="), (">", "<")),
    (re.compile(r"<="), ("<", ">")),
    (re.compile(r"\bIS NULL\b"), ("IS NOT NULL",)),
    (re.compile(r"\bIS NOT NULL\b"), ("IS NULL",)),
    (re.compile(r"\bAND\b"), ("OR",)),
    (re.compile(r"\bOR\b"), ("AND",)),
    (re.compile(r"\bNOT EXISTS\b"), ("EXISTS",)),
    (re.compile(r"(?<!NOT )\bEXISTS\b"), ("NOT EXISTS",)),
    (re.compile(r"\bIN \("), ("NOT IN (",)),
    (re.compile(r"(?<!SELECT )(?<=[(=<>, ])\d+(?=[), ]|$)"), ("9",)),
)


@dataclass(frozen=True)
class Mutant:
    """A change of one node of a syntax tree: `owner.field`, or its item `index`, becomes `new`; None removes it."""

    path: Path
    function: str
    line: int
    change: str
    owner: ast.AST
    field: str
    index: int | None
    new: ast.AST | None

    @property
    def name(self) -> str:
        """The change without its line, as `equivalents.py` lists it."""
        return f"{self.path.name} {self.function}: {self.change}"

    def apply(self) -> None:
        """Change the tree. It cannot be changed back."""
        if self.index is None:
            setattr(self.owner, self.field, self.new)
        elif self.new is None:
            for members in ("keys", "values") if isinstance(self.owner, ast.Dict) else (self.field,):
                del getattr(self.owner, members)[self.index]
        else:
            getattr(self.owner, self.field)[self.index] = self.new


class Mutants:
    """The mutants of one module. sql_only: leave the code around the SQL as it is."""

    def __init__(self, path: Path, enums: dict[str, list[str]], *, sql_only: bool = False) -> None:
        self._path, self._enums, self._sql_only = path, enums, sql_only
        self.tree = ast.parse(path.read_text(encoding="utf-8"), str(path))

    def __iter__(self) -> Iterator[Mutant]:
        return self._within(self.tree, "")

    def _within(self, owner: ast.AST, function: str) -> Iterator[Mutant]:
        for field, value in ast.iter_fields(owner):
            if field in ("annotation", "returns", "decorator_list", "bases", "type_comment"):
                continue
            items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
            for index, node in items:
                if not isinstance(node, ast.AST) or _is_docstring(node) or _is_type(node):
                    continue
                for new in self._changes(owner, field, node):
                    change = f"{_text(node)} -> {'nothing' if new is None else _text(new)}"
                    if isinstance(owner, ast.expr | ast.keyword):
                        change += f" in {_text(owner)[: PROSE * 2]}"
                    yield Mutant(self._path, function, getattr(node, "lineno", 0), change, owner, field, index, new)
                named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                yield from self._within(node, f"{function}.{node.name}".lstrip(".") if named else function)

    def _changes(self, owner: ast.AST, field: str, node: ast.AST) -> Iterator[ast.AST | None]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.search(node.value):
            yield from (_with(node, value=changed) for changed in _changed_sql(node.value))
        elif not self._sql_only:
            yield from self._of_expression(owner, field, node)
            yield from _of_statement(node)
            yield from _of_member(owner, field, node)

    def _of_expression(self, owner: ast.AST, field: str, node: ast.AST) -> Iterator[ast.AST]:
        match node:
            case ast.Compare():
                for index, operator in enumerate(node.ops):
                    for other in _COMPARISONS[type(operator)]:
                        yield _with(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])
            case ast.BoolOp():
                yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
                for index in range(len(node.values)):
                    rest = [value for other, value in enumerate(node.values) if other != index]
                    yield rest[0] if len(rest) == 1 else _with(node, values=rest)
            case ast.UnaryOp(op=ast.Not() | ast.USub()):
                yield node.operand
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                yield _with(node, op=_ARITHMETIC[type(node.op)]())
            case ast.Constant():
                yield from _of_constant(owner, field, node)
            case ast.Attribute(value=ast.Name(id=name)) if name in self._enums:
                members = self._enums[name]
                yield _with(node, attr=members[(members.index(node.attr) + 1) % len(members)])
            case ast.Name() if field == "func" and node.id in _FUNCTIONS:
                yield _with(node, id=_FUNCTIONS[node.id])
            case ast.Name() | ast.Attribute() | ast.Call() | ast.Await() | ast.NamedExpr() if _is_condition(
                owner, field
            ):
                yield ast.copy_location(ast.UnaryOp(ast.Not(), node), node)
            case _:
                pass


def _of_constant(owner: ast.AST, field: str, node: ast.Constant) -> Iterator[ast.AST]:
    match node.value:
        case bool():
            yield _with(node, value=not node.value)
        case int() | float():
            yield _with(node, value=node.value + 1)
        case str() if len(node.value) <= PROSE and not isinstance(owner, ast.JoinedStr):
            yield _with(node, value=f"{node.value}?")
        case None if not isinstance(owner, ast.Compare | ast.Return | ast.AnnAssign | ast.arguments):
            yield _with(node, value=1)
        case _:
            pass


def _of_statement(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Return(value=value) if value and not (isinstance(value, ast.Constant) and not value.value):
            yield _with(node, value=ast.Constant(None))
        case ast.If(orelse=[]):
            yield _with(node, test=ast.copy_location(ast.Constant(False), node))
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.copy_location(ast.Pass(), node)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.copy_location(ast.Pass(), node)
        case _:
            pass


def _of_member(owner: ast.AST, field: str, node: ast.AST) -> Iterator[None]:
    """Yield None if the node is a member that can be removed."""
    members = (
        (isinstance(owner, ast.Set | ast.List) and field == "elts")
        or (isinstance(owner, ast.Tuple) and field == "elts" and isinstance(node, ast.Attribute))
        or (isinstance(owner, ast.Dict) and field == "keys")
        or (isinstance(owner, ast.Call) and field == "keywords" and isinstance(node, ast.keyword) and node.arg)
    )
    if members:
        yield None


def _changed_sql(text: str) -> Iterator[str]:
    first = _SQL_CONDITION.search(text)
    for pattern, others in _SQL_CHANGES:
        for match in pattern.finditer(text, first.start() if first else 0):
            yield from (f"{text[: match.start()]}{other}{text[match.end() :]}" for other in others)


def _is_condition(owner: ast.AST, field: str) -> bool:
    return field in ("test", "ifs") or (isinstance(owner, ast.BoolOp) and field == "values")


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_type(node: ast.AST) -> bool:
    """Return True for the right side of a type alias, and for imports."""
    match node:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign(value=ast.Subscript(value=ast.Name(id="Literal" | "Callable" | "Mapping" | "tuple"))):
            return True
        case _:
            return False


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return repr(" ".join(node.value.split()))
    return " ".join((ast.unparse(node) if not isinstance(node, ast.keyword) else f"{node.arg}=").split())


def enums(*paths: Path) -> dict[str, list[str]]:
    """Return the members of the enumerations that are defined in these files, by name."""
    classes = [node for path in paths for node in ast.parse(path.read_text(encoding="utf-8")).body]
    return {
        node.name: [one.targets[0].id for one in node.body if isinstance(one, ast.Assign)]  # pyright: ignore[reportAttributeAccessIssue]
        for node in classes
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("IntEnum") for base in node.bases)
    }
