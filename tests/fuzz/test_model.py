"""Compare the API with a model of it: any sequence of user requests and worker results."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from api.store import transitions
from api.store.tables import NodeRow, TrainingRow
from tests.api.routes.user import TRAINING, User
from tests.fuzz.conftest import CASES, FUZZING, World

pytestmark = pytest.mark.timeout(7200)
_STEPS = 30
_ACTIVE = ("pending", "training", "stopping")


@dataclass
class Node:
    role: str
    status: str = "provisioning"


@dataclass
class Training:
    status: str
    members: list[str]


@dataclass
class Cluster:
    """The state of a cluster as a user expects it from the contract."""

    status: str = "initializing"
    nodes: dict[str, Node] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    trainings: dict[str, Training] = field(default_factory=dict)

    def running(self, role: str) -> list[str]:
        return [node_id for node_id, node in self.nodes.items() if node.role == role and node.status == "running"]

    def live(self, role: str) -> list[str]:
        states = ("running", "provisioning")
        return [node_id for node_id, node in self.nodes.items() if node.role == role and node.status in states]

    def active(self) -> Training | None:
        return next((item for item in self.trainings.values() if item.status in _ACTIVE), None)

    @property
    def ended(self) -> bool:
        return self.status in ("terminating", "terminated")


class ApiMachine(RuleBasedStateMachine):
    """The clusters of one user. `user` is set before the run."""

    user: ClassVar[User]
    clusters = Bundle("clusters")
    nodes = Bundle("nodes")
    trainings = Bundle("trainings")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Cluster] = {}

    def expect(self, code: str | None, status: int, method: str, path: str, **options: Any) -> Any:
        """Check the answer: a resource with `status` where the model allows it, else a conflict of
        `code`.
        """
        if code is None:
            return self.user.call(method, path, status, **options)
        found = self.user.refused(method, path, 409, **options)
        assert found["code"] == code, found
        return None

    @initialize(target=clusters)
    def a_cluster_that_can_train(self) -> str:
        cluster_id = self.create()
        for role in ("worker", "worker", "parameter_server"):
            self.a_worker_brings_it_up_or_gives_up(self.make_node(cluster_id, role), comes_up=True)
        self.connect(cluster_id, "mesh")
        return cluster_id

    @rule(target=clusters)
    def another_cluster(self) -> str:
        return self.create()

    def create(self) -> str:
        cluster_id = self.user.cluster()
        self.model[cluster_id] = Cluster()
        return cluster_id

    @rule(target=nodes, cluster_id=clusters, role=st.sampled_from(("worker", "worker", "parameter_server")))
    def deploy(self, cluster_id: str, role: str) -> Any:
        return self.make_node(cluster_id, role) or multiple()

    def make_node(self, cluster_id: str, role: str) -> tuple[str, str] | None:
        cluster, name = self.model[cluster_id], "worker" if role == "worker" else "aggregator"
        code = "cluster_terminated" if cluster.ended else None
        if code is None and name == "aggregator" and cluster.live("aggregator"):
            code = "aggregator_exists"
        made = self.expect(code, 202, "POST", f"/v1/clusters/{cluster_id}/nodes", json={"node_type": role})
        if made is None:
            return None
        cluster.nodes[made["node_id"]] = Node(name)
        return cluster_id, str(made["node_id"])

    @rule(named=nodes, comes_up=st.sampled_from((True, True, True, False)))
    def a_worker_brings_it_up_or_gives_up(self, named: tuple[str, str], *, comes_up: bool) -> None:
        cluster_id, node_id = named
        node = self.model[cluster_id].nodes[node_id]
        if node.status != "provisioning":
            return
        if comes_up:
            self.user.node_runs(node_id)
            node.status = "running"
        else:
            with self.user.rows.unit_of_work() as uow:
                transitions.move(uow.session, uow.session.get_one(NodeRow, node_id), "failed")
            node.status = "failed"

    @rule(named=nodes)
    def a_worker_finds_it_lost(self, named: tuple[str, str]) -> None:
        cluster_id, node_id = named
        node = self.model[cluster_id].nodes[node_id]
        if node.status != "running":
            return
        with self.user.rows.unit_of_work() as uow:
            transitions.move(uow.session, uow.session.get_one(NodeRow, node_id), "lost")
        node.status = "lost"

    @rule(named=nodes)
    def remove(self, named: tuple[str, str]) -> None:
        cluster_id, node_id = named
        cluster = self.model[cluster_id]
        node, active = cluster.nodes[node_id], cluster.active()
        code = "node_in_use" if active and node_id in active.members and node.status == "running" else None
        self.expect(code, 202, "DELETE", f"/v1/nodes/{node_id}")
        if code is None and node.status in ("provisioning", "running", "lost", "failed"):
            node.status = "terminating"
            cluster.members.discard(node_id)

    @rule(cluster_id=clusters, topology=st.sampled_from(("mesh", "ring", "star", "hierarchical")))
    def connect(self, cluster_id: str, topology: str) -> None:
        cluster = self.model[cluster_id]
        workers, aggregators = cluster.running("worker"), cluster.running("aggregator")
        starting = [node for node in cluster.nodes.values() if node.status == "provisioning"]
        code = None
        if cluster.ended:
            code = "cluster_terminated"
        elif cluster.status == "training":
            code = "training_active"
        elif starting:
            code = "nodes_not_ready"
        elif not workers:
            code = "no_workers"
        elif not aggregators and topology in ("star", "hierarchical"):
            code = "no_aggregator"
        made = self.expect(code, 200, "POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": topology})
        if made is not None:
            cluster.status, cluster.members = "connected", {*workers, *aggregators}
            ends = {end for edge in made["connections"] for end in edge.values()} - {"all"}
            assert ends <= cluster.members

    @rule(target=trainings, cluster_id=clusters)
    def train(self, cluster_id: str) -> Any:
        cluster = self.model[cluster_id]
        workers, aggregators = cluster.running("worker"), cluster.running("aggregator")
        code = None
        if cluster.ended:
            code = "cluster_terminated"
        elif cluster.active():
            code = "training_active"
        elif not workers:
            code = "no_workers"
        elif not aggregators:
            code = "no_aggregator"
        elif cluster.status == "initializing" or {*workers, *aggregators} - cluster.members:
            code = "not_connected"
        made = self.expect(code, 202, "POST", f"/v1/clusters/{cluster_id}/trainings", json=TRAINING)
        if made is None:
            return multiple()
        assert sorted(made["workers"]) == sorted(workers)
        cluster.trainings[made["training_id"]] = Training("pending", [*workers, *aggregators])
        return cluster_id, str(made["training_id"])

    @rule(named=trainings, new=st.sampled_from(("training", "training", "completed", "stopped", "failed", "refused")))
    def a_worker_advances_it(self, named: tuple[str, str], new: str) -> None:
        cluster_id, training_id = named
        training = self.model[cluster_id].trainings[training_id]
        if new not in _NEXT.get(training.status, ()):
            return
        with self.user.rows.unit_of_work() as uow:
            transitions.move(uow.session, uow.session.get_one(TrainingRow, training_id), new)
        training.status = new

    @rule(named=trainings)
    def stop(self, named: tuple[str, str]) -> None:
        cluster_id, training_id = named
        training = self.model[cluster_id].trainings[training_id]
        if training.status in ("pending", "training"):
            training.status = "stopping"
        answer = self.user.call("POST", f"/v1/trainings/{training_id}/stop", 202)
        assert answer["status"] == training.status

    @rule(named=trainings)
    def resume(self, named: tuple[str, str]) -> None:
        cluster_id, training_id = named
        cluster = self.model[cluster_id]
        training, active = cluster.trainings[training_id], cluster.active()
        workers, aggregators = cluster.running("worker"), cluster.running("aggregator")
        code = None
        if training.status in ("pending", "training"):
            pass
        elif training.status not in ("stopped", "failed"):
            code = "not_resumable"
        elif cluster.ended:
            code = "cluster_terminated"
        elif active:
            code = "training_active"
        elif not workers:
            code = "no_workers"
        elif not aggregators:
            code = "no_aggregator"
        elif cluster.status == "initializing" or {*workers, *aggregators} - cluster.members:
            code = "not_connected"
        made = self.expect(code, 202, "POST", f"/v1/trainings/{training_id}/resume")
        if made is not None and training.status in ("stopped", "failed"):
            training.status, training.members = "pending", [*workers, *aggregators]

    @rule(cluster_id=clusters, tired=st.sampled_from((False, False, False, True)))
    def terminate(self, cluster_id: str, *, tired: bool) -> None:
        if not tired:
            return
        cluster = self.model[cluster_id]
        answer = self.user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
        if not cluster.ended:
            cluster.status = "terminating"
            for node in cluster.nodes.values():
                if node.status not in ("terminating", "terminated"):
                    node.status = "terminating"
            for training in cluster.trainings.values():
                if training.status in _ACTIVE:
                    training.status = "stopping"
        assert answer["status"] == cluster.status

    @invariant()
    def what_is_shown_is_what_happened(self) -> None:
        for cluster_id, cluster in self.model.items():
            shown = self.user.call("GET", f"/v1/clusters/{cluster_id}/status", 200)
            assert shown["status"] == cluster.status
            sessions = {item["training_id"]: item["status"] for item in shown["training_sessions"]}
            assert sessions == {training_id: item.status for training_id, item in cluster.trainings.items()}


_NEXT = {
    "pending": ("training", "refused", "failed"),
    "training": ("completed", "failed", "stopped"),
    "stopping": ("stopped", "completed", "failed"),
}


def test_every_sequence_is_answered_as_the_model_says(world: World) -> None:
    ApiMachine.user = world.user
    run_state_machine_as_test(
        ApiMachine,
        settings=settings(FUZZING, max_examples=max(10, CASES // _STEPS), stateful_step_count=_STEPS),
    )
