"""The API over a real Postgres and a real sandbox host, with one resource of each kind.

Tests generate requests to it.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
import schemathesis

from api.domain.sandboxes import SandboxSpec
from api.domain.scopes import SCOPES
from api.settings import Settings
from api.store.tables import NodeRow
from tests.api.routes.conftest import MakeUser, make_settings, make_user, rows, url
from tests.api.routes.user import User
from tests.workers.sandboxes.hosting import API_KEY, Host
from workers.sandboxes.client import SandboxClient

__all__ = ["make_user", "rows", "url"]

# The approximate number of generated requests of each test. `make fuzz` sets many more.
CASES = int(os.environ.get("FLOW_NEXUS_FUZZ_CASES", "250"))


FUZZING = hypothesis.settings(deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))


def without_wait(case: schemathesis.Case[Any]) -> schemathesis.Case[Any]:
    """Ignore `Prefer: wait`: here it would only delay the next case."""
    for header in [header for header in case.headers or {} if header.lower() == "prefer"]:
        del case.headers[header]
    return case


@dataclass(frozen=True)
class World:
    """The real values of path parameters.

    `ids` are resources that stay. `spare` are resources that an operation may end.
    """

    user: User
    ids: dict[str, str]
    spare: dict[str, str]

    @property
    def call(self) -> dict[str, Any]:
        """Send requests as the user, with a time limit."""
        return {"headers": {"Authorization": f"Bearer {self.user.secret}"}, "timeout": 60}


@pytest.fixture(scope="module")
def settings(postgres_url: str, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(
        postgres_url,
        tmp_path_factory.mktemp("models"),
        E2B_API_KEY=API_KEY,
        E2B_API_URL=host.url,
        E2B_SANDBOX_URL=host.url,
        training_check_wait_s=0.01,
        execute_timeout_s=2,
        max_upload_bytes=100_000,
        max_streams=50,
        quota_clusters=None,
        quota_nodes=None,
        quota_running_sandboxes=None,
    )


@pytest.fixture(scope="module")
def world(settings: Settings, make_user: MakeUser) -> World:
    user = make_user(scopes=SCOPES)
    cluster_id = user.ready()
    worker, *_ = user.nodes(cluster_id)
    spec = SandboxSpec(key=worker.replace("_", "-"), template="python", timeout_s=3600, metadata={})
    with user.rows.unit_of_work() as uow:
        uow.session.get_one(NodeRow, worker).sandbox_id = asyncio.run(SandboxClient(settings).create(spec)).sandbox_id
    training_id = user.training(cluster_id)
    user.training_becomes(training_id, "training")
    user.round_done(training_id, 1)
    prediction = user.call("POST", f"/v1/clusters/{cluster_id}/predictions", 202, json={"inputs": ["a text"]})
    model = user.call("POST", f"/v1/trainings/{training_id}/exports", 202, json={"name": "first"})
    search_id, spare_search = (user.search(user.ready()) for _ in range(2))
    ids = {
        "search_id": search_id,
        "cluster_id": cluster_id,
        "node_id": worker,
        "sandbox_id": worker,
        "training_id": training_id,
        "prediction_id": str(prediction["prediction_id"]),
        "model_id": str(model["model_id"]),
        "key_id": str(user.key(scopes=["clusters:read"])["key_id"]),
    }
    spare_cluster = user.ready()
    spare = {
        "cluster_id": spare_cluster,
        "node_id": user.nodes(spare_cluster)[0],
        "training_id": user.training(spare_cluster),
        "search_id": spare_search,
    }
    return World(user, ids, spare)
