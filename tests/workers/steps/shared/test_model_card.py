"""A model card's facts are the training's own figures, by counts."""

import json

from api.services import trainings
from api.store.tables import ClusterRow, TrainingRow
from tests.workers.steps.house import House
from workers.steps.shared import model_card


def test_the_card_tells_samples_votes_and_rejections_of_each_round(house: House) -> None:
    with house.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, house.cluster_id)
        cluster.config = cluster.config.model_copy(update={"consensus": "proof-of-learning"})
    house.connect("star")
    training_id = house.begin(epochs=2)
    status, rounds = house.go_on(training_id)
    assert status == "completed"
    with house.database.unit_of_work() as uow:
        training = uow.session.get_one(TrainingRow, training_id)
        cluster = uow.session.get_one(ClusterRow, house.cluster_id)
        facts, record = model_card.card(uow.session, training, cluster, training.digest or "")
        # A model of the first round has that round's record only.
        first, begun = model_card.card(uow.session, training, cluster, rounds[0].digest or "")
        assert trainings.get(uow.session, house.project_id, training_id).completed_rounds == 2
    samples = {name: worker.samples for name, worker in rounds[1].workers.items()}
    assert facts["samples_per_worker"] == samples
    assert facts["training_samples"] == sum(count or 0 for count in samples.values())
    assert (facts["rounds"], facts["strategy"], facts["consensus"]) == (2, "fedavg", "proof-of-learning")
    votes = [vote for row in rounds for vote in row.votes]
    assert facts["votes"] == len(votes) > 0
    assert facts["votes_against"] == sum(not vote["accept"] for vote in votes)
    assert facts["validation_accuracy"] == rounds[1].validation_accuracy
    assert [row["round"] for row in record] == [1, 2]
    for row, shown in zip(rounds, record, strict=True):
        states = [worker.state for worker in row.workers.values()]
        assert (shown["accepted"], shown["rejected"]) == (states.count("done"), states.count("rejected"))
        assert (shown["votes"], shown["global_loss"]) == (len(row.votes), row.global_loss)
    assert (first["rounds"], first["global_loss"], len(begun)) == (1, rounds[0].global_loss, 1)
    assert (facts["differential_privacy"], facts["secure_aggregation"]) == ({}, False)
    assert isinstance(facts["cost_usd"], float)
    json.dumps([facts, record])
