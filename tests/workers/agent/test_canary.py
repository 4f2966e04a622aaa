"""Marked sentences never leave their agent.

The test records and searches every byte between agents, on every data path.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.canary import SENTENCE, Canary, marked
from tests.workers.agent import agents
from tests.workers.agent.agents import DATASET, TRAINING, Federation
from tests.workers.agent.texts import LABELS, samples
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.inference import PredictTexts
from workers.agent.protocol.training import CheckShard, Compression, DpSgdSpec
from workers.agent.server.app import Agent

SPEC = ModelSpec(architecture="cnn", model="base", labels=LABELS, max_length=32, seed=7)


class Tap:
    """Record all requests and answers of every agent, with headers and paths."""

    def __init__(self) -> None:
        self.kept: dict[str, bytearray] = {}
        self._lock = threading.Lock()

    def keep(self, where: str, content: bytes) -> None:
        with self._lock:
            self.kept.setdefault(where, bytearray()).extend(content)

    def over(self, app: ASGIApp) -> ASGIApp:
        async def tapped(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope.get("path", "")
            self.keep(path, repr((scope.get("query_string"), scope.get("headers"))).encode())

            async def taking() -> Message:
                message = await receive()
                self.keep(path, message.get("body", b""))
                return message

            async def giving(message: Message) -> None:
                self.keep(path, message.get("body", b""))
                await send(message)

            # The recorder would not see a file that is sent by name.
            scope = {**scope, "extensions": {}}
            await app(scope, taking, giving)

        return tapped


@pytest.fixture
def tapped(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Federation, Tap]]:
    tap = Tap()

    class TappedAgent(Agent):
        def app(self) -> ASGIApp:
            return tap.over(super().app())

    monkeypatch.setattr(agents, "Agent", TappedAgent)
    monkeypatch.setattr(agents, "MODEL", SPEC)
    with ExitStack() as running:
        aggregator = running.enter_context(agents.live_agent("ps", "aggregator"))
        workers = [running.enter_context(agents.live_agent(f"w{number}")) for number in range(1, 4)]
        for number, worker in enumerate(workers):
            worker.put(f"/data/train_{number}.json", marked(samples(24, number * 1000)))
        found = Federation(aggregator, workers)
        found.init()
        yield found, tap


def test_no_update_carries_a_sentence_or_its_tokens(tapped: tuple[Federation, Tap]) -> None:
    federation, tap = tapped
    canary = Canary()
    peers = [worker.peer for worker in federation.workers]
    plan = DpSgdSpec(samples=24, sampling_rate=1 / 3, noise_multiplier=1.0, max_grad_norm=1.0, steps=3)
    topk = Compression(values="int8", sparse=True, ratio=0.05)
    rounds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"path": DataPath(kind="mesh", peers=peers, wait_s=30)}, {}),
        ({"path": DataPath(kind="ring", peers=peers, wait_s=30)}, {}),
        ({"compression": topk}, {"privacy": plan}),
        ({"secure_aggregation": True}, {}),
    ]
    for number, (fields, wanted) in enumerate(rounds, start=1):
        federation.collect(number, **fields)
        for worker in federation.workers:
            federation.train(worker, number, wanted=wanted, **fields)
        found = federation.aggregated(number)
        assert (found["state"], found["fallback"]) == ("done", None), found["problem"]
        federation.base = found["digest"]
    question = PredictTexts(
        training_id=TRAINING,
        model=SPEC,
        digest=federation.base,
        dataset=DATASET,
        aggregation="weighted",
        workers=peers,
        self_peer=federation.aggregator.peer,
        inputs=["the lamp is great"],
    )
    federation.aggregator.call("POST", "/predictions", question)
    federation.workers[0].put("/data/broken.json", b'{"text": "' + SENTENCE.encode())
    assert federation.workers[0].call("POST", "/shards/check", CheckShard(dataset="/data/broken.json"))["problem"]

    left = {where: canary.found_in(bytes(content)) for where, content in tap.kept.items()}
    assert not {where: found for where, found in left.items() if found}
    updates = {where: len(content) for where, content in tap.kept.items() if "/updates/" in where or "/parts/" in where}
    assert len(updates) > 10
    assert max(updates.values()) > 1_000_000, "whole updates went through the tap"
    for where in ("/trainings/train_1/rounds/4/secure/shares", "/trainings/train_1/rounds/3/updates/w1", "/inferences"):
        assert where in tap.kept

    # The recorder works: it finds the marks where the test has put them.
    federation.workers[0].call("POST", "/shards/check", CheckShard(dataset=f"/data/{SENTENCE.split()[0]}.json"))
    assert canary.found_in(bytes(tap.kept["/shards/check"])) == [SENTENCE.split()[0]]
    assert canary.found_in((federation.workers[0].root / "data/train_0.json").read_bytes())
