"""`federated: false` as steps run it.

The aggregator has a pooled data set, and gradients go along the cluster's topology.
"""

from api.services import trainings
from tests.workers.agent.texts import samples
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps import trainings as steps


def test_a_pooled_data_set_is_trained_on_by_all_workers_together(live: LiveCluster) -> None:
    live.connect("ring")
    live.agents[-1].put("/data/train_all.json", samples(120, 50_000))
    status, rounds = live.train(epochs=3, local_epochs=2, federated=False)
    assert status == "completed", rounds[-1].error
    assert [(row.round, row.data_path, row.fallback, row.notices) for row in rounds] == [
        (1, "ring", None, []),
        (2, "ring", None, []),
    ]
    for row in rounds:
        assert {worker.state for worker in row.workers.values()} == {"done"}
        # 12 of the 120 pooled samples are held out. Samples in the workers' sandboxes are not used.
        assert [worker.samples for worker in row.workers.values()] == [27, 27, 27, 27]
        assert row.copies == sorted(live.workers)
        assert row.validation_source == "held_out_splits"
        assert row.validation_samples == 12
        assert all(link.bytes > 0 for link in row.links)
        assert row.compression_ratio is None
    assert rounds[1].base_digest == rounds[0].digest
    assert rounds[1].global_loss is not None
    assert rounds[0].global_loss is not None
    assert rounds[1].global_loss < rounds[0].global_loss


def test_data_that_is_only_in_the_workers_sandboxes_is_refused_in_clear_words(live: LiveCluster) -> None:
    live.connect("star")
    training_id = live.begin(federated=False)
    steps.advance(live.context, training_id)
    with live.database.unit_of_work() as uow:
        row = trainings.get(uow.session, live.project_id, training_id)
    assert row.status == "refused"
    assert row.error is not None
    assert (row.error.status, row.error.code) == (422, "no_match")
    assert "no file in the aggregator's sandbox matches" in row.error.detail
    assert "data in the workers' sandboxes is not used" in row.error.detail


def test_a_worker_that_is_lost_is_left_out_and_the_round_says_so(live: LiveCluster) -> None:
    live.connect("mesh")
    live.agents[-1].put("/data/train_all.json", samples(120, 50_000))
    training_id = live.begin(epochs=1, federated=False)
    steps.advance(live.context, training_id)
    # The training was prepared. From now on the agent cannot be reached.
    lost = live.workers[2]
    live.sockets.paths[lost] = "/nowhere.sock"
    status, rounds = live.run_to_end(training_id)
    assert status == "completed", rounds[-1].error
    assert rounds[0].workers[lost].state in ("rejected", "lost")
    assert rounds[0].workers[lost].reason
    assert [notice.endswith(f"begun again from its base without {lost}") for notice in rounds[0].notices] == [True]
    assert [worker.samples for name, worker in rounds[0].workers.items() if name != lost] == [36, 36, 36]
