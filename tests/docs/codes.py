"""The error codes that the code can give to its users, read off its syntax.

Looks at what is passed where a code goes: the calls in `PLACES` and the dictionaries in `TABLES`. What stands there in
a shape that it cannot read is `UnknownShape`, so that no code slips by.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "bridge"

PLACES = {"Problem": 1, "unusable": 1, "_refusal": 0, "Fault": 1, "Rejection": 1, "NumberFault": 0, "_Outcome": 1}
"""A call's name -> where among its arguments the code stands; also given by the name `code`."""
TABLES = {"_HTTP_CODES"}
"""Dictionaries whose values are codes."""
_FAMILIES = {"unknown_": ("unknown_type", "unknown_direction")}
"""What an f-string that begins so can come to: the fields of `bridge.intake.models` that are one of several words."""


class UnknownShape(Exception):
    """An expression where a code goes, of a shape that this module cannot read."""


def codes() -> dict[str, str]:
    """Every code, and one place in the code that gives it."""
    found: dict[str, str] = {}
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            for expression in _expressions(node):
                place = f"{path.relative_to(PACKAGE.parent)}:{expression.lineno}"
                for code in _words(expression, place):
                    found.setdefault(code, place)
    return found


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def _constants() -> dict[str, str]:
    """The package's module-level names for texts, without their modules."""
    return {
        target.id: node.value.value
        for tree in _trees().values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Where codes stand in `node` itself."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in PLACES:
            yield from node.args[PLACES[name] : PLACES[name] + 1]
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "code")
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(values=values)) if name in TABLES:
            yield from values


def _words(expression: ast.expr, place: str) -> Iterator[str]:
    match expression:
        case ast.Constant(value=str(code)):
            if code:  # "" where a shape has a place for a code and there is none
                yield code
        case ast.IfExp(body=one, orelse=other):
            yield from _words(one, place)
            yield from _words(other, place)
        case ast.JoinedStr(values=[ast.Constant(value=str(prefix)), *_]) if prefix in _FAMILIES:
            yield from _FAMILIES[prefix]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=table), attr="get"), args=[_, default]) if table in TABLES:
            yield from _words(default, place)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _constants():
            yield _constants()[name]
        case ast.Name(id="code") | ast.Attribute(attr="code") | ast.Subscript(slice=ast.Constant(value="code")):
            pass  # passed on, from one of `PLACES`
        case _:
            raise UnknownShape(f"{place}: {ast.unparse(expression)}; teach tests/docs/codes.py to read it")
