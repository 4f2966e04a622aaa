"""After a terminate nothing of the cluster runs at the provider, in whatever order users act."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from e2b import Sandbox
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from api.embedded.stack import EmbeddedStack
from tests.e2e.provider import provider
from tests.e2e.walk import Walk
from tests.fuzz.conftest import CASES, FUZZING

pytestmark = pytest.mark.timeout(7200)
ALLOWED = (200, 202, 409, 422)
# Each sequence starts its own sandboxes and takes seconds.
SEQUENCES = max(2, CASES // 400)


@dataclass(frozen=True)
class ClusterState:
    """A cluster before one act. `training` is the path of its newest training."""

    walk: Walk
    stack: EmbeddedStack
    path: str
    nodes: list[dict[str, Any]]
    training: str | None

    def post(self, path: str, body: dict[str, Any]) -> None:
        self.walk.call("POST", path, status=ALLOWED, json=body)


def read_state(walk: Walk, stack: EmbeddedStack, cluster_id: str) -> ClusterState:
    path = f"/v1/clusters/{cluster_id}"
    nodes = walk.call("GET", f"{path}/nodes")["items"]
    sessions = walk.call("GET", f"{path}/status")["training_sessions"]
    training = f"/v1/trainings/{sessions[0]['training_id']}" if sessions else None
    return ClusterState(walk, stack, path, nodes, training)


def deploy(state: ClusterState) -> None:
    if len(state.nodes) < 4:
        state.post(f"{state.path}/nodes", {})


def deploy_aggregator(state: ClusterState) -> None:
    state.post(f"{state.path}/nodes", {"node_type": "parameter_server"})


def connect(state: ClusterState) -> None:
    state.post(f"{state.path}/connect", {})


def train(state: ClusterState) -> None:
    for node in state.nodes:
        if node["status"] == "running":
            state.walk.shards([node["node_id"]], 40)
    state.post(f"{state.path}/trainings", {"dataset": "/data/train_*.json", "epochs": 3})


def kill(state: ClusterState) -> None:
    for node in state.nodes[:1]:
        if node["sandbox_id"]:
            Sandbox.kill(node["sandbox_id"], **provider(state.stack))


def remove(state: ClusterState) -> None:
    for node in state.nodes[-1:]:
        state.walk.call("DELETE", f"/v1/nodes/{node['node_id']}", status=ALLOWED)


def stop(state: ClusterState) -> None:
    if state.training:
        state.walk.call("POST", f"{state.training}/stop", status=ALLOWED)


def resume(state: ClusterState) -> None:
    if state.training:
        state.walk.call("POST", f"{state.training}/resume", status=ALLOWED)


def wait(state: ClusterState) -> None:
    for node in state.nodes:
        state.walk.http.get(f"/v1/nodes/{node['node_id']}")


def terminate(state: ClusterState) -> None:
    state.walk.call("POST", f"{state.path}/terminate", status=202)


# An act may be refused as a conflict, but must never fail. `deploy` is twice as frequent.
ACTS: tuple[Callable[[ClusterState], None], ...] = (
    deploy, deploy, deploy_aggregator, connect, train, kill, remove, stop, resume, wait, terminate,
)  # fmt: skip


@settings(FUZZING, max_examples=SEQUENCES, phases=[Phase.explicit, Phase.generate])
@given(acts=st.lists(st.sampled_from(ACTS), min_size=4, max_size=9))
def test_a_terminated_cluster_leaves_no_sandbox(stack: EmbeddedStack, acts: list[Callable[[ClusterState], None]]) -> None:
    walk = Walk(stack.url, stack.api_key)
    cluster_id = walk.create()
    for act in (deploy, *acts):
        act(read_state(walk, stack, cluster_id))
    assert walk.terminate(cluster_id)["status"] == "terminated", acts
    left = Sandbox.list(**provider(stack)).next_items()
    assert not [info for info in left if info.metadata.get("cluster_id") == cluster_id], acts
    nodes = walk.call("GET", f"/v1/clusters/{cluster_id}/nodes")["items"]
    assert {node["status"] for node in nodes} <= {"terminated"}, acts
