"""Rules of migrations: expand first, contract later.

While a deployment is upgraded, the older release still reads and writes the tables. So a migration
adds what the older release does not know, and takes nothing away. What is no longer used goes in a
later release. Its migration says so by `contracts`: the names of the tables and columns that no
release in service uses any more.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

VERSIONS: Final = Path(__file__).parent / "versions"
MARKER: Final = "contracts"
# Nothing was released when these were written.
_BEFORE_THE_RULES: Final = frozenset({"0002", "0004_training_progress"})
_TAKES_AWAY: Final = frozenset({"drop_column", "drop_table", "rename_table"})
_SQL_TAKES_AWAY: Final = re.compile(
    r"\b(DROP\s+(TABLE|COLUMN)|RENAME\s+(TO|COLUMN)|SET\s+NOT\s+NULL|ALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE)\b|^\s*TRUNCATE\b",
    re.IGNORECASE | re.MULTILINE,
)


def breaches(path: Path) -> Iterator[str]:
    """Yield what is wrong with a migration, one line each."""
    tree = ast.parse(path.read_text())
    if _constant(tree, "revision") in _BEFORE_THE_RULES:
        return
    functions = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == "downgrade")]
    calls = [node for part in functions for node in ast.walk(part) if isinstance(node, ast.Call) and _operation(node)]
    created = {_first_text(call) for call in calls if _operation(call) == "create_table"}
    is_marked = _has(tree, MARKER)
    for call in calls:
        reason = _takes_away(call)
        if reason and not is_marked:
            yield f"{path.name}:{call.lineno}: {reason}; an older release may still use it, so name it in `{MARKER}`"
        reason = _locks(call, created)
        if reason:
            yield f"{path.name}:{call.lineno}: {reason}"


def _takes_away(call: ast.Call) -> str | None:
    """Return what an older release would miss, if anything."""
    operation = _operation(call)
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    if operation in _TAKES_AWAY:
        return f"{operation} takes something away"
    if operation == "alter_column" and (
        {"new_column_name", "type_"} & options.keys() or _is(options.get("nullable"), value=False)
    ):
        return "alter_column changes what a column takes"
    if operation == "execute" and any(_SQL_TAKES_AWAY.search(text) for text in _texts(call)):
        return "the SQL takes something away"
    return None


def _locks(call: ast.Call, created: set[str | None]) -> str | None:
    """Return why a table with many rows would be locked for long, or refuse older writes."""
    operation, table = _operation(call), _first_text(call)
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    if operation == "add_column":
        column = call.args[1] if len(call.args) > 1 and isinstance(call.args[1], ast.Call) else None
        fields = {keyword.arg: keyword.value for keyword in column.keywords} if column else {}
        if _is(fields.get("nullable"), value=False) and "server_default" not in fields:
            return "a new column must be nullable or have a server_default: an older release does not write it"
    if operation == "create_index":
        target = _text(call.args[1]) if len(call.args) > 1 else None
        if target not in created and not _is(options.get("postgresql_concurrently"), value=True):
            return "an index of an existing table needs postgresql_concurrently=True, in an autocommit_block"
    if operation in ("create_check_constraint", "create_foreign_key"):
        target = _text(call.args[1]) if len(call.args) > 1 else table
        if target not in created and not _is(options.get("postgresql_not_valid"), value=True):
            return f"{operation} on an existing table needs postgresql_not_valid=True, and VALIDATE CONSTRAINT afterwards"
    return None


def _operation(call: ast.Call) -> str | None:
    """Return the name of a call of `op`: `create_table` and others."""
    if isinstance(call.func, ast.Attribute):
        owner = call.func.value
        return call.func.attr if isinstance(owner, ast.Name) and owner.id == "op" else None
    return None


def _first_text(call: ast.Call) -> str | None:
    return _text(call.args[0]) if call.args else None


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _texts(call: ast.Call) -> list[str]:
    return [text for part in ast.walk(call) if (text := _text(part)) is not None]


def _is(node: ast.AST | None, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _constant(tree: ast.Module, name: str) -> str | None:
    return next((_text(value) for target, value in _assignments(tree) if target == name), None)


def _has(tree: ast.Module, name: str) -> bool:
    return any(target == name for target, _ in _assignments(tree))


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
