"""The control plane's client, against a real agent and against broken servers."""

import asyncio
import socket
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import SecretStr

from api.domain.sandboxes import Endpoint
from tests.workers.agent.acting import KEYS
from tests.workers.agent.agents import DATASET, MODEL, TRAINING, LiveAgent, live_agent
from tests.workers.agent.impostor import impostor, says
from tests.workers.agent.peers.test_client import trickling
from tests.workers.agent.texts import samples
from workers import agent_client
from workers.agent.peers.tokens import Caller
from workers.agent.protocol.inference import PredictTexts
from workers.agent.protocol.training import CheckShard, InitTraining
from workers.agent_client import AgentCallError, AgentClient, AgentRefusedError, AgentUnreachableError, ClusterKeys
from workers.network import AgentConnections

T = TypeVar("T")
CANARY = "canary-4711"
HEALTH = b'{"node_id": "w1"'


@pytest.fixture(scope="module")
def agent() -> Iterator[LiveAgent]:
    with live_agent("w1") as running:
        running.put("/data/train_1.json", samples(24))
        yield running


def asked(uds: str | None, question: Callable[[AgentClient], Awaitable[T]], keys: ClusterKeys = KEYS) -> T:
    async def ask() -> T:
        headers = {"X-Access-Token": f"{CANARY}-of-the-way"}
        endpoint = Endpoint("http://agent", headers, uds)
        async with aclosing(AgentConnections()) as connections:
            return await question(AgentClient(Caller("worker", "w1"), endpoint, keys, connections))

    return asyncio.run(ask())


def failure(uds: str | None, question: Callable[[AgentClient], Awaitable[object]], keys: ClusterKeys = KEYS) -> AgentCallError:
    """Return the error of a call. It quotes no secret and nothing from the answer."""
    with pytest.raises(AgentCallError) as caught:
        asked(uds, question, keys)
    printed = "".join(traceback.format_exception(caught.value))
    assert KEYS.token_at("w1") not in printed
    assert CANARY not in printed
    assert "w1" in str(caught.value) or isinstance(caught.value, AgentRefusedError)
    return caught.value


def test_an_agent_answers(agent: LiveAgent) -> None:
    uds = agent.peer.uds
    assert asked(uds, lambda client: client.health()).node_id == "w1"
    assert asked(uds, lambda client: client.check_shard(CheckShard(dataset=DATASET))).samples == 24
    assert asked(uds, lambda client: client.stop(TRAINING)).stopped is False
    ready = asked(uds, lambda client: client.init_training(InitTraining(training_id=TRAINING, model=MODEL)))
    assert (len(ready.digest), ready.problem) == (64, None)


def test_an_agents_own_error_has_its_code_and_words(agent: LiveAgent) -> None:
    for question, code in (
        (lambda client: client.train_report(TRAINING, 1, 0), "unknown_round"),
        (lambda client: client.check_shard(CheckShard(dataset="/../x")), "path_not_allowed"),
        (lambda client: client.init_training(InitTraining(training_id="../x", model=MODEL)), "bad_id"),
    ):
        error = failure(agent.peer.uds, question)
        assert isinstance(error, AgentRefusedError)
        assert error.code == code
        assert error.message in str(error)


def test_a_pass_of_another_deployment_or_cluster_is_refused(agent: LiveAgent) -> None:
    for keys in (ClusterKeys(SecretStr("another"), "cls_tests"), ClusterKeys(SecretStr("secret-of-the-tests"), "cls_2")):
        error = failure(agent.peer.uds, lambda client: client.health(), keys)
        assert isinstance(error, AgentRefusedError)
        assert error.code == "unauthorized"


def test_an_agent_that_is_not_there_is_unreachable_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    assert isinstance(failure(str(tmp_path / "x.sock"), lambda client: client.health()), AgentUnreachableError)
    assert isinstance(failure(None, lambda client: client.health()), AgentUnreachableError)
    assert time.monotonic() - started < 10


def test_an_agent_that_dies_during_a_call_is_unreachable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "x.sock"))
        server.listen()

        async def die(client: AgentClient) -> None:
            call = asyncio.create_task(client.health())
            connection, _ = await asyncio.to_thread(server.accept)
            await asyncio.to_thread(connection.recv, 10)
            connection.close()
            await call

        assert isinstance(failure(str(tmp_path / "x.sock"), die), AgentUnreachableError)


def test_an_agent_that_accepts_and_says_nothing_is_unreachable_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_client, "_REPORT_GRACE_S", 0.3)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "x.sock"))
        server.listen()
        started = time.monotonic()
        error = failure(str(tmp_path / "x.sock"), lambda client: client.train_report(TRAINING, 1, 0.2))
    assert isinstance(error, AgentUnreachableError)
    assert 0.4 < time.monotonic() - started < 20


def test_an_agent_that_trickles_its_answer_is_unreachable_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_client, "_REPORT_GRACE_S", 0.3)
    with impostor(trickling(HEALTH + b" " * 10_000, 0.05)) as peer:
        started = time.monotonic()
        error = failure(peer.uds, lambda client: client.train_report(TRAINING, 1, 0.2))
    assert isinstance(error, AgentUnreachableError)
    assert 0.4 < time.monotonic() - started < 20


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        HEALTH,
        b"\xff\xfe",
        b"[" * 5000,
        f'{{"node_id": "{CANARY}", "predictions": ["{CANARY}"]}}'.encode(),
    ],
)
def test_an_answer_of_another_form_is_bad_and_not_quoted(content: bytes) -> None:
    request = PredictTexts(
        training_id=TRAINING,
        model=MODEL,
        digest="0" * 64,
        dataset=DATASET,
        aggregation="mean",
        workers=[],
        self_peer={"node_id": "x", "url": "http://x"},
    )
    with impostor(says(content)) as peer:
        for question in (lambda client: client.health(), lambda client: client.predict(request)):
            error = failure(peer.uds, question)
            assert isinstance(error, AgentRefusedError)
            assert error.code == "bad_answer"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<html>" + CANARY.encode(), 502),
        (b"", 500),
        (b'{"code": 404, "message": "the sandbox was not error"}', 404),
        (b'{"message": "x"}', 400),
        (b"[]", 403),
        (b"", 302),
    ],
)
def test_an_error_that_is_no_agents_means_that_the_way_is_broken(content: bytes, status: int) -> None:
    with impostor(says(content, status)) as peer:
        error = failure(peer.uds, lambda client: client.health())
    assert isinstance(error, AgentUnreachableError)
    assert str(status) in str(error)


def test_an_agents_key_follows_from_the_deployments_secret_its_cluster_and_its_node() -> None:
    def key(secret: str, cluster_id: str, node_id: str) -> str:
        return ClusterKeys(SecretStr(secret), cluster_id).key(node_id)

    one = key("s" * 32, "cls_1", "w1")
    assert one == key("s" * 32, "cls_1", "w1")
    assert len({one, key("s" * 32, "cls_2", "w1"), key("t" * 32, "cls_1", "w1"), key("s" * 32, "cls_1", "w2")}) == 4
    assert "s" * 32 not in one
