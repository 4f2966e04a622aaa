from typing import Any

import pytest

from api.domain.errors import ConflictError, InvalidError
from api.domain.paths import check_path
from api.domain.specs import common_model
from api.schemas.trainings import TrainingCreate


@pytest.mark.parametrize(
    ("workers", "aggregator", "model"),
    [
        (["base", "base"], "large", "base"),
        (["base"], "base", "base"),
        (["large"], "large", "large"),
        (["org/tiny"], "org/tiny", "org/tiny"),
        (["/models/x"], "large", "/models/x"),
    ],
)
def test_the_workers_model_is_trained(workers: list[str], aggregator: str, model: str) -> None:
    assert common_model(workers, aggregator) == model


@pytest.mark.parametrize(
    ("workers", "aggregator", "code"),
    [
        (["base", "large"], "large", "models_differ"),
        (["large"], "base", "aggregator_too_small"),
        (["org/tiny"], "base", "aggregator_too_small"),
    ],
)
def test_a_model_that_cannot_be_is_refused(workers: list[str], aggregator: str, code: str) -> None:
    with pytest.raises(ConflictError) as caught:
        common_model(workers, aggregator)
    assert caught.value.code == code


@pytest.mark.parametrize("path", ["", "data/x", "/data/../etc/passwd", "/a\x00b", "/a\nb", "/" + "x" * 2000, "/data/*.json"])
def test_bad_paths_are_refused_with_a_pointer(path: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_path(path, "/path")
    assert caught.value.errors[0].pointer == "/path"


@pytest.mark.parametrize(
    ("fields", "consensus", "shown"),
    [
        ({}, "none", True),
        ({}, "raft", True),
        ({"compression": "int8"}, "gossip", True),
        ({"strategy": "fedyogi", "secure_aggregation": True}, "none", True),
        ({"freeze_layers": 1, "weight_decay": 0.1}, "proof-of-learning", True),
        ({}, "byzantine", False),
        ({"strategy": "multi_krum"}, "none", False),
        ({"strategy": "median"}, "none", False),
        ({"compression": "topk+int8"}, "none", False),
        ({"compression": "lora"}, "none", False),
        ({"differential_privacy": {"noise_multiplier": 1.0}}, "none", False),
    ],
)
def test_which_trainings_show_the_words_that_they_have_seen(fields: dict[str, Any], consensus: Any, shown: bool) -> None:
    spec = TrainingCreate.model_validate({"dataset": "/data/x.json", "epochs": 1, **fields}).spec()
    assert spec.marks_seen_words(consensus) is shown


def test_good_paths_are_normalised() -> None:
    assert check_path("/data//x.json", "/path") == "/data/x.json"
    assert check_path("/data/train_*.json", "/dataset", glob=True) == "/data/train_*.json"


@pytest.mark.parametrize(
    ("fields", "consensus", "pointer"),
    [
        ({}, "proof-of-learning", "/federated"),
        ({"strategy": "median"}, "none", "/strategy"),
        ({"compression": "int8"}, "none", "/compression"),
        ({"compression": "lora"}, "none", "/compression"),
        ({"freeze_layers": 1}, "none", "/freeze_layers"),
        ({"fraction": 0.5}, "none", "/fraction"),
    ],
)
def test_what_goes_only_with_federated_training_is_refused_without(
    fields: dict[str, Any], consensus: str, pointer: str
) -> None:
    body = {"dataset": "/data/train.json", "epochs": 2, **fields}
    with pytest.raises(InvalidError) as caught:
        TrainingCreate.model_validate({**body, "federated": False}).spec().check_mode(consensus)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    assert "with federated false" in caught.value.errors[0].message
    TrainingCreate.model_validate({**body, "federated": True}).spec().check_mode(consensus)
    mixed = {**body, **dict.fromkeys(fields), "federated": False, "mixed_precision": True}
    TrainingCreate.model_validate({name: value for name, value in mixed.items() if value is not None}).spec().check_mode("none")
