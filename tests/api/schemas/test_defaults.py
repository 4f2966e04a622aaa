"""A client may send every default: such a request means the same as one without them."""

from typing import Any

import pytest
from pydantic import BaseModel

from api.domain.searches import Method
from api.domain.strategies import Strategy
from api.domain.training_options import Compression
from api.domain.words import words_of
from api.schemas.clusters import ClusterConnect, ClusterCreate
from api.schemas.keys import KeyCreate, KeyRotate
from api.schemas.nodes import NodeDeploy
from api.schemas.options import SEARCHABLE
from api.schemas.predictions import PredictionCreate
from api.schemas.searches import SearchCreate
from api.schemas.trainings import TrainingCreate

TRAINING = {"dataset": "/data/train_*.json", "epochs": 2}
STRATEGIES = words_of(Strategy)
# Each default of a training with a value that differs from it, for a search over that option.
OTHERS: dict[str, Any] = {
    "batch_size": 16, "learning_rate": 0.01, "schedule": "constant", "optimizer": "sgd", "local_epochs": 2,
    "weight_decay": 0.1, "max_length": 64, "hold_out": False, "fraction": 0.5, "min_workers": 2, "mixed_precision": True,
    "freeze_layers": 1, "secure_aggregation": True, "strategy": "fedprox",
}  # fmt: skip


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {name: field.default for name, field in model.model_fields.items() if not field.is_required()}


@pytest.mark.parametrize("compression", [None, *words_of(Compression)])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_training_with_every_default_is_the_training_without_them(strategy: str, compression: str | None) -> None:
    short = {**TRAINING, "strategy": strategy, "compression": compression}
    full = {**defaults(TrainingCreate), **short}
    assert TrainingCreate.model_validate(full).spec() == TrainingCreate.model_validate(short).spec()


@pytest.mark.parametrize("method", words_of(Method))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_with_every_default_is_the_search_without_them(strategy: str, method: str) -> None:
    short = {**TRAINING, "strategy": strategy, "method": method, "space": {"learning_rate": [0.001, 0.01]}}
    full = {**defaults(SearchCreate), **short}
    assert SearchCreate.model_validate(full).search_spec() == SearchCreate.model_validate(short).search_spec()


@pytest.mark.parametrize("method", words_of(Method))
@pytest.mark.parametrize("name", OTHERS)
def test_every_option_with_a_default_can_be_searched_beside_its_default(name: str, method: str) -> None:
    default = TrainingCreate.model_fields[name].default
    body = {**TRAINING, **defaults(TrainingCreate), **TRAINING, "method": method, "space": {name: [default, OTHERS[name]]}}
    trials = SearchCreate.model_validate(body).search_spec().trials
    assert [getattr(trial.training, name) for trial in trials] == [default, OTHERS[name]]


def test_all_options_with_a_default_were_tried() -> None:
    assert {name for name in SEARCHABLE if TrainingCreate.model_fields[name].default is not None} == {*OTHERS, "seed"}


@pytest.mark.parametrize(
    ("model", "required"),
    [
        (ClusterCreate, {"name": "a"}),
        (ClusterConnect, {}),
        (NodeDeploy, {}),
        (PredictionCreate, {"inputs": ["a"]}),
        (PredictionCreate, {"input_data": "/data/test.json"}),
        (KeyCreate, {"name": "a", "scopes": ["clusters:read"]}),
        (KeyRotate, {}),
    ],
)
def test_every_other_body_takes_its_defaults(model: type[BaseModel], required: dict[str, Any]) -> None:
    assert model.model_validate({**defaults(model), **required}) == model.model_validate(required)
