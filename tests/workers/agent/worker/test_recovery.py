"""The workers restore what is lost with an aggregator.

Real agents, each served on a port of its own.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn

from api.domain.sandboxes import Endpoint
from tests.e2e.walk import samples
from tests.workers.agent.acting import KEYS
from workers.agent.peers.tokens import Caller
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound
from workers.agent.protocol.common import ModelSpec, Peer
from workers.agent.protocol.training import Hyperparameters, InitTraining, ReplicateModel, TrainReport, TrainRound
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.server.app import Agent
from workers.agent_client import AgentClient, AgentRefusedError
from workers.network import AgentConnections

T = TypeVar("T")
TRAINING = "train_fed_test"
MODEL = ModelSpec(architecture="transformer", model="base", labels=["negative", "positive"], max_length=32, seed=3)


class Served:
    """An agent in a thread. `end` stops it and leaves its files."""

    def __init__(self, folder: Path, role: str) -> None:
        folder.mkdir()
        self.root = folder
        config = AgentConfig(node_id=folder.name, role=role, key=KEYS.key(folder.name))
        self._caller = Caller(role, folder.name)
        app = Agent(config, SandboxRoot(folder), Log(folder.name)).app()
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    @property
    def peer(self) -> Peer:
        return Peer(node_id=self.root.name, url=self.url)

    def ask(self, question: Callable[[AgentClient], Coroutine[Any, Any, T]]) -> T:
        async def asked() -> T:
            async with aclosing(AgentConnections()) as connections:
                return await question(AgentClient(self._caller, Endpoint(self.url, {}), KEYS, connections))

        return asyncio.run(asked())

    def models(self) -> set[str]:
        found = (self.root / "model" / TRAINING).glob("*.safetensors")
        return {path.stem for path in found if len(path.stem) == 64}

    def end(self) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(10)


class Training:
    """One worker and the current aggregator."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.worker = Served(folder / "worker", "worker")
        (self.worker.root / "data").mkdir()
        (self.worker.root / "data" / "train.json").write_text(json.dumps(samples(60)))
        self.aggregator = Served(folder / "aggregator-0", "aggregator")
        self.digest = self.aggregator.ask(lambda agent: agent.init_training(self._init(None))).digest

    def replace_aggregator(self, base: str | None) -> str:
        """Replace the aggregator and its sandbox. Return the digest that it begins with."""
        self.aggregator.end()
        number = int(self.aggregator.root.name.rpartition("-")[2]) + 1
        self.aggregator = Served(self._folder / f"aggregator-{number}", "aggregator")
        return self.aggregator.ask(lambda agent: agent.init_training(self._init(base))).digest

    def _init(self, base: str | None) -> InitTraining:
        return InitTraining(training_id=TRAINING, model=MODEL, base_digest=base, sources=[self.worker.peer])

    def collect(self, number: int, others: Sequence[Peer] = ()) -> AggregateReport:
        request = AggregateRound(
            training_id=TRAINING,
            round=number,
            model=MODEL,
            base_digest=self.digest,
            workers=[self.worker.peer, *others],
            self_peer=self.aggregator.peer,
            dataset="/data/train.json",
            quorum=1,
            deadline_s=60,
        )
        return self.aggregator.ask(lambda agent: agent.aggregate(request))

    def train(self, number: int, *, resend: bool = False, wait_s: float = 0) -> TrainReport:
        request = TrainRound(
            training_id=TRAINING,
            round=number,
            model=MODEL,
            base_digest=self.digest,
            dataset="/data/train.json",
            hyperparameters=Hyperparameters(batch_size=16, learning_rate=0.001, optimizer="adam"),
            aggregator=self.aggregator.peer,
            resend=resend,
        )
        return self.worker.ask(lambda agent: agent.train(request, wait_s))

    def trained(self, number: int) -> TrainReport:
        return self.worker.ask(lambda agent: agent.train_report(TRAINING, number, 30))

    def aggregated(self, number: int) -> AggregateReport:
        return self.aggregator.ask(lambda agent: agent.aggregate_report(TRAINING, number, 30))

    def keep(self, digest: str) -> None:
        request = ReplicateModel(training_id=TRAINING, digest=digest, source=self.aggregator.peer)
        self.worker.ask(lambda agent: agent.replicate_model(request))

    def round(self, number: int) -> str:
        """Run a whole round. Return the new model's digest."""
        self.collect(number)
        self.train(number, wait_s=60)
        report = self.aggregated(number)
        assert report.state == "done", report.problem
        assert report.digest is not None
        return report.digest


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    made = Training(tmp_path)
    yield made
    made.aggregator.end()
    made.worker.end()


