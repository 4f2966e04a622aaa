"""The API's answers have every field of the contract, with its name, place and type."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.walk import Trained

SHAPES = json.loads((Path(__file__).parent / "shapes.json").read_text())
# Only these figures may be null after a finished run on a machine without a GPU.
NULLABLE = {"gpu"}
ID_PATTERNS = {
    "cluster_id": r"cls_[a-z0-9]+",
    "node_id": r"node_(w\d+|ps|v\d+)_[a-z0-9]+",
    "training_id": r"train_fed_[a-z0-9]+",
    "prediction_id": r"pred_ens_[a-z0-9]+",
    "created_at": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
    "time_elapsed": r"(\d+[hm] )?\d+[ms]",
    "estimated_completion": r"(\d+[hm] )?\d+[ms]",
    "inference_time": r"\d+(\.\d+)?s",
}
pytestmark = pytest.mark.timeout(300)


def conforms(expected: Any, actual: Any, where: str = "$", name: str = "") -> None:
    if actual is None and name in NULLABLE:
        return
    if isinstance(expected, dict):
        assert isinstance(actual, dict), f"{where} is not an object"
        if "*" in expected:
            assert actual, f"{where} is empty"
            for key, value in actual.items():
                conforms(expected["*"], value, f"{where}.{key}")
            return
        assert expected.keys() <= actual.keys(), f"{where} lacks {expected.keys() - actual.keys()}"
        for key, value in expected.items():
            conforms(value, actual[key], f"{where}.{key}", key)
    elif isinstance(expected, list):
        assert isinstance(actual, list), f"{where} is not a list"
        assert actual, f"{where} is empty"
        for index, item in enumerate(actual):
            conforms(expected[0], item, f"{where}[{index}]")
    else:
        conforms_as_a_scalar(expected, actual, where, name)


def conforms_as_a_scalar(expected: Any, actual: Any, where: str, name: str) -> None:
    if isinstance(expected, bool):
        assert isinstance(actual, bool), f"{where} is not a boolean"
    elif isinstance(expected, int | float):
        assert isinstance(actual, int | float), f"{where} is not a number: {actual!r}"
        assert not isinstance(actual, bool), f"{where} is a boolean"
    else:
        assert isinstance(actual, str), f"{where} is not a string: {actual!r}"
        if name in ID_PATTERNS:
            assert re.fullmatch(ID_PATTERNS[name], actual), f"{where} looks wrong: {actual}"


@pytest.mark.parametrize("noun", ["cluster", "node", "connections", "training"])
def test_answers_on_the_way(trained: Trained, noun: str) -> None:
    conforms(SHAPES[noun], trained.answers[noun])


def test_status(trained: Trained) -> None:
    conforms(SHAPES["status"], trained.walk.call("GET", f"/v1/clusters/{trained.cluster_id}/status"))


def test_prediction(trained: Trained) -> None:
    answer = trained.walk.call(
        "POST",
        f"/v1/clusters/{trained.cluster_id}/predictions",
        status=200,
        json={"input_data": "/data/test.json", "aggregation": "ensemble"},
        headers={"Prefer": "wait=60"},
    )
    conforms(SHAPES["prediction"], answer)


def test_the_comparison_itself_can_fail() -> None:
    for broken in ({}, {**SHAPES["training"], "workers": "w1"}, {**SHAPES["training"], "status": 1}):
        with pytest.raises(AssertionError):
            conforms(SHAPES["training"], broken)


def test_the_aggregator_reaches_all_and_each_pair_once(trained: Trained) -> None:
    edges = [(edge["from"], edge["to"]) for edge in trained.answers["connections"]["connections"]]
    assert edges == [(trained.workers[0], trained.workers[1]), (trained.aggregator, "all")]
