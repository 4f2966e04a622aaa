"""Workers that join a running training, on a real Postgres and real agents."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func

from api.domain.errors import ConflictError
from api.schemas.clusters import ClusterStatus, TrainingSession
from api.schemas.trainings import Training, TrainingRound
from api.services import clusters, progress
from api.store import transitions
from api.store.tables import ClusterRow, NodeRow, TrainingRow
from tests.api.store.rows import make_node
from tests.workers.agent import agents
from tests.workers.agent.texts import samples
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps import trainings as steps

_NOWHERE = "/nobody/listens/here.sock"


class Joining:
    """A fifth worker that is deployed when a test says so."""

    def __init__(self, live: LiveCluster, agent: agents.LiveAgent) -> None:
        self.live = live
        self.agent = agent
        self.node_id = agent.node_id

    def deploy(self, *, connect: bool = True, **fields: Any) -> None:
        with self.live.database.unit_of_work() as uow:
            cluster = uow.session.get_one(ClusterRow, self.live.cluster_id)
            fields = {"id": self.node_id, "model": "/models/tiny", "sandbox_id": self.node_id, **fields}
            transitions.move(uow.session, make_node(uow.session, cluster, **fields), "running")
        if connect:
            self.live.connect(None)

    def begin(self, rounds: int = 1, **fields: Any) -> str:
        """Begin a training of four epochs, and run it until `rounds` rounds are completed."""
        training_id = self.live.begin(**{"epochs": 4, **fields})
        while self.live.read(training_id).status != "training" or self.live.read(training_id).completed_rounds < rounds:
            steps.advance(self.live.context, training_id)
            assert self.live.read(training_id).error is None
        return training_id

    def end(self, training_id: str) -> list[TrainingRound]:
        status, rounds = self.live.run_to_end(training_id)
        assert status == "completed", self.live.read(training_id).error
        return rounds

    def flags(self, training_id: str) -> dict[str, str]:
        """Return this worker's red flags, by code."""
        row = self.live.read(training_id)
        return {flag.code: f"{flag.message} {flag.suggestion}" for flag in row.red_flags if flag.node_id == self.node_id}

    def joined(self, training_id: str) -> list[tuple[str, int, int]]:
        """Return node id, round and samples of each event about a worker that has joined."""
        joined = self.live.events("training.worker_joined")
        mine = [event for event in joined if event["training_id"] == training_id]
        return [(event["node_id"], event["round"], event["samples"]) for event in mine]

    def session(self, training_id: str) -> TrainingSession:
        with self.live.database.unit_of_work() as uow:
            status = ClusterStatus.of(progress.cluster_status(uow.session, self.live.project_id, self.live.cluster_id))
            session = next(session for session in status.training_sessions if session.training_id == training_id)
            assert isinstance(session, TrainingSession)
            return session


@pytest.fixture
def joining(live: LiveCluster) -> Iterator[Joining]:
    name = f"w5_{live.aggregator.partition('_')[2]}"
    with agents.live_agent(name, "worker", live.keys.key(name)) as agent:
        agent.put("/data/train_9.json", samples(48, 9_000))
        live.sockets.paths[name] = agent.peer.uds or ""
        yield Joining(live, agent)


def workers_of(rounds: list[TrainingRound]) -> list[int]:
    return [len(row.workers) for row in rounds]


@pytest.mark.parametrize("topology", ["mesh", "hierarchical"])
def test_a_worker_that_is_connected_takes_part_from_the_next_round(joining: Joining, topology: str) -> None:
    joining.live.connect(topology)
    training_id = joining.begin()
    joining.deploy()
    rounds = joining.end(training_id)
    assert workers_of(rounds) == [4, 5, 5, 5]
    assert [row.data_path for row in rounds] == [topology] * 4
    mine = rounds[1].workers[joining.node_id]
    assert (mine.state, mine.samples) == ("done", 43)
    assert joining.node_id in {link.from_ for row in rounds[1:] for link in row.links}
    assert joining.node_id in rounds[1].copies
    session = joining.session(training_id)
    assert session.workers[joining.node_id].local_loss is not None
    assert joining.flags(training_id) == {}
    assert joining.joined(training_id) == [(joining.node_id, 2, 48)]
    with joining.live.database.unit_of_work() as uow:
        shown = Training.of(uow.session.get_one(TrainingRow, training_id))
        assert (shown.joined, shown.workers[-1]) == ({joining.node_id: 2}, joining.node_id)


