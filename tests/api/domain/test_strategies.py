import pytest

from api.domain import sampling, strategies
from api.domain.errors import InvalidError
from api.schemas.trainings import TrainingCreate

WORKERS = [f"w{i}" for i in range(10)]


def asked(**fields: object) -> TrainingCreate:
    return TrainingCreate.model_validate({"dataset": "/data/*.json", "epochs": 1, **fields})


def test_a_strategy_gets_its_own_defaults_and_nothing_of_others() -> None:
    config = asked(strategy="fedavgm", server_momentum=0.5).spec()
    assert (config.server_learning_rate, config.server_momentum) == (1.0, 0.5)
    assert config.trim_fraction is None
    assert asked().spec().server_learning_rate is None


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"strategy": "fedavg", "server_momentum": 0.9}, "/server_momentum"),
        ({"strategy": "krum", "trim_fraction": 0.1}, "/trim_fraction"),
        ({"proximal_mu": 0.1}, "/proximal_mu"),
        ({"strategy": "fedadagrad", "server_beta_2": 0.9}, "/server_beta_2"),
        ({"strategy": "diloco", "optimizer": "sgd"}, "/optimizer"),
    ],
)
def test_a_parameter_of_another_strategy_is_refused_with_a_pointer(fields: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidError) as caught:
        asked(**fields).spec()
    assert [error.pointer for error in caught.value.errors] == [pointer]


def test_dilocos_inner_optimizer_is_adamw() -> None:
    assert asked(strategy="diloco").spec().optimizer == "adamw"
    assert asked(strategy="diloco", optimizer="adamw").spec().optimizer == "adamw"


@pytest.mark.parametrize(
    ("fields", "workers", "pointer"),
    [
        ({"strategy": "krum"}, 4, "/strategy"),
        ({"strategy": "multi_krum", "byzantine_count": 2}, 6, "/strategy"),
        ({"strategy": "bulyan"}, 6, "/strategy"),
        ({"strategy": "median"}, 2, "/strategy"),
        ({"strategy": "trimmed_mean", "trim_fraction": 0.1}, 9, "/strategy"),
        ({"strategy": "krum", "fraction": 0.4}, 10, "/strategy"),
        ({"min_workers": 3}, 2, "/min_workers"),
    ],
)
def test_too_few_workers_for_a_strategy_are_refused(fields: dict[str, object], workers: int, pointer: str) -> None:
    with pytest.raises(InvalidError) as caught:
        asked(**fields).spec().check_workers(workers)
    assert [error.pointer for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize(
    ("fields", "workers"),
    [({"strategy": "krum"}, 5), ({"strategy": "bulyan"}, 7), ({"strategy": "trimmed_mean"}, 4), ({"strategy": "fedadam"}, 1)],
)
def test_enough_workers_are_taken(fields: dict[str, object], workers: int) -> None:
    asked(**fields).spec().check_workers(workers)


def test_every_strategy_knows_how_many_updates_it_needs() -> None:
    needed = {name: strategies.least_updates(name, {}) for name in strategies._FACTS}
    assert {name for name, least in needed.items() if least > 1} == {"median", "trimmed_mean", "krum", "multi_krum", "bulyan"}
    assert (needed["krum"], needed["bulyan"], needed["trimmed_mean"]) == (5, 7, 4)


@pytest.mark.parametrize(
    ("workers", "fraction", "least", "count"),
    [(10, 1.0, 1, 10), (10, 0.25, 1, 3), (30, 0.1, 1, 3), (10, 0.1, 4, 4), (2, 0.01, 1, 1), (2, 0.5, 9, 2)],
)
def test_the_fraction_is_rounded_up_and_never_below_the_least(workers: int, fraction: float, least: int, count: int) -> None:
    assert sampling.count(workers, fraction, least) == count


def test_the_seed_and_the_round_decide_who_is_drawn() -> None:
    rounds = [sampling.draw(WORKERS, 3, 7, number) for number in range(1, 40)]
    assert rounds == [sampling.draw(WORKERS, 3, 7, number) for number in range(1, 40)]
    assert rounds != [sampling.draw(WORKERS, 3, 8, number) for number in range(1, 40)]
    assert all(len(set(drawn)) == 3 and drawn == sorted(drawn) for drawn in rounds)
    assert {node_id for drawn in rounds for node_id in drawn} == set(WORKERS)


def test_whoever_is_left_is_drawn_where_too_few_are() -> None:
    assert sampling.draw(["w1", "w2"], 3, 0, 1) == ["w1", "w2"]
