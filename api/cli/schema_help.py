"""Help texts of options, taken from the request schemas of the API."""

import importlib
from typing import TYPE_CHECKING, Any, get_args

from rich.markup import escape
from typer.core import TyperCommand, TyperOption

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


def schema_command(model: str, **fields: str) -> type[TyperCommand]:
    """Return a command class whose options have the help texts of a request model.

    `model` is a path in `api.schemas`, such as `clusters.ClusterCreate`. An option with a help text
    of its own keeps it. `fields` maps an option to its field if their names differ. The model is
    imported only to show the help, because the import takes longer than a simple command.
    """

    class SchemaCommand(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            texts = _help_texts(model)
            for option in self.params:
                if isinstance(option, TyperOption) and option.name and not option.help:
                    option.help = texts.get(fields.get(option.name, option.name))
            super().format_help(ctx, formatter)

    return SchemaCommand


def _help_texts(path: str) -> dict[str, str]:
    module, _, name = path.partition(".")
    model: type[BaseModel] = getattr(importlib.import_module(f"api.schemas.{module}"), name)
    return {field: escape(_help_text(info)) for field, info in model.model_fields.items()}


def _help_text(info: "FieldInfo") -> str:
    """Return the description of a field, its choices and its default."""
    sentences = [info.description.removesuffix(".")] if info.description else []
    if choices := _choices(info.annotation):
        sentences.append(f"One of: {', '.join(choices)}")
    if not info.is_required() and info.default not in (None, ""):
        default = str(info.default).lower() if isinstance(info.default, bool) else info.default
        sentences.append(f"Default: {default}")
    return "".join(f"{sentence}. " for sentence in sentences).rstrip()


def _choices(annotation: Any) -> list[str]:
    """Return the values of a Literal, also inside an optional or a list."""
    choices: list[str] = []
    for part in get_args(annotation):
        choices += [part] if isinstance(part, str) else _choices(part)
    return choices
