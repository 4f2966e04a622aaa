"""No loose mapping is read by a string key outside `api/store/`: its content has a type of its own.

A loose mapping is annotated with `Any` or `object` values, or comes straight from a JSON or TOML
parser. The rule reads annotations only, so it finds a name in the function that annotates it, and
an attribute by the name of a field that any class annotates.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOTS = ("api", "workers")
# Untyped by nature: the OpenAPI document, which FastAPI makes and we complete, and its examples.
_EXEMPT = ("api/store/", "api/http/openapi", "api/schemas/examples", "docs/site/api_page")
# A line where a typed value is made of a loose one says so, with its reason.
_ALLOWED = "# untyped: "
_READERS = {"get", "pop", "setdefault"}
_PARSERS = {"json.loads", "json.load", "tomllib.loads", "tomllib.load"}
_LOOSE = ("dict[str, Any]", "dict[str, object]", "Mapping[str, Any]", "Mapping[str, object]")


def breaches(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the text of each string-keyed read of a loose mapping."""
    if path.as_posix().startswith(_EXEMPT):
        return
    source = path.read_text()
    tree, lines = ast.parse(source), source.splitlines()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for scope in (tree, *functions):
        for line, what in _reads(scope, _names_of(scope, tree)):
            if _ALLOWED not in lines[line - 1]:
                yield line, what


def _reads(scope: ast.AST, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    for node in _inside(scope):
        base = _base_of_read(node)
        if base is None:
            continue
        if isinstance(base, ast.Name):
            is_loose = base.id in names
        else:
            is_loose = isinstance(base, ast.Attribute) and base.attr in _loose_fields() and not _is_column(base)
        if is_loose:
            yield base.lineno, f"a string-keyed read of a loose mapping: {ast.unparse(node)[:70]}"


def _base_of_read(node: ast.AST) -> ast.expr | None:
    """What `base["key"]` or `base.get("key")` reads."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _is_text(node.slice):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _READERS:
        return node.func.value if node.args and _is_text(node.args[0]) else None
    return None


def _is_column(node: ast.Attribute) -> bool:
    """Whether it is a column of a table, so that the read is an expression in SQL."""
    return isinstance(node.value, ast.Name) and node.value.id.endswith("Row")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the functions in it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _inside(child)


def _names_of(scope: ast.AST, tree: ast.Module) -> frozenset[str]:
    """Names that a scope binds to a loose mapping."""
    names = set()
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = (*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs)
        names |= {argument.arg for argument in arguments if _is_loose(argument.annotation)}
        if scope.args.kwarg is not None and _is_any(scope.args.kwarg.annotation):
            names.add(scope.args.kwarg.arg)
    makers = _loose_makers(tree)
    for node in _inside(scope):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_loose(node.annotation):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign) and _is_made_loose(node.value, makers):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(names)


def _loose_makers(tree: ast.Module) -> frozenset[str]:
    """Functions of a module that return a loose mapping."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if _is_loose(function.returns))


def _is_made_loose(value: ast.expr, makers: frozenset[str]) -> bool:
    if isinstance(value, ast.Await):
        value = value.value
    if not isinstance(value, ast.Call):
        return False
    called = ast.unparse(value.func)
    return called in _PARSERS or called in makers or called.endswith((".model_dump", ".json"))


def _is_loose(annotation: ast.expr | None) -> bool:
    return annotation is not None and (_is_any(annotation) or any(kind in ast.unparse(annotation) for kind in _LOOSE))


def _is_any(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation) == "Any"


@cache
def _loose_fields() -> frozenset[str]:
    """Fields that any class annotates as a loose mapping."""
    fields = set()
    for path in (path for root in ROOTS for path in Path(root).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                fields |= {
                    item.target.id
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and _is_loose(item.annotation)
                }
    return frozenset(fields)
