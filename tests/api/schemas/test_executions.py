"""The limits on what code gets."""

import pytest
from pydantic import ValidationError

from api.domain.sandboxes import ExecuteOptions
from api.schemas.executions import ExecuteRequest


@pytest.mark.parametrize(
    ("field", "largest", "too_large"),
    [
        ("env", {"A": "x" * 99_998}, {"A": "x" * 99_999}),
        ("env", {f"A{number}": "" for number in range(200)}, {f"A{number}": "" for number in range(201)}),
        ("args", ["é" * 25_000] * 2, ["é" * 25_000] * 2 + ["x"]),
        ("args", [""] * 1000, [""] * 1001),
        ("stdin", "x" * 1_000_000, "x" * 1_000_001),
        ("cwd", "/" * 1024, "/" * 1025),
    ],
)
def test_sizes_are_bounded(field: str, largest: object, too_large: object) -> None:
    ExecuteRequest.model_validate({"code": "1", field: largest})
    with pytest.raises(ValidationError) as caught:
        ExecuteRequest.model_validate({"code": "1", field: too_large})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_nothing_is_given_by_default() -> None:
    assert ExecuteRequest(code="1").options() == ExecuteOptions({}, [], None, None)
