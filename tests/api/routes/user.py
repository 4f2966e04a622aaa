"""One caller of the API. Its methods also do what workers would do."""

import time
from dataclasses import dataclass, replace
from typing import Any

import httpx
from sqlalchemy import select

from api.domain.records import FailureReason
from api.domain.resources import NodeResources
from api.store import transitions
from api.store.database import Database
from api.store.tables import ClusterRow, ModelRow, NodeRow, PredictionRow, RoundRow, TrainingRow

PROBLEM = "application/problem+json"
CLUSTER = {"name": "tests"}
TRAINING = {"dataset": "/data/train_*.json", "epochs": 4}
SEARCH = {**TRAINING, "space": {"learning_rate": [0.01, 0.001]}}


@dataclass(frozen=True)
class User:
    http: httpx.Client
    rows: Database
    project: str
    project_id: str
    secret: str

    def call(self, method: str, path: str, status: int, **options: Any) -> Any:
        """Return the JSON of an answer and check its status."""
        answer = self.http.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:1000]}"
        return answer.json()

    def refused(self, method: str, path: str, status: int, **options: Any) -> dict[str, Any]:
        """Return the problem of an answer, and check its status and its standard fields."""
        answer = self.http.request(method, path, **options)
        return problem(answer, status)

    def holding(self, secret: str) -> "User":
        """Return the same project with another key.

        Its client is never closed, so it keeps no connection.
        """
        headers = {"Authorization": f"Bearer {secret}"}
        limits = httpx.Limits(max_keepalive_connections=0)
        http = httpx.Client(base_url=self.http.base_url, headers=headers, timeout=60, limits=limits)
        return replace(self, http=http, secret=secret)

    def key(self, **fields: Any) -> dict[str, Any]:
        """Create a key of the project and return it with its secret."""
        key: dict[str, Any] = self.call("POST", "/v1/keys", 201, json={"name": "tests", **fields})
        return key

    def audited(self, count: int = 1, **filters: Any) -> list[dict[str, Any]]:
        """Return the newest matching lines of the audit log, as soon as there are `count`.

        Refusals are written beside the requests.
        """
        end = time.monotonic() + 10
        while True:
            entries: list[dict[str, Any]] = self.call("GET", "/v1/audit", 200, params={**filters, "limit": 100})["items"]
            if len(entries) >= count:
                return entries
            assert time.monotonic() < end, f"{len(entries)} of {count} entries: {filters}"
            time.sleep(0.05)

    def cluster(self, **fields: Any) -> str:
        return str(self.call("POST", "/v1/clusters", 201, json={**CLUSTER, **fields})["cluster_id"])

    def deploy(self, cluster_id: str, **fields: Any) -> str:
        return str(self.call("POST", f"/v1/clusters/{cluster_id}/nodes", 202, json=fields)["node_id"])

    def node_runs(self, node_id: str) -> None:
        """Do what a worker does when the node's agent answers."""
        with self.rows.unit_of_work() as uow:
            row = uow.session.get_one(NodeRow, node_id)
            row.sandbox_id = f"sbx{node_id[-10:]}"
            row.resources = NodeResources(cpu_cores=2, memory_gb=1.5, gpu=None)
            transitions.move(uow.session, row, "running")

    def running(self, cluster_id: str, **fields: Any) -> str:
        node_id = self.deploy(cluster_id, **fields)
        self.node_runs(node_id)
        return node_id

    def ready(self, **fields: Any) -> str:
        """Create a connected cluster with one worker and an aggregator."""
        cluster_id = self.cluster(**fields)
        self.running(cluster_id)
        self.running(cluster_id, node_type="parameter_server")
        self.call("POST", f"/v1/clusters/{cluster_id}/connect", 200, json={})
        return cluster_id

    def training(self, cluster_id: str) -> str:
        """Create a training that no step has advanced."""
        return str(self.call("POST", f"/v1/clusters/{cluster_id}/trainings", 202, json=TRAINING)["training_id"])

    def search(self, cluster_id: str, **fields: Any) -> str:
        """Create a search whose first training has not begun."""
        return str(self.call("POST", f"/v1/clusters/{cluster_id}/searches", 202, json={**SEARCH, **fields})["search_id"])

    def nodes(self, cluster_id: str) -> list[str]:
        """Return the ids of all nodes, over all pages."""
        node_ids: list[str] = []
        cursor: str | None = None
        while True:
            page = self.call(
                "GET", f"/v1/clusters/{cluster_id}/nodes", 200, params={"limit": 50, **({"cursor": cursor} if cursor else {})}
            )
            node_ids += [item["node_id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return node_ids

    def newest_training(self, cluster_id: str) -> str:
        """Return the id of a training whose POST still waits for its check."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            sessions = self.call("GET", f"/v1/clusters/{cluster_id}/status", 200)["training_sessions"]
            if sessions:
                return str(sessions[0]["training_id"])
            time.sleep(0.02)
        raise AssertionError("no training was created")

    def cluster_ends(self, cluster_id: str) -> None:
        """Do what a worker does when the sandboxes of a terminating cluster have ended."""
        with self.rows.unit_of_work() as uow:
            transitions.move(uow.session, uow.session.get_one(ClusterRow, cluster_id), "terminated")

    def training_becomes(self, training_id: str, status: str, error: dict[str, Any] | None = None) -> None:
        with self.rows.unit_of_work() as uow:
            row = uow.session.get_one(TrainingRow, training_id)
            row.error = None if error is None else FailureReason.model_validate(error)
            transitions.move(uow.session, row, status)

    def prediction_done(self, cluster_id: str, besides: str) -> None:
        """Do what a worker does with the only prediction that is not `besides`."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with self.rows.unit_of_work() as uow:
                row = uow.session.scalar(
                    select(PredictionRow).where(PredictionRow.cluster_id == cluster_id, PredictionRow.id != besides)
                )
                if row is not None:
                    row.results = {
                        "predictions": [
                            {"text": text, "sentiment": "positive", "confidence": 0.9} for text in row.request.inputs or ()
                        ]
                    }
                    row.seconds, row.nodes_used = 1.25, 2
                    transitions.move(uow.session, row, "completed")
                    return
            time.sleep(0.02)
        raise AssertionError("no prediction was created")

    def export_done(self, model_id: str) -> None:
        """Do what a worker does when the archive of an export is kept."""
        with self.rows.unit_of_work() as uow:
            transitions.move(uow.session, uow.session.get_one(ModelRow, model_id), "completed")

    def round_done(self, training_id: str, number: int) -> None:
        with self.rows.unit_of_work() as uow:
            row = uow.session.get_one(TrainingRow, training_id)
            row.completed_rounds = number
            row.digest = f"{number:064d}"
            uow.session.add(RoundRow(training_id=training_id, number=number, status="completed", base_digest="0" * 64))


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, f"{answer.request.url}: {answer.status_code} {answer.text[:1000]}"
    assert answer.headers["content-type"] == PROBLEM
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "instance", "code"} <= body.keys()
    assert body["status"] == status
    assert all(isinstance(body[name], str) and body[name] for name in ("type", "title", "detail", "instance", "code"))
    assert body["instance"].endswith(answer.headers["x-request-id"])
    assert len(answer.content) < 20_000, "a problem does not echo what was sent"
    return body


def held_requests(url: str) -> int:
    """Return the number of held answers and event streams, from the Prometheus metrics."""
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    (value,) = [line.partition(" ")[2] for line in lines if line.startswith("flow_nexus_held_requests ")]
    return int(float(value))
