"""A flag for each option of a training, made from where the option is defined."""

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from api.cli.session import truth
from api.domain.training_options import PrivacyOptions, RequestedOptions

_PRIVACY: Final = "differential_privacy"
_NAMES: Final = "label_names"
# Flags whose names differ from the option's.
_FLAGS: Final[Mapping[str, str]] = {"round_deadline_s": "--round-deadline"}
_LONGEST_CHOICE: Final = 40


def with_training_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for each option. Its parameter `options` gets those that were given.

    `options` has the form of the request's body: the flags of differential privacy are nested.
    """

    @functools.wraps(function)
    def command(*arguments: Any, **values: Any) -> None:
        options = _given(RequestedOptions.model_fields, values)
        privacy = _given(PrivacyOptions.model_fields, values)
        if privacy:
            options[_PRIVACY] = privacy
        function(*arguments, options=options, **values)

    own = inspect.signature(function, eval_str=True)
    kept = [parameter for name, parameter in own.parameters.items() if name != "options"]
    command.__signature__ = own.replace(parameters=[*kept, *_flags()])  # type: ignore[attr-defined]
    return command


def _given(fields: Mapping[str, FieldInfo], values: dict[str, Any]) -> dict[str, object]:
    """Take the options with a value out of `values`."""
    options: dict[str, object] = {}
    for name, field in fields.items():
        value = values.pop(name, None)
        if value is not None:
            options[name] = _names(value) if name == _NAMES else truth(value) if _kind(field) is bool else value
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
    kind = _kind(field)
    option = typer.Option(_FLAGS.get(name, "--" + name.replace("_", "-")), help=field.description, metavar=_metavar(kind))
    shown: Any = Literal["true", "false"] if kind is bool else kind if kind in (int, float) else str
    required = name == "dataset"
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else None,
        annotation=Annotated[shown if required else shown | None, option],
    )


def _kind(field: FieldInfo) -> Any:
    """The option's type without None: bool, int, float, str or a literal."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    optional = type(None) in get_args(field.annotation)
    return kinds[0] if optional else field.annotation


def _metavar(kind: Any) -> str | None:
    """The values of a literal, as far as they fit."""
    if get_origin(kind) is not Literal:
        return None
    values = "|".join(get_args(kind))
    return values if len(values) <= _LONGEST_CHOICE else values[:_LONGEST_CHOICE].rpartition("|")[0] + "|…"
