"""The page of all commands, from the command line itself."""

from typing import Any

import typer

from api.cli.lazy import LazyCommand
from api.cli.main import app


def render() -> str:
    root = typer.main.get_command(app)
    lines = ["# Commands", "", "This page is generated from `flow-nexus --help`. Options without a default are empty.", ""]
    for path, command in _commands("flow-nexus", root):
        lines += [f"## {path}", "", _text(command.help), "", *_parameters(command), ""]
    return "\n".join(lines)


def _commands(path: str, command: Any) -> list[tuple[str, Any]]:
    """Return all commands below a group with their words."""
    found = []
    for name, child in command.commands.items():
        loaded = child.load() if isinstance(child, LazyCommand) else child
        words = f"{path} {name}"
        found += _commands(words, loaded) if hasattr(loaded, "commands") else [(words, loaded)]
    return found


def _parameters(command: Any) -> list[str]:
    shown = [item for item in command.params if item.name != "help" and not getattr(item, "hidden", False)]
    if not shown:
        return []
    rows = [f"| {_name(item)} | {_default(item)} | {_text(getattr(item, 'help', ''))} |" for item in shown]
    return ["| option | default | meaning |", "| --- | --- | --- |", *rows]


def _name(item: Any) -> str:
    if item.param_type_name == "argument":
        return f"`{(item.metavar or item.name).upper()}`"
    return ", ".join(f"`{name}`" for name in (*item.opts, *item.secondary_opts))


def _default(item: Any) -> str:
    if item.required:
        return "required"
    value = item.default() if callable(item.default) else item.default
    return "" if value is None or str(value).startswith("Sentinel") or value == () else f"`{value}`"


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")
