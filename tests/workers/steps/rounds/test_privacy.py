"""Trainings with protections as steps run them, on a real Postgres and real agents.

The tests check the privacy that is spent, reported and stored.
"""

import pytest
from sqlalchemy import select

from api.domain.accountant import DpSgdSteps, epsilon
from api.domain.errors import InvalidError
from api.domain.specs import PredictionSpec
from api.schemas.clusters import ClusterStatus, TrainingSession
from api.schemas.nodes import NodeRound
from api.schemas.trainings import Training
from api.services import predictions, progress, trainings
from api.store import leases
from api.store.tables import ClusterRow, RoundNodeRow, TrainingRow
from tests.workers.agent.texts import samples
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps import trainings as steps
from workers.steps.rounds.plan import open_round
from workers.steps.shared import model_card
from workers.steps.shared.training_snapshot import load

PRIVATE = {"target_epsilon": 8.0, "max_grad_norm": 1.0, "delta": 1e-3}


def read_training(live: LiveCluster, training_id: str) -> Training:
    with live.database.unit_of_work() as uow:
        return Training.of(trainings.get(uow.session, live.project_id, training_id))


def test_every_round_says_what_it_has_spent_and_all_end_at_the_target(live: LiveCluster) -> None:
    live.connect("mesh")
    training_id = live.begin(epochs=3, differential_privacy=PRIVATE)
    status, rounds = live.run_to_end(training_id)
    assert (status, [row.data_path for row in rounds]) == ("completed", ["mesh"] * 3), "noised updates may go any way"
    for row in rounds:
        assert (row.global_loss, row.global_accuracy, row.validation_accuracy, row.validation_source) == (None,) * 4
        measured = {(worker.local_loss, worker.local_accuracy, worker.samples) for worker in row.workers.values()}
        assert measured == {(None, None, 24)}
    spent = [row.workers[live.workers[0]].privacy for row in rounds]
    assert [round_privacy.steps for round_privacy in spent if round_privacy] == [3, 3, 3]
    epsilons = [round_privacy.epsilon for round_privacy in spent if round_privacy]
    assert epsilons == sorted(set(epsilons))
    assert 7.8 < epsilons[-1] <= 8.0
    last = spent[-1]
    assert last is not None
    assert epsilons[-1] == pytest.approx(epsilon([DpSgdSteps(1 / 3, last.noise_multiplier, 9)], 1e-3))
    privacy = read_training(live, training_id).privacy
    assert privacy is not None
    assert (privacy.epsilon, privacy.delta, set(privacy.workers)) == (epsilons[-1], 1e-3, set(live.workers))
    with live.database.unit_of_work() as uow:
        status_view = ClusterStatus.of(progress.cluster_status(uow.session, live.project_id, live.cluster_id))
        session = next(shown for shown in status_view.training_sessions if shown.training_id == training_id)
        assert isinstance(session, TrainingSession)
        assert session.privacy == privacy
        assert session.workers[live.workers[0]].samples == 24
        with pytest.raises(InvalidError, match="weighs by exact accuracies"):
            predictions.start(uow, live.project_id, live.cluster_id, PredictionSpec("weighted", ("a",), None, training_id))
        training = uow.session.get_one(TrainingRow, training_id)
        cluster = uow.session.get_one(ClusterRow, live.cluster_id)
        facts, _ = model_card.card(uow.session, training, cluster, training.digest or "")
        assert facts["differential_privacy"] == {"epsilon": epsilons[-1], "delta": 1e-3}


