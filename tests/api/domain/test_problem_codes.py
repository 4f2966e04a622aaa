"""The catalogue of error codes and the code name the same ones."""

import re
from functools import cache
from pathlib import Path

import pytest

from api.domain.problem_codes import CATALOGUE
from api.domain.stopping import STOP_CODES

ROOT = Path(__file__).resolve().parents[3]
# Where an error or a reason is made, its code is the first text of the call.
RAISED = re.compile(
    r"\b(?:[A-Z]\w*Error|[A-Z]\w*Problem|ProblemDetails|FailureReason|TrainingStop|_refusal|kind|error_class)"
    r"\(\s*(?:\d{3}, |CONFLICT, |UNPROCESSABLE, )?(?:code=)?\"([a-z]+(?:_[a-z]+)*)\"\s*[,)]"
)
# Errors whose first text is a noun.
NO_CODES = {"sandbox", "node", "cluster", "project", "execution", "key", "search", "training", "webhook", "delivery"}


@cache
def raised() -> set[str]:
    paths = [path for folder in ("api", "workers") for path in (ROOT / folder).rglob("*.py")]
    texts = [path.read_text() for path in paths if not {"cli", "host", "supervisor", "embedded"} & {*path.parts}]
    return {code for text in texts for code in RAISED.findall(text)} - NO_CODES


def test_the_code_raises_what_the_pattern_finds() -> None:
    assert {"invalid_request", "agent_died", "malformed_json", "no_match", "single_class"} <= raised()


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    assert raised() - {*STOP_CODES} <= CATALOGUE.keys()


def test_no_code_of_the_catalogue_is_left_over() -> None:
    sources = "".join(
        path.read_text()
        for folder in ("api", "workers")
        for path in (ROOT / folder).rglob("*.py")
        if "problem_codes" not in path.parts
    )
    assert [code for code in CATALOGUE if f'"{code}"' not in sources] == []


@pytest.mark.parametrize("code", CATALOGUE)
def test_each_code_has_a_meaning_and_advice(code: str) -> None:
    entry = CATALOGUE[code]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert entry.meaning.endswith(".")
    assert entry.advice.endswith(".")