@pytest.mark.parametrize("consensus", ["gossip", "raft", "proof-of-learning", "byzantine"])
def test_every_consensus_counts_the_new_worker(joining: Joining, consensus: str) -> None:
    with joining.live.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, joining.live.cluster_id)
        cluster.config = cluster.config.model_copy(update={"consensus": consensus})
    joining.live.connect("mesh")
    training_id = joining.begin(epochs=3)
    joining.deploy()
    rounds = joining.end(training_id)
    assert workers_of(rounds) == [4, 5, 5]
    assert rounds[-1].workers[joining.node_id].state in ("done", "rejected" if consensus == "byzantine" else "done")
    if consensus == "proof-of-learning":
        assert joining.node_id in {vote.candidate for row in rounds[1:] for vote in row.votes}


def test_its_cost_counts_from_the_moment_it_joins(joining: Joining) -> None:
    joining.live.connect("star")
    training_id = joining.begin()
    # Its sandbox has run for an hour, at 0.05 USD a minute.
    joining.deploy(started_at=func.clock_timestamp() - timedelta(hours=1))
    joining.end(training_id)
    with joining.live.database.unit_of_work() as uow:
        training = uow.session.get_one(TrainingRow, training_id)
        training.started_at = func.clock_timestamp() - timedelta(minutes=30)
    assert 0 < joining.session(training_id).cost_usd < 0.5


def test_a_training_may_keep_its_workers(joining: Joining) -> None:
    joining.live.connect("star")
    training_id = joining.begin(late_joiners=False)
    joining.deploy()
    steps.advance(joining.live.context, training_id)
    assert "late_joiners false" in joining.flags(training_id)["worker_outside"]
    rounds = joining.end(training_id)
    assert workers_of(rounds) == [4] * 4
    assert "worker_outside" in joining.flags(training_id)


def test_a_worker_that_is_not_connected_is_told_so(joining: Joining) -> None:
    joining.live.connect("star")
    training_id = joining.begin()
    joining.deploy(connect=False)
    steps.advance(joining.live.context, training_id)
    assert f"/v1/clusters/{joining.live.cluster_id}/connect" in joining.flags(training_id)["worker_outside"]
    joining.live.connect("star")
    assert workers_of(joining.end(training_id))[-1] == 5
    assert joining.flags(training_id) == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{"text": f"new text {number}", "sentiment": "secret-label"} for number in range(9)], "1 of its 1 labels"),
        ([{"words": "no text"}], "samples have no text"),
        (None, "no file matches"),
    ],
)
def test_a_worker_whose_data_does_not_fit_is_flagged_and_may_mend_it(joining: Joining, content: Any, reason: str) -> None:
    joining.live.connect("star")
    training_id = joining.begin()
    shard = joining.agent.root / "data/train_9.json"
    shard.unlink()
    if content is not None:
        joining.agent.put("/data/train_9.json", content)
    joining.deploy()
    steps.advance(joining.live.context, training_id)
    flag = joining.flags(training_id)["worker_cannot_join"]
    assert reason in flag
    assert f"DELETE /v1/nodes/{joining.node_id}" in flag
    assert "secret-label" not in flag
    assert joining.node_id not in joining.live.read(training_id).workers
    joining.agent.put("/data/train_9.json", samples(9, 9_000)[:8])
    rounds = joining.end(training_id)
    assert workers_of(rounds)[-1] == 5
    assert "worker_cannot_join" not in joining.flags(training_id)


def test_a_worker_with_few_classes_joins_with_a_flag(joining: Joining) -> None:
    joining.agent.put("/data/train_9.json", [item for item in samples(60, 9_000) if item["sentiment"] == "positive"])
    joining.live.connect("star")
    training_id = joining.begin()
    joining.deploy()
    assert workers_of(joining.end(training_id)) == [4, 5, 5, 5]
    assert "lacks 'negative', 'neutral'" in joining.flags(training_id)["missing_classes"]


def test_a_worker_of_another_model_cannot_join(joining: Joining) -> None:
    joining.live.connect("star")
    training_id = joining.begin()
    joining.deploy(model="large")
    assert workers_of(joining.end(training_id)) == [4] * 4
    assert "model 'large'" in joining.flags(training_id)["worker_cannot_join"]