def test_a_round_that_was_begun_counts_and_a_resumed_training_keeps_to_its_target(live: LiveCluster) -> None:
    live.connect("star")
    training_id = live.begin(epochs=3, differential_privacy=PRIVATE)
    while read_training(live, training_id).completed_rounds < 1:
        steps.advance(live.context, training_id)
    first = read_training(live, training_id).privacy
    assert first is not None
    # The second round begins and is dropped. Some of its updates may have been seen.
    with live.database.unit_of_work() as uow:
        snapshot = load(uow.session, trainings.get(uow.session, live.project_id, training_id))
        claim = leases.claim(uow.session, TrainingRow, training_id, 60)
    assert claim is not None
    open_round(live.context, snapshot, claim.token, 2)
    with live.database.unit_of_work() as uow:
        leases.release(leases.held(uow.session, TrainingRow, training_id, claim.token), 0)
        trainings.stop(uow, live.project_id, training_id)
    steps.advance(live.context, training_id)
    assert read_training(live, training_id).status == "stopped"
    before = read_training(live, training_id).privacy
    assert before is not None
    assert before.epsilon > first.epsilon
    live.agents[0].put("/data/train_0.json", samples(40, 0))
    with live.database.unit_of_work() as uow:
        trainings.resume(uow, live.project_id, training_id)
    status, _ = live.run_to_end(training_id)
    assert status == "completed"
    after = read_training(live, training_id).privacy
    assert after is not None
    assert before.epsilon < after.epsilon <= 8.0
    plan = after.workers[live.workers[0]]
    assert (plan.samples, plan.sampling_rate, after.delta) == (40, 8 / 40, 1e-3)


def test_delta_is_a_tenth_of_a_record_of_the_largest_shard_where_none_is_given(live: LiveCluster) -> None:
    live.connect("star")
    live.agents[1].put("/data/train_1.json", samples(50, 1000))
    training_id = live.begin(epochs=1, differential_privacy={"noise_multiplier": 1.5})
    status, _ = live.run_to_end(training_id)
    privacy = read_training(live, training_id).privacy
    assert status == "completed"
    assert privacy is not None
    assert privacy.delta == pytest.approx(1 / 500)
    assert {plan.noise_multiplier for plan in privacy.workers.values()} == {1.5}
    with live.database.unit_of_work() as uow:
        rows = uow.session.scalars(select(RoundNodeRow).where(RoundNodeRow.training_id == training_id)).all()
        # A data owner sees this for its own node.
        spent = [NodeRound.of(row).privacy for row in rows]
    assert max(privacy_of_round.epsilon for privacy_of_round in spent if privacy_of_round) == privacy.epsilon > 0


def test_a_secure_sum_takes_the_stars_way_says_so_and_bears_a_lost_worker(live: LiveCluster) -> None:
    live.connect("ring")
    training_id = live.begin(epochs=2, secure_aggregation=True, strategy="fedadam", differential_privacy=PRIVATE)
    while read_training(live, training_id).completed_rounds < 1:
        steps.advance(live.context, training_id)
    live.sockets.paths[live.workers[2]] = "/nowhere.sock"
    status, rounds = live.run_to_end(training_id)
    assert status == "completed", rounds[-1].error
    assert {(row.data_path, row.data_path_reason) for row in rounds} == {
        ("star", "secure aggregation: the aggregator adds up masked updates")
    }
    assert [worker.state for worker in rounds[0].workers.values()] == ["done"] * 4
    assert sorted(worker.state for worker in rounds[1].workers.values()) == ["done", "done", "done", "lost"]
    assert all(link.bytes > 0 for row in rounds for link in row.links)
    # A round that began is charged, also to the lost worker.
    assert {worker.privacy.steps for worker in rounds[1].workers.values() if worker.privacy} == {3}


def test_a_secure_sum_of_two_is_refused_and_one_that_is_left_with_two_ends(live: LiveCluster) -> None:
    live.connect("star")
    with pytest.raises(InvalidError, match="from 3 workers on"):
        live.begin(epochs=1, secure_aggregation=True, fraction=0.5)
    training_id = live.begin(epochs=2, secure_aggregation=True)
    steps.advance(live.context, training_id)
    for lost in live.workers[2:]:
        live.sockets.paths[lost] = "/nowhere.sock"
    status, rounds = live.run_to_end(training_id)
    error = read_training(live, training_id).error
    assert error is not None
    assert (status, error.code) in {("failed", "quorum_lost"), ("failed", "below_threshold")}
    assert not [row for row in rounds if row.digest], "nothing was published"
