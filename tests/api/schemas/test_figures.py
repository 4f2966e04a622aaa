"""Figures in answers have the digits that a 32-bit float can have, and no field is forgotten."""

import struct
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import PlainSerializer

import api.main  # noqa: F401 - it imports every model
from api.domain.figures import rounded, rounded_figures
from api.schemas.base import ResponseModel
from api.schemas.predictions import PredictedText, PredictionResults

# Numbers that a person chose. Answers show them as they came.
CHOSEN = {
    "autonomy_level", "autonomy", "budget_usd", "max_minutes", "idle_timeout_minutes",
    "delta", "limit", "used", "asked", "timeout_s",
}  # fmt: skip
OPTIONS = {"TrainingConfig", "DifferentialPrivacy"}
# A digest covers every digit of these.
EXACT = {"losses"}


def single(value: float) -> float:
    """Return the value as a 32-bit float holds it."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


@pytest.mark.parametrize("value", [0.6, 0.1, 0.97, 0.123456, 1.5, 2.30259, 1e-7, 0.0, -0.25, 999.999, 1.0, 3e-12])
def test_a_32_bit_float_is_shown_as_the_number_that_it_holds(value: float) -> None:
    assert rounded(single(value)) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567.8912, 1234567.891), (0.8833333333333333, 0.883333), (1 / 3, 0.333333), (12.3456789, 12.3457), (1e9, 1e9)],
)
def test_other_figures_are_rounded_too(value: float, shown: float) -> None:
    assert rounded(value) == shown


def test_figures_are_found_in_nested_values() -> None:
    value = {"a": [single(0.6), 3, True, None, "0.6000000238418579"], "b": {"c": single(0.1)}}
    assert rounded_figures(value) == {"a": [0.6, 3, True, None, "0.6000000238418579"], "b": {"c": 0.1}}


def test_only_json_is_rounded() -> None:
    results = PredictionResults(
        predictions=[PredictedText(text="a", sentiment="b", confidence=single(0.6))], accuracy=single(0.9)
    )
    assert '"confidence":0.6}' in results.model_dump_json()
    assert results.model_dump(mode="json")["accuracy"] == 0.9
    assert results.model_dump()["accuracy"] == single(0.9)


def _models(model: type[ResponseModel]) -> Iterator[type[ResponseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from _models(child)


def _has_plain_float(annotation: Any) -> bool:
    """Return whether a type has a float without a serializer. An annotated type keeps it inside."""
    arguments = get_args(annotation)
    if any(isinstance(argument, PlainSerializer) for argument in arguments):
        return False
    return annotation is float or any(_has_plain_float(argument) for argument in arguments)


@pytest.mark.parametrize("model", sorted(set(_models(ResponseModel)), key=repr), ids=lambda model: model.__name__)
def test_every_measured_figure_of_every_answer_is_rounded(model: type[ResponseModel]) -> None:
    if not model.__module__.startswith("api.") or model.__name__ in OPTIONS:
        return
    for name, field in model.model_fields.items():
        is_rounded = any(isinstance(part, PlainSerializer) for part in field.metadata)
        assert name in CHOSEN | EXACT or is_rounded or not _has_plain_float(field.annotation), f"{model.__name__}.{name}"
