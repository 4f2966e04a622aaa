"""Budget and idle time of a cluster, as a client sets and sees them.

Also a new sandbox for a node.
"""

from datetime import datetime

import pytest

from api.domain.records import FailureReason
from api.store import transitions
from api.store.tables import ClusterRow, NodeRow
from tests.api.routes.user import CLUSTER, User


def test_a_cluster_shows_its_limits(user: User) -> None:
    plain = user.call("POST", "/v1/clusters", 201, json=CLUSTER)
    assert (plain["budget_usd"], plain["idle_timeout_minutes"]) == (None, None)
    own = user.call("POST", "/v1/clusters", 201, json={**CLUSTER, "budget_usd": 2.5, "idle_timeout_minutes": 0})
    assert (own["budget_usd"], own["idle_timeout_minutes"]) == (2.5, 0)
    assert user.call("GET", f"/v1/clusters/{own['cluster_id']}", 200)["budget_usd"] == 2.5


@pytest.mark.parametrize(
    ("field", "value"),
    [("budget_usd", 0), ("budget_usd", -1), ("budget_usd", "5"), ("idle_timeout_minutes", -1), ("idle_timeout_minutes", 1e9)],
)
def test_limits_that_make_no_sense_are_refused(user: User, field: str, value: object) -> None:
    refusal = user.refused("POST", "/v1/clusters", 422, json={**CLUSTER, field: value})
    assert [error["pointer"] for error in refusal["errors"]] == [f"/{field}"]


def last_call(user: User, cluster_id: str) -> datetime | None:
    with user.rows.unit_of_work() as uow:
        return uow.session.get_one(ClusterRow, cluster_id).last_call_at


@pytest.mark.parametrize(
    ("method", "tail", "body", "is_work"),
    [
        ("POST", "/execute", {"json": {"code": "1"}}, True),
        ("PUT", "/files?path=/x", {"content": b"x"}, True),
        ("GET", "/files?path=/x", {}, True),
        ("GET", "/logs", {}, False),
        ("GET", "", {}, False),
    ],
)
def test_working_in_a_sandbox_is_noted_and_looking_at_it_is_not(
    user: User, method: str, tail: str, body: dict[str, object], is_work: bool
) -> None:
    cluster_id = user.cluster()
    node_id = user.running(cluster_id)
    user.http.request(method, f"/v1/sandboxes/{node_id}{tail}", **body)  # type: ignore[arg-type]
    assert (last_call(user, cluster_id) is not None) == is_work


def test_a_failed_node_gets_a_second_sandbox_and_a_running_one_does_not(user: User) -> None:
    cluster_id = user.cluster()
    node_id = user.deploy(cluster_id)
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(NodeRow, node_id)
        row.error, row.due_at = FailureReason(code="sandbox_failed", detail="The provider was full."), None
        transitions.move(uow.session, row, "failed")
    again = user.call("POST", f"/v1/nodes/{node_id}/redeploy", 202)
    assert (again["node_id"], again["status"], again["error"]) == (node_id, "provisioning", None)
    assert user.call("POST", f"/v1/nodes/{node_id}/redeploy", 202)["status"] == "provisioning"
    user.node_runs(node_id)
    assert user.refused("POST", f"/v1/nodes/{node_id}/redeploy", 409)["code"] == "node_not_lost"
    user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
    assert user.refused("POST", f"/v1/nodes/{node_id}/redeploy", 409)["code"] == "cluster_terminated"
    assert user.refused("POST", "/v1/nodes/node_w1_unknown/redeploy", 404)["code"] == "not_found"