def test_before_the_first_round_the_same_seed_gives_the_same_model(training: Training) -> None:
    assert training.replace_aggregator(None) == training.digest


def test_a_worker_fetches_the_new_model_in_the_round_itself_and_keeps_the_base(training: Training) -> None:
    training.collect(1)
    report = training.train(1, wait_s=60)
    aggregated = training.aggregated(1)
    assert (report.state, aggregated.state) == ("done", "done")
    assert report.replica is not None
    assert report.replica.digest == aggregated.digest
    assert [link.source for link in report.replica.links] == [training.aggregator.root.name]
    assert training.worker.models() == {training.digest, aggregated.digest}


def test_a_worker_does_not_wait_for_the_model_of_a_round_that_was_stopped(training: Training) -> None:
    training.collect(1, [Peer(node_id="w-absent", url="http://127.0.0.1:9")])
    training.train(1)
    assert training.trained(1).state == "done"
    training.aggregator.ask(lambda agent: agent.stop(TRAINING))
    report = training.train(1, wait_s=60)
    assert (report.state, report.replica) == ("done", None)
    assert training.worker.models() == {training.digest}


def test_an_update_that_died_with_its_aggregator_is_sent_again_without_training(training: Training) -> None:
    expected = training.round(1)
    before = training.trained(1)
    training.replace_aggregator(None)
    training.collect(1)
    assert training.train(1).state == "done", "the worker believes that it has done its part"
    assert training.aggregator.ask(lambda agent: agent.aggregate_report(TRAINING, 1, 0)).state == "collecting"
    training.train(1, resend=True, wait_s=60)
    assert training.aggregated(1).digest == expected
    assert training.trained(1).train_seconds == before.train_seconds


def test_a_push_that_failed_is_made_again_without_training(training: Training) -> None:
    training.collect(1)
    training.keep(training.digest)
    training.aggregator.end()
    training.train(1)
    failed = training.trained(1)
    assert failed.problem is not None
    assert failed.problem.code == "push_failed"
    training.replace_aggregator(None)
    training.collect(1)
    training.train(1, wait_s=60)
    assert training.aggregated(1).state == "done"
    assert training.trained(1).train_seconds == failed.train_seconds


def test_a_round_that_was_published_and_not_recorded_can_be_repeated_from_its_base(training: Training) -> None:
    training.digest = base = training.round(1)
    training.keep(base)
    published = training.round(2)
    training.keep(published)
    assert training.worker.models() == {base, published}
    # The control plane has recorded round 1 only, and the aggregator is lost.
    assert training.replace_aggregator(base) == base
    training.collect(2)
    training.train(2, resend=True, wait_s=60)
    assert training.aggregated(2).digest == published


def test_workers_keep_the_model_and_the_one_before(training: Training) -> None:
    digests = [training.digest]
    for number in (1, 2, 3):
        training.digest = training.round(number)
        training.keep(training.digest)
        digests.append(training.digest)
    assert training.worker.models() == set(digests[-2:])


def test_a_model_that_nobody_has_is_said_to_be_unknown(training: Training) -> None:
    with pytest.raises(AgentRefusedError) as caught:
        training.replace_aggregator("f" * 64)
    assert caught.value.code == "unknown_model"
