"""A cluster whose trainings are disturbed by faults, and the checks after each training."""

import json
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from e2b import Sandbox, SandboxQuery

from api.embedded.stack import EmbeddedStack
from tests.e2e.chaos.faults import Fault, Target
from tests.e2e.provider import provider
from tests.e2e.walk import Walk, samples

WORKERS = 3
TEST = samples(400, 900_000)
_ENDED = ("completed", "failed", "stopped", "refused")
# Half a point of accuracy.
_TOLERANCE = 0.005


class PatientWalk(Walk):
    """A client that retries while the API does not answer or answers 502 or 503."""

    def call(self, method: str, path: str, **options: Any) -> Any:
        end = time.monotonic() + 90
        while True:
            try:
                return super().call(method, path, **options)
            except (httpx.TransportError, AssertionError) as error:
                away = isinstance(error, httpx.TransportError) or re.search(r": 50[23] ", str(error))
                if not away or time.monotonic() > end:
                    raise
            time.sleep(0.3)


@dataclass
class StatusPoller:
    """Polls a training's status and stores each epoch with its time."""

    walk: PatientWalk
    cluster_id: str
    training_id: str
    epochs: list[tuple[float, int]] = field(default_factory=list)
    ended: dict[str, Any] | None = None

    def read_status(self) -> dict[str, Any]:
        status = self.walk.call("GET", f"/v1/clusters/{self.cluster_id}/status")
        session: dict[str, Any] = next(item for item in status["training_sessions"] if item["training_id"] == self.training_id)
        self.epochs.append((time.monotonic(), session["epoch"]))
        if session["status"] in _ENDED:
            self.ended = session
        return session

    def until(self, epoch: int, within_s: float) -> None:
        """Return when `epoch` is reached or the training has ended."""
        end = time.monotonic() + within_s
        while self.read_status()["epoch"] < epoch and self.ended is None:
            assert time.monotonic() < end, f"epoch {epoch} was not reached within {within_s:.0f} s"
            time.sleep(0.2)

    def moved_after(self, moment: float) -> float:
        """Return the seconds from a moment to the next finished round."""
        before = max((epoch for at, epoch in self.epochs if at <= moment), default=0)
        return next((at - moment for at, epoch in self.epochs if at > moment and epoch > before), 0.0)


@dataclass(frozen=True)
class FaultResult:
    fault: str
    at_epoch: int
    recovered_s: float


@dataclass(frozen=True)
class TrainingResult:
    fault_results: Sequence[FaultResult]
    accuracy: float
    digest: str
    seconds: float


