"""The facts of a model card and the curves are counts and metrics of the training."""

import json

from api.services import trainings
from api.store.tables import ClusterRow, TrainingRow
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps.shared import model_card, round_metrics


def test_the_card_tells_samples_votes_and_rejections_of_each_round(live: LiveCluster) -> None:
    with live.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, live.cluster_id)
        cluster.config = cluster.config.model_copy(update={"consensus": "proof-of-learning"})
    live.connect("star")
    training_id = live.begin(epochs=2)
    status, rounds = live.run_to_end(training_id)
    assert status == "completed"
    with live.database.unit_of_work() as uow:
        training = uow.session.get_one(TrainingRow, training_id)
        cluster = uow.session.get_one(ClusterRow, live.cluster_id)
        facts, record = model_card.card(uow.session, training, cluster, training.digest or "")
        # A model of the first round has that round's record only.
        first, first_record = model_card.card(uow.session, training, cluster, rounds[0].digest or "")
        assert trainings.get(uow.session, live.project_id, training_id).completed_rounds == 2
    samples = {name: worker.samples for name, worker in rounds[1].workers.items()}
    assert facts["samples_per_worker"] == samples
    assert facts["training_samples"] == sum(count or 0 for count in samples.values())
    assert (facts["rounds"], facts["strategy"], facts["consensus"]) == (2, "fedavg", "proof-of-learning")
    votes = [vote for row in rounds for vote in row.votes]
    assert facts["votes"] == len(votes) > 0
    assert facts["votes_against"] == sum(not vote.accept for vote in votes)
    assert facts["validation_accuracy"] == rounds[1].validation_accuracy
    assert [row["round"] for row in record] == [1, 2]
    for row, recorded in zip(rounds, record, strict=True):
        states = [worker.state for worker in row.workers.values()]
        assert (recorded["accepted"], recorded["rejected"]) == (states.count("done"), states.count("rejected"))
        assert (recorded["votes"], recorded["global_loss"]) == (len(row.votes), row.global_loss)
    assert (first["rounds"], first["global_loss"], len(first_record)) == (1, rounds[0].global_loss, 1)
    assert (facts["differential_privacy"], facts["secure_aggregation"]) == ({}, False)
    assert isinstance(facts["cost_usd"], float)
    json.dumps([facts, record])


def test_the_curves_have_each_rounds_figures_and_those_of_its_workers(live: LiveCluster) -> None:
    live.connect("star")
    training_id = live.begin(epochs=2)
    status, rounds = live.run_to_end(training_id)
    assert status == "completed"
    with live.database.unit_of_work() as uow:
        whole = round_metrics.metrics(uow.session, round_metrics.until(uow.session, training_id, rounds[1].digest or ""))
        first = round_metrics.until(uow.session, training_id, rounds[0].digest or "")
        last = round_metrics.after(uow.session, training_id, 1, most=10)
        assert round_metrics.metrics(uow.session, round_metrics.after(uow.session, training_id, 2, most=10)) == []
    assert ([row.number for row in first], [row.number for row in last]) == ([1], [2])
    assert [done.number for done in whole] == [1, 2]
    for row, done in zip(rounds, whole, strict=True):
        assert done.ended_at >= row.started_at.timestamp()
        for name in ("global_loss", "global_accuracy", "validation_accuracy", "seconds"):
            assert done.values[name] == getattr(row, name)
        for node_id, worker in row.workers.items():
            assert done.values[f"local_loss/{node_id}"] == worker.local_loss
        assert "consensus_distance" not in done.values, "it is measured under gossip only"
