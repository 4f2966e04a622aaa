"""The walkthrough's steps over plain HTTP, for tests that start from a running cluster."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

WORDS = {
    "positive": ("great", "love", "excellent", "perfect", "happy", "fast", "sturdy"),
    "negative": ("broken", "awful", "refund", "slow", "useless", "ugly", "noisy"),
}
SUBJECTS = ("camera", "phone", "kettle", "lamp", "keyboard", "charger", "backpack", "radio")
Connected = tuple[str, list[str], str]
"""A connected cluster: its id, the node ids of its workers, and its aggregator's node id."""


def samples(count: int, offset: int = 0) -> list[dict[str, str]]:
    """Return labelled feedback that a few dozen steps can learn. It differs for each offset."""
    items = []
    for index in range(offset, offset + count):
        label = ("positive", "negative")[index % 2]
        words = WORDS[label]
        text = f"the {SUBJECTS[index // 2 % 8]} number {index} is {words[index % 7]} and {words[(index // 7) % 7]}"
        items.append({"text": text, "sentiment": label})
    return items


@dataclass
class Walk:
    """One user of the API of a running stack."""

    url: str
    api_key: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        # Nobody closes this client, so it keeps no connection.
        limits = httpx.Limits(max_keepalive_connections=0)
        headers = {"Authorization": f"Bearer {self.api_key}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=240, limits=limits)

    def call(self, method: str, path: str, *, status: int | Sequence[int] = (200, 201, 202), **options: Any) -> Any:
        response = self.http.request(method, path, **options)
        expected = (status,) if isinstance(status, int) else status
        assert response.status_code in expected, f"{method} {path}: {response.status_code} {response.text[:1000]}"
        return response.json()

    def create(self, **fields: Any) -> str:
        body = {"name": "tests", "topology": "mesh", "architecture": "transformer", "consensus": "none", **fields}
        return str(self.call("POST", "/v1/clusters", status=201, json=body)["cluster_id"])

    def deploy(self, cluster_id: str, node_type: str = "worker", **fields: Any) -> dict[str, Any]:
        body = {"node_type": node_type, "model": "base", "template": "python", **fields}
        node: dict[str, Any] = self.call("POST", f"/v1/clusters/{cluster_id}/nodes", status=202, json=body)
        return node

    def running(self, node_id: str, within_s: float = 300) -> dict[str, Any]:
        end = time.monotonic() + within_s
        while True:
            node: dict[str, Any] = self.call("GET", f"/v1/nodes/{node_id}")
            if node["status"] != "provisioning" or time.monotonic() > end:
                assert node["status"] == "running", node
                return node
            time.sleep(0.2)

    def cluster(self, workers: int = 2, *, topology: str = "mesh", **fields: Any) -> Connected:
        """Create a connected cluster that is ready for its shards."""
        cluster_id = self.create(topology=topology, **fields)
        worker_ids = [self.deploy(cluster_id)["node_id"] for _ in range(workers)]
        aggregator = self.deploy(cluster_id, "parameter_server")["node_id"]
        for node_id in (*worker_ids, aggregator):
            self.running(node_id)
        self.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": topology})
        return cluster_id, worker_ids, aggregator

    def upload(self, sandbox_id: str, path: str, content: object, **options: Any) -> Any:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.call("PUT", f"/v1/sandboxes/{sandbox_id}/files", params={"path": path}, content=body, **options)

    def shards(self, workers: Sequence[str], count: int = 120) -> None:
        for number, node_id in enumerate(workers, start=1):
            self.upload(node_id, f"/data/train_shard_{number}.json", samples(count, number * 10_000), status=201)

    def train(self, cluster_id: str, *, status: int = 202, **fields: Any) -> dict[str, Any]:
        body = {"dataset": "/data/train_*.json", "epochs": 2, "batch_size": 16, "learning_rate": 0.001, **fields}
        answer: dict[str, Any] = self.call("POST", f"/v1/clusters/{cluster_id}/trainings", status=status, json=body)
        return answer

    def session(self, cluster_id: str) -> dict[str, Any]:
        status: dict[str, Any] = self.call("GET", f"/v1/clusters/{cluster_id}/status")
        return dict(status["training_sessions"][0])

    def until(self, cluster_id: str, *states: str, within_s: float = 150, epoch: int = 0) -> dict[str, Any]:
        """Return the newest session when it is in one of `states` and at least at `epoch`."""
        end = time.monotonic() + within_s
        while True:
            session = self.session(cluster_id)
            if session["status"] in states and session["epoch"] >= epoch:
                return session
            ended = session["status"] in ("completed", "failed", "stopped", "refused")
            assert not ended, f"the training ended as {session['status']}: {session['error']}"
            assert time.monotonic() < end, f"still {session['status']} at epoch {session['epoch']}"
            time.sleep(0.2)

    def terminate(self, cluster_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("POST", f"/v1/clusters/{cluster_id}/terminate", headers={"Prefer": "wait=60"})
        return answer


@dataclass(frozen=True)
class Trained:
    """A cluster that has finished a training, with the API's earlier answers."""

    walk: Walk
    cluster_id: str
    workers: list[str]
    aggregator: str
    training_id: str
    answers: dict[str, Any]

    @classmethod
    def make(cls, walk: Walk) -> "Trained":
        created = walk.call(
            "POST",
            "/v1/clusters",
            status=201,
            json={"name": "trained", "topology": "mesh", "architecture": "transformer", "wasm_optimization": True},
        )
        cluster_id = str(created["cluster_id"])
        workers = [str(walk.deploy(cluster_id)["node_id"]) for _ in range(2)]
        aggregator = str(walk.deploy(cluster_id, "parameter_server")["node_id"])
        nodes = [walk.running(node_id) for node_id in (*workers, aggregator)]
        connections = walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": "mesh"})
        walk.shards(workers)
        walk.upload(aggregator, "/data/validation.json", samples(60, 90_000), status=201)
        walk.upload(aggregator, "/data/test.json", samples(80, 95_000), status=201)
        training = walk.train(cluster_id, epochs=4)
        walk.until(cluster_id, "completed", epoch=4)
        answers = {"cluster": created, "node": nodes[0], "connections": connections, "training": training}
        return cls(walk, cluster_id, workers, aggregator, str(training["training_id"]), answers)
