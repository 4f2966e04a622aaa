"""A flag for each option of a training, made from `api.domain.training_options`."""

import functools
import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, get_args

import typer
from pydantic.fields import FieldInfo

from api.cli.session import truth
from api.domain.training_options import PrivacyOptions, RequestedOptions
from api.domain.words import words_of

_PRIVACY: Final = "differential_privacy"
_NAMES: Final = "label_names"
# Flags whose names differ from the names of their options.
_FLAGS: Final[Mapping[str, str]] = {"round_deadline_s": "--round-deadline"}
_LONGEST_CHOICE: Final = 40


def with_training_options(*, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each option. Its parameter `options` gets the given ones.

    `options` has the form of the request's body: the flags of differential privacy are nested.
    The options in `without` get no flag.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*arguments: Any, **values: Any) -> None:
            # The command may have parameters of its own that are named like an option in `without`.
            own = {name: values.pop(name) for name in without if name in values}
            options = _pop_options(RequestedOptions.model_fields, values)
            privacy = _pop_options(PrivacyOptions.model_fields, values)
            if privacy:
                options[_PRIVACY] = privacy
            function(*arguments, options=options, **own, **values)

        signature = inspect.signature(function, eval_str=True)
        parameters = [parameter for name, parameter in signature.parameters.items() if name != "options"]
        flags = [flag for flag in _flags() if flag.name not in without]
        command.__signature__ = signature.replace(parameters=[*parameters, *flags])  # type: ignore[attr-defined]
        return command

    return decorate


def _pop_options(fields: Mapping[str, FieldInfo], values: dict[str, Any]) -> dict[str, object]:
    """Remove the options from `values`, and return those that have a value."""
    options: dict[str, object] = {}
    for name, field in fields.items():
        value = values.pop(name, None)
        if value is not None:
            options[name] = _names(value) if name == _NAMES else truth(value) if _type_of(field) is bool else value
    return options


def _names(value: str) -> object:
    """Return class names from `a,b` or from a JSON list or object."""
    if value.lstrip()[:1] not in ("[", "{"):
        return [name.strip() for name in value.split(",")]
    try:
        return json.loads(value)
    except ValueError:
        raise typer.BadParameter("give names with commas between them, or a JSON list or object") from None


def _flags() -> Iterator[inspect.Parameter]:
    for fields in (RequestedOptions.model_fields, PrivacyOptions.model_fields):
        for name, field in fields.items():
            if name != _PRIVACY:
                yield _flag(name, field)


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    option_type = _type_of(field)
    flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
    option = typer.Option(flag, help=field.description, metavar=_metavar(option_type))
    flag_type: Any = Literal["true", "false"] if option_type is bool else option_type if option_type in (int, float) else str
    required = name == "dataset"
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else None,
        annotation=Annotated[flag_type if required else flag_type | None, option],
    )


def _type_of(field: FieldInfo) -> object:
    """Return the option's type without None: bool, int, float, str or a literal."""
    parts = [part for part in get_args(field.annotation) if part is not type(None)]
    is_optional = type(None) in get_args(field.annotation)
    return parts[0] if is_optional else field.annotation


def _metavar(option_type: object) -> str | None:
    """Return the values of a literal, as many as fit."""
    values = "|".join(words_of(option_type))
    if not values:
        return None
    return values if len(values) <= _LONGEST_CHOICE else values[:_LONGEST_CHOICE].rpartition("|")[0] + "|…"
