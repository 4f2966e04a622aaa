"""An answer of the API: the JSON object as it came, and its typed form."""

from functools import cached_property
from typing import Generic, TypeVar

from api.cli.errors import CliError
from api.cli.responses import JsonObject

T = TypeVar("T")


class Answer(Generic[T]):
    """`--format json` prints `json` unchanged. Tables and commands read `value`.

    The answer is parsed at the first read of `value`, so JSON output works with any server.
    """

    def __init__(self, json: JsonObject, model: type[T]) -> None:
        self.json = json
        self._model = model

    @cached_property
    def value(self) -> T:
        """The typed form.

        Raises:
            CliError: The JSON object lacks a required field, or a field has another type.
        """
        return parse(self.json, self._model)

    @property
    def status(self) -> str | None:
        """The field `status` alone, without a check of the other fields."""
        status = self.json.get("status")  # untyped: the answer as it came
        return status if isinstance(status, str) else None


def parse(payload: object, model: type[T]) -> T:
    """Return `payload` as an instance of `model`, a class of `api.cli.responses`.

    Raises:
        CliError: `payload` does not fit.
    """
    # Pydantic takes about 0.1 s to import, and JSON output does not need it.
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(model).validate_python(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "missing":
        raise CliError(f"the API's answer has no {str(first['loc'][-1])!r}; is it a Flow Nexus API?")
    raise CliError("the API's answer does not have the expected form; --format json shows it")
