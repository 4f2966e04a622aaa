import pytest

from tests.workers.agent.agents import federation
from workers.agent.aggregator.consensus.update_length import OUT_OF_REACH, too_long


@pytest.mark.parametrize(
    ("lengths", "steps", "found"),
    [
        ({"a": 1.0, "b": 1.1, "c": 0.9, "d": 30.0}, {}, ["d"]),
        ({"a": 1.0, "b": 1.1, "c": 0.9, "d": 3.0}, {}, []),
        ({"a": 1.0, "b": 1.1, "c": 0.9, "d": 1.0, "e": 1.0, "f": 1.2, "g": 40.0, "h": 50.0}, {}, ["g", "h"]),
        ({"a": 1.0, "b": 1.0, "c": 8.0}, {"c": 30}, []),
        ({"a": 1.0, "b": 1.0, "c": 8.0}, {"c": 15}, ["c"]),
        ({"a": 1.0, "b": 1.0, "free rider": 1e-6}, {}, []),
        ({"a": 1e-6, "b": 1.0}, {}, []),
        ({"a": 1.0}, {}, []),
        ({}, {}, []),
    ],
)
def test_only_what_is_several_times_as_long_as_usual_is_named(
    lengths: dict[str, float], steps: dict[str, int], found: list[str]
) -> None:
    assert too_long({name: (length, steps.get(name, 10)) for name, length in lengths.items()}) == found


def test_a_worker_that_leaps_in_the_first_round_is_refused_though_nobody_has_learned_yet() -> None:
    """SGD has no bound that an audit could check."""
    with federation(3, count=60) as three:
        three.hyperparameters |= {"optimizer": "sgd", "learning_rate": 1e-4}
        three.collect(consensus="proof-of-learning")
        for worker in three.workers:
            rate = {"learning_rate": 1e-2} if worker is three.workers[2] else {}
            three.train(worker, consensus="proof-of-learning", wanted=rate)
        found = three.aggregated()
        assert found["state"] == "done", found["problem"]
        assert found["rejected"] == {"w3": OUT_OF_REACH}
        assert sorted(found["accepted"]) == ["w1", "w2"]
