"""Every kind of row has ids of one form, so that a log line can name its field."""

import pytest

from api.domain import ids


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (ids.cluster_id(), "cluster_id"),
        (ids.node_id("worker", 100), "node_id"),
        (ids.node_id("aggregator", 1), "node_id"),
        (ids.node_id("validator", 2), "node_id"),
        (ids.training_id(federated=True), "training_id"),
        (ids.training_id(federated=False), "training_id"),
        (ids.prediction_id("ensemble"), "prediction_id"),
        (ids.model_id(), "model_id"),
        (ids.execution_id(), "execution_id"),
        (ids.search_id(), "search_id"),
    ],
    ids=[
        "cluster",
        "node",
        "aggregator",
        "validator",
        "federated",
        "synchronous",
        "prediction",
        "model",
        "execution",
        "search",
    ],
)
def test_an_id_tells_its_field(made: str, field: str) -> None:
    assert ids.field_of(made) == field


@pytest.mark.parametrize(
    "text", ["", "cls_", "cls_abc", "node_w1", "train_fed_ABCDEFGHIJ", "prj_abcdefghij", "a cls_abcdefghij"]
)
def test_other_text_is_no_id(text: str) -> None:
    assert ids.field_of(text) is None
