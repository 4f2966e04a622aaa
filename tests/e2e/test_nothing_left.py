"""Whatever a user does in whatever order, after a terminate nothing of the cluster runs at the provider."""

import pytest
from e2b import Sandbox
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from api.embedded.stack import EmbeddedStack
from tests.e2e.provider import provider
from tests.e2e.walk import Walk
from tests.fuzz.conftest import CASES, FUZZING

pytestmark = pytest.mark.timeout(7200)
ACTS = ("deploy", "deploy", "deploy_aggregator", "connect", "train", "kill", "remove", "stop", "resume", "wait", "terminate")
# Each sequence starts sandboxes of its own and takes seconds.
SEQUENCES = max(2, CASES // 400)


def act(walk: Walk, stack: EmbeddedStack, cluster_id: str, name: str) -> None:
    """One thing a user, or an accident, does; it may be refused as a conflict, but never fail."""
    allowed = (200, 202, 409, 422)
    nodes = walk.call("GET", f"/v1/clusters/{cluster_id}/nodes")["items"]
    sessions = walk.call("GET", f"/v1/clusters/{cluster_id}/status")["training_sessions"]
    training = f"/v1/trainings/{sessions[0]['training_id']}" if sessions else None
    if name == "deploy" and len(nodes) < 4:
        walk.call("POST", f"/v1/clusters/{cluster_id}/nodes", status=allowed, json={})
    elif name == "deploy_aggregator":
        walk.call("POST", f"/v1/clusters/{cluster_id}/nodes", status=allowed, json={"node_type": "parameter_server"})
    elif name == "connect":
        walk.call("POST", f"/v1/clusters/{cluster_id}/connect", status=allowed, json={})
    elif name == "train":
        for node in nodes:
            if node["status"] == "running":
                walk.shards([node["node_id"]], 40)
        body = {"dataset": "/data/train_*.json", "epochs": 3}
        walk.call("POST", f"/v1/clusters/{cluster_id}/trainings", status=allowed, json=body)
    elif name == "kill":
        for node in nodes[:1]:
            if node["sandbox_id"]:
                Sandbox.kill(node["sandbox_id"], **provider(stack))
    elif name == "remove":
        for node in nodes[-1:]:
            walk.call("DELETE", f"/v1/nodes/{node['node_id']}", status=allowed)
    elif name in ("stop", "resume") and training:
        walk.call("POST", f"{training}/{name}", status=allowed)
    elif name == "wait":
        for node in nodes:
            walk.http.get(f"/v1/nodes/{node['node_id']}")
    elif name == "terminate":
        walk.call("POST", f"/v1/clusters/{cluster_id}/terminate", status=202)


@settings(FUZZING, max_examples=SEQUENCES, phases=[Phase.explicit, Phase.generate])
@given(acts=st.lists(st.sampled_from(ACTS), min_size=4, max_size=9))
def test_a_terminated_cluster_leaves_no_sandbox(stack: EmbeddedStack, acts: list[str]) -> None:
    walk = Walk(stack.url, stack.api_key)
    cluster_id = walk.create()
    for name in ("deploy", *acts):
        act(walk, stack, cluster_id, name)
    assert walk.terminate(cluster_id)["status"] == "terminated", acts
    left = Sandbox.list(**provider(stack)).next_items()
    assert not [info for info in left if info.metadata.get("cluster_id") == cluster_id], acts
    nodes = walk.call("GET", f"/v1/clusters/{cluster_id}/nodes")["items"]
    assert {node["status"] for node in nodes} <= {"terminated"}, acts
