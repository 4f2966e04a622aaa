"""A large JSON text in pieces is the same JSON, with rounded figures."""

import json

import pytest

from api.domain.figures import rounded_figures
from api.http import json_stream
from api.http.json_stream import json_pieces, round_numbers

NASTY = [
    'a": 0.6000000238418579',
    '\\": 0.6000000238418579}',
    "}{}",
    'x\\\\": 0.1234567891',
    "",
    "ü}\n",
    '"confidence": 0.123456789',
]


@pytest.mark.parametrize("size", [1, 10, 100, 100_000])
def test_pieces_are_the_whole_with_rounded_figures(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_PIECE", size)
    items = [{"text": text, "sentiment": text, "confidence": 0.6000000238418579 / (n + 1)} for n, text in enumerate(NASTY * 3)]
    answer = "".join(round_numbers(piece) for piece in json_pieces(json.dumps(items)))
    assert json.loads(answer) == rounded_figures(items)


def test_tiny_and_whole_numbers_stay_numbers() -> None:
    assert json.loads(round_numbers('{"a": 0.00000001234567, "b": 1, "c": 0.5, "d": -1.23456789}')) == {
        "a": 1.23457e-08,
        "b": 1,
        "c": 0.5,
        "d": -1.23457,
    }


def test_an_empty_text_has_no_pieces() -> None:
    assert list(json_pieces("")) == []
