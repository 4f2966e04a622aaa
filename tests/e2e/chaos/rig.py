"""A small training that is disturbed, and what must be true of it afterwards."""

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
    """A client that tries again while the API is away or says 503, as the problem's Retry-After asks."""

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
class Watch:
    """What status said during a training, asked over and over."""

    walk: PatientWalk
    cluster_id: str
    training_id: str
    epochs: list[tuple[float, int]] = field(default_factory=list)
    ended: dict[str, Any] | None = None

    def poll_round(self) -> dict[str, Any]:
        status = self.walk.call("GET", f"/v1/clusters/{self.cluster_id}/status")
        session: dict[str, Any] = next(item for item in status["training_sessions"] if item["training_id"] == self.training_id)
        self.epochs.append((time.monotonic(), session["epoch"]))
        if session["status"] in _ENDED:
            self.ended = session
        return session

    def until(self, epoch: int, within_s: float) -> None:
        """Return once `epoch` is reached or the training has ended."""
        end = time.monotonic() + within_s
        while self.poll_round()["epoch"] < epoch and self.ended is None:
            assert time.monotonic() < end, f"epoch {epoch} was not reached within {within_s:.0f} s"
            time.sleep(0.2)

    def moved_after(self, moment: float) -> float:
        """Seconds from a moment to the next finished round."""
        before = max((epoch for at, epoch in self.epochs if at <= moment), default=0)
        return next((at - moment for at, epoch in self.epochs if at > moment and epoch > before), 0.0)


@dataclass(frozen=True)
class Hit:
    fault: str
    at_epoch: int
    recovered_s: float


@dataclass(frozen=True)
class Run:
    hits: Sequence[Hit]
    accuracy: float
    digest: str
    seconds: float


class Rig:
    """One cluster on one stack, used for training after training, `samples` on each worker."""

    def __init__(self, stack: EmbeddedStack, epochs: int, frozen_s: float, samples: int) -> None:
        self.stack = stack
        self._samples = samples
        self.walk = PatientWalk(stack.url, stack.api_key)
        self._epochs = epochs
        self._frozen_s = frozen_s
        # Of an undisturbed training, once one has run: a fault comes at a random moment of a round.
        self._round_s = 1.0
        self.cluster_id, self.workers, self.aggregator = self.walk.cluster(WORKERS)
        for node_id in self.workers:
            self._upload(node_id)

    def _upload(self, node_id: str) -> None:
        number = self.workers.index(node_id)
        self.walk.upload(node_id, "/data/train_shard.json", samples(self._samples, number * 10_000), status=201)

    def run(self, faults: Sequence[Fault], random_: random.Random) -> Run:
        """Train from nothing; each fault comes in a part of the training of its own, at a random moment of a random round.

        AssertionError when a promise is broken; the training is stopped then.
        """
        started = time.monotonic()
        training = self.walk.train(self.cluster_id, dataset="/data/train_*.json", epochs=self._epochs, seed=7)
        watch = Watch(self.walk, self.cluster_id, str(training["training_id"]))
        try:
            hits = self._disturb(watch, faults, random_)
            digest = self._promises(watch)
        except AssertionError:
            self._stop(watch)
            raise
        if not faults:
            self._round_s = (watch.epochs[-1][0] - started) / self._epochs
        return Run(hits, self._accuracy(), digest, time.monotonic() - started)

    def _disturb(self, watch: Watch, faults: Sequence[Fault], random_: random.Random) -> list[Hit]:
        share = self._epochs // max(1, len(faults))
        hits = []
        for number, fault in enumerate(sorted(faults, key=lambda fault: fault.rounds_go_on)):
            watch.until(number * share + random_.randrange(max(1, share - 2)), 120)
            time.sleep(random_.uniform(0, self._round_s))
            at_epoch = watch.poll_round()["epoch"]
            assert watch.ended is None, f"the training ended before {fault.name}"
            moment = time.monotonic()
            worker = random_.choice(self.workers)
            fault.inflict(Target(self.stack, self.walk, worker, self.aggregator, self._frozen_s))
            if fault.loses_worker:
                self._upload_again(worker)
            watch.until(at_epoch + 1, 180)
            hits.append(Hit(fault.name, at_epoch, watch.moved_after(moment)))
        watch.until(self._epochs, 180)
        while watch.ended is None:
            watch.poll_round()
            time.sleep(0.2)
        return hits

    def _stop(self, watch: Watch) -> None:
        self.walk.call("POST", f"/v1/trainings/{watch.training_id}/stop")
        end = time.monotonic() + 60
        while watch.ended is None and time.monotonic() < end:
            watch.poll_round()
            time.sleep(0.2)

    def _upload_again(self, node_id: str) -> None:
        """What the data's owner does who reads the events."""
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

    def _promises(self, watch: Watch) -> str:
        """No round counted twice or left out, no event lost, no status that lied. Returns the last round's digest."""
        assert watch.ended is not None
        assert watch.ended["status"] == "completed", watch.ended["error"]
        told = [epoch for _, epoch in watch.epochs]
        assert told == sorted(told), f"status went back: {told}"
        rows = self.walk.call("GET", f"/v1/trainings/{watch.training_id}/rounds", params={"limit": 100})["items"]
        assert [row["round"] for row in rows] == list(range(1, self._epochs + 1))
        assert all(row["status"] == "completed" and row["copies"] for row in rows)
        assert [row["base_digest"] for row in rows[1:]] == [row["digest"] for row in rows[:-1]]
        events = self._events(f"/v1/clusters/{self.cluster_id}/events")
        assert [seq for seq, _, _ in events] == list(range(1, len(events) + 1)), "an event is missing"
        done = [
            data["round"] for _, name, data in events if name == "round.completed" and data["training_id"] == watch.training_id
        ]
        assert done == list(range(1, self._epochs + 1)), f"rounds completed by events: {done}"
        return str(rows[-1]["digest"])

    def _events(self, path: str) -> list[tuple[int, str, dict[str, Any]]]:
        text = self.walk.http.get(path, params={"follow": "false"}, timeout=30).raise_for_status().text
        found = re.findall(r"^id: (\d+)\nevent: (.+)\ndata: (.+)$", text, re.MULTILINE)
        return [(int(seq), name, json.loads(data)) for seq, name, data in found]

    def _accuracy(self) -> float:
        """Of the last global model on texts that no worker has."""
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

    def compare(self, run: Run, undisturbed: Run) -> None:
        assert abs(run.accuracy - undisturbed.accuracy) <= _TOLERANCE, f"{run.accuracy} instead of {undisturbed.accuracy}"

    def sandboxes(self) -> list[str]:
        """The cluster's sandboxes, as their provider lists them."""
        nodes = self.walk.call("GET", f"/v1/clusters/{self.cluster_id}/nodes")["items"]
        found: list[str] = []
        for node in nodes:
            query = SandboxQuery(metadata={"node_id": node["node_id"]})
            pages = Sandbox.list(query=query, **provider(self.stack))
            while pages.has_next:
                found += [info.sandbox_id for info in pages.next_items()]
        return found

    def terminate(self) -> None:
        self.walk.terminate(self.cluster_id)
        assert self.walk.call("GET", f"/v1/clusters/{self.cluster_id}")["status"] == "terminated"
        assert self.sandboxes() == [], "sandboxes go on costing"
