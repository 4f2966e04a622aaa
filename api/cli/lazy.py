"""Commands that import their module when they run, not when `--help` lists them."""

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class LazyCommand(TyperCommand):
    """A command that loads `attribute` of `module` at its first call.

    The attribute is a Typer application or a function. `panel` is the command's group in `--help`.
    """

    def __init__(self, name: str, module: str, attribute: str, summary: str, *, panel: str | None = None) -> None:
        super().__init__(name, help=summary, rich_help_panel=panel)
        self._module, self._attribute = module, attribute

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self.load().make_context(info_name, args, parent=parent, **extra)

    def load(self) -> Any:
        """Import the module and return the command."""
        target = getattr(importlib.import_module(self._module), self._attribute)
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        single = typer.Typer(add_completion=False)
        single.command(self.name)(target)
        return typer.main.get_command(single)


def lazy_group(*commands: LazyCommand) -> type[TyperGroup]:
    """Return a group class that has these commands beside those of its Typer application."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: object) -> None:
            super().__init__(**attributes)  # type: ignore[arg-type]
            for command in commands:
                self.add_command(command)

    return LazyGroup
