"""The report names every call of the E2B SDK that the control plane makes."""

import ast
from pathlib import Path

from api.cli.doctor.operations import OPERATIONS

SANDBOXES = Path(__file__).parents[4] / "workers" / "sandboxes"
OWNERS = ("AsyncSandbox", "files", "commands", "handle")


def calls(tree: ast.AST) -> set[str]:
    """Return the attributes of the SDK's objects that are called: `files.write` and others."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", None)
            if name in OWNERS:
                found.add(f"{name}.{node.func.attr}")
    return found


def test_every_call_of_the_sdk_is_tried() -> None:
    used = set().union(*(calls(ast.parse(path.read_text())) for path in SANDBOXES.glob("*.py")))
    assert {"AsyncSandbox.create", "files.write", "commands.run", "handle.kill"} <= used
    assert used <= {call for operation in OPERATIONS for call in operation.calls}
