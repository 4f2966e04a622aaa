"""Quotas: a refusal has the figures, and two requests at once cannot exceed a quota."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.domain.errors import InvalidError, NotFoundError
from api.domain.scopes import SCOPES
from api.services import quotas
from api.settings import Settings
from api.store import transitions
from api.store.tables import NodeRow
from tests.api.routes.conftest import MakeUser, make_settings
from tests.api.routes.real import start
from tests.api.routes.user import CLUSTER, SEARCH, TRAINING, User
from tests.workers.sandboxes.hosting import API_KEY, Host


@pytest.fixture(scope="module")
def settings(postgres_url: str, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    addresses = {"E2B_API_KEY": API_KEY, "E2B_API_URL": host.url, "E2B_SANDBOX_URL": host.url}
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), quota_clusters=3, quota_nodes=4, **addresses)


@pytest.fixture
def user(make_user: MakeUser) -> User:
    return make_user(scopes=SCOPES)


def allow(user: User, **limits: Any) -> None:
    """Do the same as `flow-nexus projects quota`."""
    with user.rows.unit_of_work() as uow:
        quotas.override(uow.session, user.project, limits)


def used(user: User, name: str) -> tuple[Any, Any]:
    quota = user.call("GET", "/v1/project", 200)["quotas"][name]
    return quota["used"], quota["limit"]


def test_clusters_are_counted_until_they_are_terminated(user: User) -> None:
    made = [user.cluster() for _ in range(3)]
    body = user.refused("POST", "/v1/clusters", 403, json=CLUSTER)
    assert body["code"] == "quota_exceeded"
    assert body["quota"] == {"name": "clusters", "limit": 3, "used": 3, "asked": 1}
    assert "clusters is 3" in body["detail"]
    user.call("POST", f"/v1/clusters/{made[0]}/terminate", 202)
    user.refused("POST", "/v1/clusters", 403, json=CLUSTER)
    user.cluster_ends(made[0])
    user.cluster()
    assert used(user, "clusters") == (3, 3)


def test_a_repeated_post_is_not_counted_twice(user: User) -> None:
    key = {"Idempotency-Key": "once"}
    first = user.call("POST", "/v1/clusters", 201, json=CLUSTER, headers=key)
    for _ in range(2):
        user.cluster()
    assert user.call("POST", "/v1/clusters", 201, json=CLUSTER, headers=key)["cluster_id"] == first["cluster_id"]


@pytest.mark.parametrize("quota", ["clusters", "nodes", "running_sandboxes"])
def test_a_crowd_does_not_get_past_a_quota(user: User, quota: str) -> None:
    cluster_ids = [user.cluster(), user.cluster()]
    allow(user, **{quota: 3})

    def ask(number: int) -> int:
        if quota == "clusters":
            return user.http.post("/v1/clusters", json=CLUSTER).status_code
        return user.http.post(f"/v1/clusters/{cluster_ids[number % 2]}/nodes", json={}).status_code

    with ThreadPoolExecutor(12) as crowd:
        answers = list(crowd.map(ask, range(12)))
    passed = 1 if quota == "clusters" else 3
    assert sorted(answers) == [201 if quota == "clusters" else 202] * passed + [403] * (12 - passed)
    assert used(user, quota) == (3, 3)


def test_projects_do_not_share_quotas(user: User, make_user: MakeUser) -> None:
    allow(user, clusters=0)
    user.refused("POST", "/v1/clusters", 403, json=CLUSTER)
    make_user().cluster()


def test_a_project_may_have_more_less_or_no_limit(user: User) -> None:
    allow(user, clusters=None, nodes=1)
    for _ in range(4):
        cluster_id = user.cluster()
    user.deploy(cluster_id)
    assert user.refused("POST", f"/v1/clusters/{cluster_id}/nodes", 403, json={})["quota"]["name"] == "nodes"
    allow(user, nodes="default")
    assert (used(user, "clusters"), used(user, "nodes")) == ((4, None), (1, 4))
    with user.rows.unit_of_work() as uow:
        with pytest.raises(InvalidError):
            quotas.override(uow.session, user.project, {"gold": 1})
        with pytest.raises(NotFoundError):
            quotas.override(uow.session, "nobody's", {"nodes": 1})


def test_spent_money_stops_what_would_spend_more(user: User) -> None:
    cluster_id = user.ready()
    with user.rows.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, user.nodes(cluster_id)[0])
        node.started_at = datetime.now(UTC) - timedelta(minutes=100)
    spent, limit = used(user, "spend_usd")
    assert limit is None
    assert spent == pytest.approx(100 * float(node.price_per_minute), rel=0.02)
    allow(user, spend_usd=4.5)
    for noun, body in (("nodes", {}), ("trainings", TRAINING), ("searches", SEARCH)):
        path = f"/v1/clusters/{cluster_id}/{noun}"
        refused = user.refused("POST", path, 403, json=body)
        assert (refused["code"], refused["quota"]["name"]) == ("quota_exceeded", "spend_usd")
    user.call("GET", f"/v1/clusters/{cluster_id}/status", 200)
    user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)


def test_a_node_with_a_new_sandbox_has_spent_what_its_old_one_cost(user: User) -> None:
    cluster_id = user.cluster()
    node_id = user.running(cluster_id)
    began = datetime.now(UTC) - timedelta(minutes=60)
    with user.rows.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, node_id)
        node.started_at, node.ended_at = began, began + timedelta(minutes=40)
        node.uploaded_bytes, node.owner_data_at, node.due_at = 5000, began, None
        transitions.move(uow.session, node, "lost")
    allow(user, spend_usd=2)
    path = f"/v1/nodes/{node_id}/redeploy"
    assert user.refused("POST", path, 403)["quota"] == {"name": "spend_usd", "limit": 2, "used": 2.0, "asked": 0}
    allow(user, spend_usd=None)
    user.call("POST", path, 202)
    assert used(user, "spend_usd")[0] == pytest.approx(40 * float(node.price_per_minute))
    assert used(user, "upload_bytes")[0] == 0, "what was uploaded is gone"
    with user.rows.unit_of_work() as uow:
        assert uow.session.get_one(NodeRow, node_id).owner_data_at is None, "a new sandbox is not sealed yet"


def upload(user: User, node_id: str, size: int, *, chunked: bool = False, path: str = "/data/x") -> int:
    def pieces() -> Iterator[bytes]:
        for _ in range(0, size, 1000):
            yield b"x" * 1000

    content = pieces() if chunked else b"x" * size
    return user.http.put(f"/v1/sandboxes/{node_id}/files", params={"path": path}, content=content).status_code


def test_uploads_are_counted_in_bytes_that_arrived(settings: Settings, user: User) -> None:
    node_id = start(settings, user)
    allow(user, upload_bytes=100_000)
    assert upload(user, node_id, 60_000) == 201
    assert used(user, "upload_bytes") == (60_000, 100_000)
    assert upload(user, node_id, 40_001) == 403
    assert upload(user, node_id, 41_000, chunked=True) == 403
    assert used(user, "upload_bytes") == (60_000, 100_000), "what was refused is not counted"
    assert upload(user, node_id, 30_000, chunked=True) == 201
    assert used(user, "upload_bytes") == (90_000, 100_000)
    assert user.refused("GET", f"/v1/sandboxes/{node_id}/files", 404, params={"path": "/data/none"})
    user.refused("PUT", f"/v1/sandboxes/{node_id}/files", 422, params={"path": "/data/x/below"}, content=b"x" * 5000)
    assert used(user, "upload_bytes") == (90_000, 100_000), "what failed is not counted"
    with user.rows.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(NodeRow, node_id), "terminating")
        transitions.move(uow.session, uow.session.get_one(NodeRow, node_id), "terminated")
    assert used(user, "upload_bytes") == (0, 100_000)


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "without"])
def test_a_crowd_of_uploads_does_not_get_past_the_quota(settings: Settings, user: User, chunked: bool) -> None:
    node_id = start(settings, user)
    allow(user, upload_bytes=100_000)
    with ThreadPoolExecutor(6) as crowd:
        sizes = crowd.map(lambda number: upload(user, node_id, 30_000, chunked=chunked, path=f"/data/{number}"), range(6))
        answers = sorted(sizes)
    assert set(answers) <= {201, 403}
    assert answers.count(201) <= 3
    assert used(user, "upload_bytes")[0] == 30_000 * answers.count(201)
