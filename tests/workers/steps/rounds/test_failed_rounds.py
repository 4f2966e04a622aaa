"""A round that fails for good names its cause, on a real Postgres and real agents."""

import pytest

from api.store.tables import ClusterRow, TrainingRow
from tests.workers.agent.texts import samples
from tests.workers.steps.live_cluster import LiveCluster


def _train(live: LiveCluster, **fields: object) -> TrainingRow:
    training_id = live.begin(**fields)
    assert live.run_to_end(training_id)[0] == "failed"
    return live.read(training_id)


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "secure_aggregation": True},
        {"optimizer": "sgd", "strategy": "median"},
        {"optimizer": "sgd", "federated": False},
        {"optimizer": "sgd", "differential_privacy": {"noise_multiplier": 1000, "max_grad_norm": 1e6}},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_a_learning_rate_that_is_too_large_is_the_error_and_a_red_flag(live: LiveCluster, fields: dict[str, object]) -> None:
    live.agents[-1].put("/data/train_0.json", samples(96))
    live.connect("star")
    row = _train(live, **{"learning_rate": 10.0, "epochs": 6, "local_epochs": 3, **fields})
    assert row.error is not None
    assert row.error.code == "diverged", row.error.detail
    assert "The learning rate is 10" in row.error.detail
    assert "try 1" in row.error.detail
    flags = {flag.code: flag for flag in row.red_flags}
    assert "learning rate is 10" in flags["round_failed"].suggestion


def test_a_consensus_that_refuses_updates_says_whose_and_why(live: LiveCluster) -> None:
    with live.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, live.cluster_id)
        cluster.config = cluster.config.model_copy(update={"consensus": "byzantine"})
    # It takes twenty-five times as many steps as the others, so its update is far from theirs.
    live.agents[0].put("/data/train_0.json", samples(600))
    live.connect("star")
    row = _train(live, quorum=1.0, epochs=1)
    assert row.error is not None
    assert row.error.code == "updates_refused", row.error.detail
    assert f"1 rejected, its update lies far from the others' ({live.workers[0]})" in row.error.detail
    assert "the quorum is 4" in row.error.detail
    flags = {flag.code: flag for flag in row.red_flags}
    assert "robust strategy" in flags["round_failed"].suggestion
