"""The request of a search: every value and every combination follows the rules of a training."""

from typing import Any

import pytest

from api.domain.errors import InvalidError
from api.domain.searches import SearchSpec
from api.schemas.options import SEARCHABLE, is_integer, is_number
from api.schemas.searches import SearchCreate
from api.schemas.trainings import TrainingCreate

BASE = {"dataset": "/data/x.json", "epochs": 4}


def spec(space: dict[str, Any], **fields: Any) -> SearchSpec:
    return SearchCreate.model_validate({**BASE, "space": space, **fields}).search_spec()


def pointers(space: dict[str, Any], **fields: Any) -> list[str]:
    with pytest.raises(InvalidError) as caught:
        spec(space, **fields)
    return [field.pointer for field in caught.value.errors]


def test_each_training_has_the_shared_options_and_its_own() -> None:
    found = spec({"learning_rate": [0.1, 0.01], "strategy": ["fedavg", "fedprox"]}, batch_size=8, budget_usd=1.0)
    assert [trial.options for trial in found.trials] == [
        {"learning_rate": 0.1, "strategy": "fedavg"},
        {"learning_rate": 0.1, "strategy": "fedprox"},
        {"learning_rate": 0.01, "strategy": "fedavg"},
        {"learning_rate": 0.01, "strategy": "fedprox"},
    ]
    for trial in found.trials:
        training = trial.training
        assert (training.dataset, training.epochs, training.batch_size) == ("/data/x.json", 4, 8)
        assert (training.learning_rate, training.strategy) == tuple(trial.options.values())
        assert training.proximal_mu == (0.01 if training.strategy == "fedprox" else None)
        assert training.budget_usd is None, "the budget is the whole search's"
    assert found.plan.budget_usd == 1.0


def test_every_option_of_a_training_is_searched_or_shared_on_purpose() -> None:
    assert set(TrainingCreate.model_fields) - set(SEARCHABLE) == {
        "dataset",
        "validation",
        "text_field",
        "label_field",
        "label_names",
        "on_bad_rows",
        "initial_model",
        "epochs",
        "federated",
        "gradient_compression",
        "target_accuracy",
        "patience",
        "budget_usd",
        "max_minutes",
        "late_joiners",
    }
    assert is_integer("batch_size")
    assert is_number("learning_rate")
    assert not is_integer("learning_rate")
    assert not is_number("optimizer")


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        ({"learning_rate": [0.1, 0]}, ["/space/learning_rate/1"]),
        ({"batch_size": [1.5, 8, 5000]}, ["/space/batch_size/0", "/space/batch_size/2"]),
        ({"batch_size": [True]}, ["/space/batch_size/0"]),
        ({"optimizer": ["adam", "Adam"]}, ["/space/optimizer/1"]),
        ({"learning_rate": [0.1, 0.1]}, ["/space/learning_rate/1"]),
        ({"epochs": [1, 2]}, ["/space/epochs"]),
        ({"nonsense": [1]}, ["/space/nonsense"]),
        ({"learning_rate": {"min": 0.1, "max": 0.2}}, ["/space/learning_rate"]),
        ({"learning_rate": []}, ["/space/learning_rate"]),
        ({"learning_rate": 0.1, "optimizer": "adam"}, ["/space/learning_rate", "/space/optimizer"]),
        ({"learning_rate": [[0.1], 0.1]}, ["/space/learning_rate/0"]),
        # Each value is allowed, but one combination is not.
        ({"strategy": ["fedavgm", "fedavg"], "server_momentum": [0.5]}, ["/space/server_momentum"]),
        ({"strategy": ["diloco"], "optimizer": ["sgd"]}, ["/space/optimizer"]),
        ({"compression": ["int8"], "lora_rank": [4]}, ["/space/lora_rank"]),
        ({"seed": list(range(11)), "batch_size": list(range(1, 11))}, ["/space"]),
    ],
)
def test_mistakes_in_a_grid_are_pointed_at(space: dict[str, Any], wrong: list[str]) -> None:
    assert pointers(space) == wrong


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"min": 0.2, "max": 0.1}, ["/space/learning_rate/min"]),
        ({"min": 1, "max": 1}, ["/space/learning_rate/min"]),
        ({"min": 0.1}, ["/space/learning_rate/max"]),
        ({"min": 0.1, "max": "much"}, ["/space/learning_rate/max", "/space/learning_rate/max"]),
        ({"min": 0.1, "max": 1, "scale": "sine"}, ["/space/learning_rate/scale"]),
        ({"min": 0.1, "max": 1, "step\ud800": 2}, ["/space/learning_rate"]),
        ({"min": 0.0, "max": 11}, ["/space/learning_rate/min", "/space/learning_rate/max"]),
    ],
)
def test_mistakes_in_a_range_are_pointed_at(values: dict[str, Any], wrong: list[str]) -> None:
    assert pointers({"learning_rate": values}, method="random") == wrong


def test_mistakes_beside_the_space_are_pointed_at() -> None:
    assert pointers({"batch_size": [8]}, batch_size=16) == ["/batch_size"]
    assert pointers({"batch_size": [8]}, max_trainings=1) == ["/max_trainings"]
    assert pointers({"batch_size": [8]}, grace_epochs=1) == ["/grace_epochs"]
    assert pointers({"batch_size": [8]}, grace_trainings=1) == ["/grace_trainings"]
    assert pointers({"optimizer": {"min": 0, "max": 1}}, method="random") == ["/space/optimizer"]
    assert pointers({"batch_size": {"min": 1.5, "max": 9}}, method="random") == ["/space/batch_size/min"]
    assert pointers({"batch_size": [8]}, dataset="relative") == ["/dataset"]


def test_a_random_search_draws_by_its_seed() -> None:
    space = {"learning_rate": {"min": 1e-5, "max": 1e-2, "scale": "log"}, "batch_size": {"min": 8, "max": 64}}
    one, again, other = (spec(space, method="random", max_trainings=7, seed=seed) for seed in (3, 3, 4))
    assert one.trials == again.trials
    assert [trial.options for trial in one.trials] != [trial.options for trial in other.trials]
    assert len(one.trials) == 7
    assert all(1e-5 <= trial.training.learning_rate <= 1e-2 for trial in one.trials)
    assert all(trial.training.seed == 3 for trial in one.trials)
    assert len(spec(space, method="random").trials) == 10


def test_the_seed_may_be_searched_too() -> None:
    assert [trial.training.seed for trial in spec({"seed": [1, 2]}, seed=5).trials] == [1, 2]
