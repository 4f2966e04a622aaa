"""A key with too many requests gets a 429 with the time to wait."""

from collections.abc import Iterator

import httpx
import pytest

from api.domain.scopes import SCOPES
from api.settings import Settings
from tests.api.http.test_ratelimit import redis_server
from tests.api.routes.conftest import MakeUser, make_settings
from tests.api.routes.user import CLUSTER, User, problem

QUOTA = 10


@pytest.fixture(scope="module")
def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with redis_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        folder = tmp_path_factory.mktemp("models")
        yield make_settings(postgres_url, folder, redis_url=url, rate_limit=QUOTA, rate_limit_window_s=1000)


@pytest.fixture
def user(make_user: MakeUser) -> User:
    return make_user(scopes=SCOPES)


def test_too_many_requests_are_refused_with_the_time_to_wait(user: User, make_user: MakeUser) -> None:
    first = user.http.get("/v1/clusters")
    assert first.headers["ratelimit-policy"] == f'"default";q={QUOTA};w=1000'
    assert first.headers["ratelimit"] == f'"default";r={QUOTA - 1};t=0'
    for _ in range(QUOTA - 1):
        assert user.http.post("/v1/clusters", json=CLUSTER).status_code == 201
    answer = user.http.post("/v1/clusters", json=CLUSTER)
    assert problem(answer, 429)["code"] == "rate_limited"
    assert 0 < int(answer.headers["retry-after"]) <= 100
    assert answer.headers["ratelimit"].startswith('"default";r=0;t=')
    reader = make_user(project=user.project, scopes=SCOPES)
    entry = reader.audited(status=429)[0]
    assert (entry["operation"], entry["key_prefix"]) == ("create_cluster", user.secret[:8])
    made = [entry for entry in reader.audited(QUOTA - 1, operation="create_cluster") if entry["status"] == 201]
    assert len(made) == QUOTA - 1, "the refused request did nothing"


def test_requests_that_are_refused_count_too(user: User) -> None:
    statuses = [user.http.get("/v1/nodes/unknown").status_code for _ in range(QUOTA + 2)]
    assert statuses == [404] * QUOTA + [429] * 2


def test_health_metrics_and_documents_are_not_counted(url: str) -> None:
    with httpx.Client(base_url=url) as anyone:
        for path in ("/healthz", "/metrics", "/openapi.json"):
            for _ in range(QUOTA + 2):
                answer = anyone.get(path)
                assert answer.status_code == 200
                assert "ratelimit" not in answer.headers
