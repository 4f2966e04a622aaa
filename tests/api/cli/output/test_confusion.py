from typing import Any

import pytest

from tests.api.cli.fake_api import PREDICTION, FakeApi, run

WORDS = ("neural", "predict", "distributed", "cls_1", "--input-data", "/data/test.json", "--format", "table")


def shown(api: FakeApi, capsys: pytest.CaptureFixture[str], matrix: dict[str, Any]) -> str:
    results = {"accuracy": 0.9, "confusion_matrix": matrix, "predictions": []}
    api.answers["POST /v1/clusters/cls_1/predictions"] = {**PREDICTION, "results": results}
    assert run(*WORDS) == 0
    return capsys.readouterr().out


def test_rows_are_true_and_columns_predicted(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(api, capsys, {"labels": ["bad", "good\x1b"], "counts": [[1041, 5], [3, 47]]})
    assert "rows: true, columns: predicted" in out
    assert [line.split() for line in out.splitlines()[-3:]] == [
        ["bad", "good\ufffd"],
        ["bad", "1,041", "5"],
        ["good\ufffd", "3", "47"],
    ]


def test_of_many_classes_the_most_frequent_mistakes_are_shown(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"c{number}" for number in range(20)]
    counts = [[0] * 20 for _ in names]
    counts[3][3], counts[3][4], counts[9][1] = 50, 2, 7
    out = shown(api, capsys, {"labels": names, "counts": counts})
    assert [line.split() for line in out.splitlines()[-2:]] == [["c9", "c1", "7"], ["c3", "c4", "2"]]
    assert "c19" not in out