class ChaosCluster:
    """One cluster on one stack for many trainings, with `samples` samples on each worker."""

    def __init__(self, stack: EmbeddedStack, epochs: int, frozen_s: float, samples: int) -> None:
        self.stack = stack
        self._samples = samples
        self.walk = PatientWalk(stack.url, stack.api_key)
        self._epochs = epochs
        self._frozen_s = frozen_s
        # Seconds of a round, undisturbed. A fault comes at a random moment of a round.
        self._round_s = 1.0
        self.cluster_id, self.workers, self.aggregator = self.walk.cluster(WORKERS)
        for node_id in self.workers:
            self._upload(node_id)

    def _upload(self, node_id: str) -> None:
        number = self.workers.index(node_id)
        self.walk.upload(node_id, "/data/train_shard.json", samples(self._samples, number * 10_000), status=201)

    def run(self, faults: Sequence[Fault], random_: random.Random) -> TrainingResult:
        """Train a new model, and inflict the faults.

        The training is divided into as many parts as there are faults. Each fault comes at a random
        moment of a random round of its part.

        Raises:
            AssertionError: a check failed. The training is then stopped.
        """
        started = time.monotonic()
        training = self.walk.train(self.cluster_id, dataset="/data/train_*.json", epochs=self._epochs, seed=7)
        poller = StatusPoller(self.walk, self.cluster_id, str(training["training_id"]))
        try:
            fault_results = self._disturb(poller, faults, random_)
            digest = self._check(poller)
        except AssertionError:
            self._stop(poller)
            raise
        if not faults:
            # Without the preparation, which takes longer than a round.
            first = next(at for at, epoch in poller.epochs if epoch)
            self._round_s = (poller.epochs[-1][0] - first) / self._epochs
        return TrainingResult(fault_results, self._accuracy(), digest, time.monotonic() - started)

    def _disturb(self, poller: StatusPoller, faults: Sequence[Fault], random_: random.Random) -> list[FaultResult]:
        share = self._epochs // max(1, len(faults))
        fault_results = []
        for number, fault in enumerate(sorted(faults, key=lambda fault: fault.rounds_go_on)):
            poller.until(number * share + random_.randrange(max(1, share - 2)), 120)
            time.sleep(random_.uniform(0, self._round_s))
            at_epoch = poller.read_status()["epoch"]
            assert poller.ended is None, f"the training ended before {fault.name}: {poller.ended['status']}"
            moment = time.monotonic()
            worker = random_.choice(self.workers)
            fault.inflict(Target(self.stack, self.walk, worker, self.aggregator, self._frozen_s))
            if fault.loses_worker:
                self._upload_again(worker)
            poller.until(at_epoch + 1, 180)
            fault_results.append(FaultResult(fault.name, at_epoch, poller.moved_after(moment)))
        poller.until(self._epochs, 180)
        while poller.ended is None:
            poller.read_status()
            time.sleep(0.2)
        return fault_results

    def _stop(self, poller: StatusPoller) -> None:
        self.walk.call("POST", f"/v1/trainings/{poller.training_id}/stop")
        end = time.monotonic() + 60
        while poller.ended is None and time.monotonic() < end:
            poller.read_status()
            time.sleep(0.2)

    def _upload_again(self, node_id: str) -> None:
        """Redeploy the worker and upload its data again, as the data's owner does."""
        self._node_is(node_id, "lost", gone=True)
        self.walk.call("POST", f"/v1/nodes/{node_id}/redeploy", status=202)
        self._node_is(node_id, "running")
        self._upload(node_id)

    def _node_is(self, node_id: str, status: str, *, gone: bool = False) -> None:
        end = time.monotonic() + 120
        while True:
            node = self.walk.call("GET", f"/v1/nodes/{node_id}")
            if node["status"] == status and (not gone or node["error"]):
                return
            assert time.monotonic() < end, f"{node_id} is {node['status']}, not {status}"
            time.sleep(0.2)

    def _check(self, poller: StatusPoller) -> str:
        """Check that each round counts once, that no event is lost, and that status was true.

        Return the last round's digest.
        """
        assert poller.ended is not None
        assert poller.ended["status"] == "completed", poller.ended["error"]
        epochs = [epoch for _, epoch in poller.epochs]
        assert epochs == sorted(epochs), f"status went back: {epochs}"
        rows = self.walk.call("GET", f"/v1/trainings/{poller.training_id}/rounds", params={"limit": 100})["items"]
        assert [row["round"] for row in rows] == list(range(1, self._epochs + 1))
        assert all(row["status"] == "completed" and row["copies"] for row in rows)
        assert [row["base_digest"] for row in rows[1:]] == [row["digest"] for row in rows[:-1]]
        events = self._events(f"/v1/clusters/{self.cluster_id}/events")
        assert [seq for seq, _, _ in events] == list(range(1, len(events) + 1)), "an event is missing"
        completed = [
            data["round"] for _, name, data in events if name == "round.completed" and data["training_id"] == poller.training_id
        ]
        assert completed == list(range(1, self._epochs + 1)), f"rounds completed by events: {completed}"
        return str(rows[-1]["digest"])

    def _events(self, path: str) -> list[tuple[int, str, dict[str, Any]]]:
        text = self.walk.http.get(path, params={"follow": "false"}, timeout=30).raise_for_status().text
        events = re.findall(r"^id: (\d+)\nevent: (.+)\ndata: (.+)$", text, re.MULTILINE)
        return [(int(seq), name, json.loads(data)) for seq, name, data in events]

    def _accuracy(self) -> float:
        """Return the accuracy of the last global model on texts that no worker has."""
        end = time.monotonic() + 120
        while self.walk.call("GET", f"/v1/nodes/{self.aggregator}")["status"] != "running":
            assert time.monotonic() < end, "the aggregator did not come back"
            time.sleep(0.2)
        self.walk.upload(self.aggregator, "/data/test.json", TEST, status=201)
        answer = self.walk.call(
            "POST",
            f"/v1/clusters/{self.cluster_id}/predictions",
            json={"input_data": "/data/test.json", "aggregation": "global"},
            headers={"Prefer": "wait=60"},
        )
        assert answer["status"] == "completed", answer
        return float(answer["results"]["accuracy"])

    def compare(self, disturbed: TrainingResult, undisturbed: TrainingResult) -> None:
        assert abs(disturbed.accuracy - undisturbed.accuracy) <= _TOLERANCE, (
            f"{disturbed.accuracy} instead of {undisturbed.accuracy}"
        )

    def sandboxes(self) -> list[str]:
        """Return the ids of the cluster's sandboxes, as their provider lists them."""
        nodes = self.walk.call("GET", f"/v1/clusters/{self.cluster_id}/nodes")["items"]
        sandbox_ids: list[str] = []
        for node in nodes:
            query = SandboxQuery(metadata={"node_id": node["node_id"]})
            pages = Sandbox.list(query=query, **provider(self.stack))
            while pages.has_next:
                sandbox_ids += [info.sandbox_id for info in pages.next_items()]
        return sandbox_ids

    def terminate(self) -> None:
        self.walk.terminate(self.cluster_id)
        assert self.walk.call("GET", f"/v1/clusters/{self.cluster_id}")["status"] == "terminated"
        assert self.sandboxes() == [], "sandboxes still run and cost money"
