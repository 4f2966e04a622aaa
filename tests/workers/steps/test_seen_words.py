"""A prediction says that its words were never seen in training, after each kind of training that
can show it.
"""

from typing import Any

import pytest
from sqlalchemy.orm import undefer

from api.domain.specs import PredictionSpec
from api.services import predictions
from api.store.tables import NodeRow, PredictionRow
from tests.workers.agent.texts import samples
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps import predictions as steps

CHINESE = ("这部电影非常好看", "我不喜欢那家餐厅的服务")
OWN = tuple(row["text"] for number in range(4) for row in samples(6, number * 1000))


def _notices(live: LiveCluster, texts: tuple[str, ...]) -> list[str]:
    with live.database.unit_of_work() as uow:
        for name in live.workers:
            uow.session.get_one(NodeRow, name).capabilities = ["training", "inference"]
        prediction_id = predictions.start(uow, live.project_id, live.cluster_id, PredictionSpec("global", texts, None, None)).id
    steps.advance(live.context, prediction_id)
    with live.database.unit_of_work() as uow:
        row = uow.session.get_one(PredictionRow, prediction_id, options=[undefer(PredictionRow.results)])
        assert row.status == "completed", row.error
        assert row.results is not None
        found: list[str] = row.results["notices"]
        return found


def _train(live: LiveCluster, **fields: Any) -> str:
    """Train `base`. Return the training's id."""
    with live.database.unit_of_work() as uow:
        for name in (*live.workers, live.aggregator):
            uow.session.get_one(NodeRow, name).model = "base"
    live.connect("star")
    # With federated false, the training reads the pooled data set of the aggregator.
    live.agents[-1].put("/data/train_all.json", [row for number in range(4) for row in samples(24, number * 1000)])
    training_id = live.begin(**{"epochs": 1, "max_length": 32, **fields})
    assert live.run_to_end(training_id)[0] == "completed"
    return training_id


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": "sgd", "weight_decay": 0.1, "learning_rate": 1e-4},
        {"strategy": "fedadam"},
        {"strategy": "diloco"},
        {"compression": "int8"},
        {"compression": "fp16"},
        {"secure_aggregation": True},
        {"federated": False},
    ],
)
def test_words_that_no_worker_has_seen_are_told(live: LiveCluster, fields: dict[str, Any]) -> None:
    """Rare words count too: each worker's texts have numbers that no other worker has."""
    _train(live, **fields)
    (notice,) = _notices(live, CHINESE)
    assert notice.startswith("Most tokens were never seen in training: about ")
    assert notice.endswith(f" of {sum(map(len, CHINESE))}.")
    assert _notices(live, OWN) == []
    numbers = tuple(text.split()[3] for text in OWN)
    assert _notices(live, numbers) == [], "each of them was seen by one worker, once"


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy": "median"},
        {"compression": "topk"},
        {"compression": "lora"},
        {"differential_privacy": {"target_epsilon": 8.0, "max_grad_norm": 1.0, "delta": 1e-3}},
    ],
)
def test_nothing_is_said_where_it_cannot_be_known(live: LiveCluster, fields: dict[str, Any]) -> None:
    _train(live, **fields)
    assert _notices(live, CHINESE) == []
    assert _notices(live, OWN) == []


def test_a_training_that_goes_on_knows_the_words_before_it(live: LiveCluster) -> None:
    """The second training's texts are Chinese. The words of the first one were seen too."""
    first = _train(live)
    for number, worker in enumerate(live.agents[:-1]):
        rows = [{"text": text, "sentiment": label} for text in CHINESE for label in ("negative", "positive")] * 5
        worker.put(f"/data/later_{number}.json", rows)
    second = _train(live, dataset="/data/later_*.json", initial_model=first)
    assert live.read(second).initial_model is not None
    assert _notices(live, CHINESE) == _notices(live, OWN) == []
    assert len(_notices(live, ("Никто не видел этих слов", "и этих тоже никогда"))) == 1


def test_nothing_is_said_after_a_training_before_it_that_loses_words(live: LiveCluster) -> None:
    first = _train(live, compression="topk")
    _train(live, initial_model=first)
    assert _notices(live, CHINESE) == []
