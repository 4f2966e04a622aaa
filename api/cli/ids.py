"""Ids as arguments: `neural train status train_fed_gh789` beside `--training-id`."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, get_args, get_origin

import typer
from typer.models import OptionInfo

from api.cli.errors import UsageError

METAVAR: Final = "ID"
_ARGUMENT: Final = "_argument"


def id_option(flag: str, noun: str, example: str) -> Any:
    """Return the option of a required id, with an id of this kind in its help."""
    return typer.Option(flag, help=f"The {noun}, for example {example}.", metavar=METAVAR)


def with_positional_ids(parameters: Sequence[inspect.Parameter]) -> tuple[list[inspect.Parameter], dict[str, str]]:
    """Give each required id an argument beside its option.

    Return the parameters of the command, and the flag of each id by its name.
    """
    ids = {parameter.name: info for parameter in parameters if (info := _required_id(parameter)) is not None}
    command = [_optional(parameter) if parameter.name in ids else parameter for parameter in parameters]
    arguments = [_argument(name, info) for name, info in ids.items()]
    return [*arguments, *command], {name: _flag(name, info) for name, info in ids.items()}


def with_ids(values: Mapping[str, Any], flags: Mapping[str, str]) -> dict[str, Any]:
    """Take each id from its argument or from its option.

    Raises:
        UsageError: an id is missing or given twice.
    """
    merged = {name: value for name, value in values.items() if not name.endswith(_ARGUMENT)}
    for name, flag in flags.items():
        argument = values[name + _ARGUMENT]
        if argument is not None and merged[name] is not None:
            raise UsageError(f"give the id once: as an argument or with {flag}")
        merged[name] = argument if argument is not None else merged[name]
        if merged[name] is None:
            raise UsageError(f"the id is missing: give it as an argument or with {flag}")
    return merged


def _required_id(parameter: inspect.Parameter) -> OptionInfo | None:
    if parameter.default is not inspect.Parameter.empty or get_origin(parameter.annotation) is not Annotated:
        return None
    infos = [part for part in get_args(parameter.annotation)[1:] if isinstance(part, OptionInfo) and part.metavar == METAVAR]
    return infos[0] if infos else None


def _optional(parameter: inspect.Parameter) -> inspect.Parameter:
    kind, *rest = get_args(parameter.annotation)
    return parameter.replace(default=None, annotation=Annotated[(kind | None, *rest)])


def _argument(name: str, info: OptionInfo) -> inspect.Parameter:
    argument = typer.Argument(help=info.help, metavar=METAVAR, show_default=False)
    return inspect.Parameter(
        name + _ARGUMENT, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, argument]
    )


def _flag(name: str, info: OptionInfo) -> str:
    return (info.param_decls or ("--" + name.replace("_", "-"),))[0]