def test_a_worker_that_dies_while_it_joins_does_no_harm_and_joins_when_it_is_back(joining: Joining) -> None:
    joining.live.connect("mesh")
    training_id = joining.begin()
    socket, joining.live.sockets.paths[joining.node_id] = joining.live.sockets.paths[joining.node_id], _NOWHERE
    joining.deploy()
    steps.advance(joining.live.context, training_id)
    row = joining.live.read(training_id)
    assert (row.status, row.completed_rounds, joining.node_id in row.workers) == ("training", 2, False)
    joining.live.sockets.paths[joining.node_id] = socket
    with joining.live.database.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, joining.node_id)
        assert node.status == "lost"
        transitions.move(uow.session, node, "running")
    assert workers_of(joining.end(training_id)) == [4, 4, 5, 5]


def test_a_step_that_runs_twice_admits_a_worker_once(joining: Joining) -> None:
    joining.live.connect("star")
    training_id = joining.begin()
    joining.deploy()
    for _ in range(3):
        steps.advance(joining.live.context, training_id)
    assert joining.live.read(training_id).workers.count(joining.node_id) == 1
    assert joining.joined(training_id) == [(joining.node_id, 2, 48)]


@pytest.mark.parametrize("topology", ["star", "ring"])
def test_a_synchronous_training_shares_its_data_out_again(joining: Joining, topology: str) -> None:
    pooled = {agent.node_id: agent for agent in joining.live.agents}[joining.live.aggregator]
    pooled.put("/data/train_pool.json", samples(96))
    joining.live.connect(topology)
    training_id = joining.begin(federated=False)
    joining.deploy()
    rounds = joining.end(training_id)
    assert workers_of(rounds) == [4, 5, 5, 5]
    assert {worker.state for worker in rounds[-1].workers.values()} == {"done"}


def test_secure_aggregation_masks_with_the_new_worker(joining: Joining) -> None:
    joining.live.connect("star")
    training_id = joining.begin(secure_aggregation=True, epochs=3)
    joining.deploy()
    rounds = joining.end(training_id)
    assert workers_of(rounds) == [4, 5, 5]
    assert rounds[-1].workers[joining.node_id].state == "done"


def test_a_private_training_gives_the_worker_a_plan_of_its_own(joining: Joining) -> None:
    joining.live.connect("star")
    private = {"target_epsilon": 8.0, "delta": 1e-3}
    training_id = joining.begin(differential_privacy=private)
    before = joining.live.read(training_id).privacy
    joining.deploy()
    joining.end(training_id)
    after = joining.live.read(training_id).privacy
    assert before is not None
    assert after is not None
    plan = after.plans[joining.node_id]
    # 48 records and batches of 8; three of the four epochs are left.
    assert (plan.samples, plan.steps_per_epoch) == (48, 6)
    assert plan.sampling_rate == pytest.approx(1 / 6)
    assert 7.5 < after.epsilon[joining.node_id] <= 8.0
    assert {name: plan for name, plan in after.plans.items() if name != joining.node_id} == before.plans
    assert max(after.epsilon.values()) <= 8.0


def test_a_private_training_refuses_a_shard_too_large_for_its_delta(joining: Joining) -> None:
    joining.live.connect("star")
    training_id = joining.begin(differential_privacy={"noise_multiplier": 1.0})
    joining.deploy()
    assert workers_of(joining.end(training_id)) == [4] * 4
    assert "48 records, more than any shard" in joining.flags(training_id)["worker_cannot_join"]


def test_a_running_training_keeps_its_topology_and_its_absent_members(joining: Joining) -> None:
    live = joining.live
    live.connect("ring")
    joining.begin()
    with pytest.raises(ConflictError) as caught:
        live.connect("star")
    assert caught.value.code == "training_active"
    with live.database.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(NodeRow, live.workers[1]), "lost")
    joining.deploy()
    with live.database.unit_of_work() as uow:
        cluster = clusters.get(uow.session, live.project_id, live.cluster_id)
        assert set(cluster.members) == {*live.workers, live.aggregator, joining.node_id}
        edges = {(edge["from"], edge["to"]) for edge in cluster.connections}
    assert (live.workers[3], joining.node_id) in edges
