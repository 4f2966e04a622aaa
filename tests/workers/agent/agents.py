"""Real agents in this process, with small data and a tiny network.

Each agent has a real server on a Unix socket.
"""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import safetensors.torch
import uvicorn

from tests.workers.agent.acting import Acting, key_of, tokens_of
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import samples, spec
from workers.agent.peers.tokens import Caller, with_tokens
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.aggregation import AggregateRound, DropWorkers
from workers.agent.protocol.common import Message, Peer
from workers.agent.protocol.consensus import ScoreUpdates
from workers.agent.protocol.inference import EvaluateModel
from workers.agent.protocol.training import Hyperparameters, InitTraining, TrainReport, TrainRound
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.server.app import Agent

TRAINING = "train_1"
DATASET = "/data/train_*.json"
MODEL = spec("/models/tiny")
PATIENCE_S = 60.0


@dataclass
class LiveAgent:
    """One agent: the root folder of its sandbox, its socket, and a client.

    The client calls each route as a caller that may use it.
    """

    node_id: str
    root: Path
    peer: Peer
    http: httpx.Client
    role: str = "worker"
    die: Callable[[], None] = lambda: None

    def put(self, path: str, content: object) -> None:
        target = self.root / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    def call(self, method: str, path: str, message: Message | None = None, *, status: int = 200) -> Any:
        """Every peer in the message gets this agent's token at that peer."""
        sent = with_tokens(message, tokens_of(Caller(self.role, self.node_id))) if message else None
        answer = self.http.request(method, path, content=sent.model_dump_json() if sent else None)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def models(self) -> list[str]:
        """Return the digests of the models in its store."""
        return sorted(path.stem for path in self.root.glob(f"model/{TRAINING}/*.safetensors") if len(path.stem) == 64)


@contextmanager
def live_agent(
    node_id: str, role: Literal["worker", "aggregator", "validator"] = "worker", key: str | None = None
) -> Iterator[LiveAgent]:
    """Run an agent until the block ends.

    The path of its socket is short, because the kernel allows about a hundred characters.
    """
    folder = Path(tempfile.mkdtemp(prefix="agent-"))
    root = folder / "root"
    save_tiny_bert(root / "models/tiny")
    key = key or key_of(node_id)
    app = Agent(AgentConfig(node_id=node_id, role=role, key=key), SandboxRoot(root), Log(node_id)).app()
    socket = str(folder / "agent.sock")
    try:
        with serving(app, socket) as die:
            transport = httpx.HTTPTransport(uds=socket)
            with httpx.Client(base_url="http://agent", transport=transport, auth=Acting(key), timeout=PATIENCE_S) as http:
                yield LiveAgent(node_id, root, Peer(node_id=node_id, url="http://agent", uds=socket), http, role, die)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def serving(app: Any, socket: str) -> Iterator[Callable[[], None]]:
    """Serve an ASGI application on a Unix socket, from a thread.

    It yields a function that stops the server early.
    """
    config = uvicorn.Config(app, uds=socket, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + PATIENCE_S
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < end, "the server did not start in time"
        time.sleep(0.005)

    def die() -> None:
        server.force_exit = server.should_exit = True
        thread.join(timeout=30)

    try:
        yield die
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@dataclass
class Federation:
    """An aggregator and some workers with a shard each, in one training."""

    aggregator: LiveAgent
    workers: list[LiveAgent]
    base: str = ""
    hyperparameters: dict[str, Any] = field(
        default_factory=lambda: {"batch_size": 8, "learning_rate": 0.01, "optimizer": "adam", "seed": 3}
    )

    def init(self, **fields: Any) -> dict[str, Any]:
        """Publish the first global model."""
        request = InitTraining(**{"training_id": TRAINING, "model": MODEL, **fields})
        ready: dict[str, Any] = self.aggregator.call("POST", "/trainings", request)
        self.base = ready["digest"]
        return ready

    def collect(self, number: int = 1, **fields: Any) -> dict[str, Any]:
        """Start round `number` at the aggregator."""
        peers = [worker.peer for worker in self.workers]
        request = AggregateRound(
            **{
                "training_id": TRAINING,
                "round": number,
                "model": MODEL,
                "base_digest": self.base,
                "workers": peers,
                "introductions": {one.node_id: with_tokens(peers, tokens_of(Caller("worker", one.node_id))) for one in peers},
                "self_peer": self.aggregator.peer,
                "dataset": DATASET,
                "quorum": 1,
                "deadline_s": PATIENCE_S,
                **fields,
            }
        )
        answer: dict[str, Any] = self.aggregator.call("POST", "/rounds/aggregate", request)
        return answer

    def train(self, worker: LiveAgent, number: int = 1, **fields: Any) -> dict[str, Any]:
        """Start round `number` at a worker. With `wait_s`, wait for its copy of the new model."""
        wait_s = fields.pop("wait_s", 0)
        hyperparameters = Hyperparameters(**{**self.hyperparameters, **fields.pop("wanted", {})})
        request = TrainRound(
            **{
                "training_id": TRAINING,
                "round": number,
                "model": MODEL,
                "base_digest": self.base,
                "dataset": DATASET,
                "hyperparameters": hyperparameters,
                "aggregator": self.aggregator.peer,
                **fields,
            }
        )
        answer: dict[str, Any] = worker.call("POST", f"/rounds/train?wait={wait_s:g}", request)
        return answer

    def trained(self, worker: LiveAgent, number: int = 1) -> dict[str, Any]:
        """Return a worker's report after its round has ended."""
        return report(worker, number, "worker")

    def trained_so_far(self, worker: LiveAgent, number: int = 1) -> dict[str, Any]:
        return report(worker, number, "worker", wait_s=0)

    def aggregated(self, number: int = 1) -> dict[str, Any]:
        """Return the aggregator's report after the round has ended."""
        return report(self.aggregator, number, "aggregator")

    def round(self, number: int = 1, **fields: Any) -> dict[str, Any]:
        """Run a whole round with all workers. The next round starts from its model."""
        shared = {name: fields[name] for name in ("model", "consensus") if name in fields}
        self.collect(number, **fields)
        for worker in self.workers:
            self.train(worker, number, **shared)
        ended = self.aggregated(number)
        assert ended["state"] == "done", ended["problem"]
        self.base = ended["digest"]
        return ended

    def push(self, node_id: str, body: bytes, number: int = 1) -> dict[str, Any]:
        """Send an update in a node's name, as that node's agent could."""
        answer = self.aggregator.http.put(f"/trainings/{TRAINING}/rounds/{number}/updates/{node_id}", content=body)
        assert answer.status_code == 200, answer.text
        receipt: dict[str, Any] = answer.json()
        return receipt


def report(agent: LiveAgent, number: int, role: str, wait_s: float = 20) -> dict[str, Any]:
    """Return a round's report after the round has ended; with `wait_s` 0, return it at once."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        current: dict[str, Any] = agent.call("GET", f"/trainings/{TRAINING}/rounds/{number}?role={role}&wait={wait_s}")
        if not wait_s or current["state"] not in ("running", "collecting"):
            return current
    raise AssertionError(f"round {number} of {agent.node_id} did not end")


@contextmanager
def federation(workers: int = 2, count: int = 24) -> Iterator[Federation]:
    """Start an aggregator and `workers` workers. Each worker's shard has `count` own samples."""
    with ExitStack() as running:
        aggregator = running.enter_context(live_agent("ps", "aggregator"))
        workers_started = [running.enter_context(live_agent(f"w{number}")) for number in range(1, workers + 1)]
        for number, worker in enumerate(workers_started):
            worker.put(f"/data/train_{number}.json", samples(count, number * 1000))
        agents = Federation(aggregator, workers_started)
        agents.init()
        yield agents


def update(agents: Federation, node_id: str, state: dict[str, Any], *, samples: int = 10, number: int = 1) -> bytes:
    """Return the bytes of an update as a worker would send them."""
    fields = TrainReport(
        node_id=node_id, training_id=TRAINING, round=number, state="done", samples=samples, loss=0.5, accuracy=0.5
    )
    return safetensors.torch.save(state, {"report": fields.model_dump_json()})


def global_model(agents: Federation, digest: str | None = None) -> dict[str, Any]:
    """Fetch the tensors of a global model, as any agent would."""
    answer = agents.aggregator.http.get(f"/models/{digest or agents.base}")
    assert answer.status_code == 200, answer.text
    return safetensors.torch.load(answer.content)


def drop(agents: Federation, *node_ids: str, number: int = 1) -> dict[str, object]:
    answer: dict[str, object] = agents.aggregator.call(
        "POST", f"/trainings/{TRAINING}/rounds/{number}/drop", DropWorkers(node_ids=list(node_ids))
    )
    return answer


def problem(report: dict[str, object]) -> str:
    fields = report["problem"]
    assert isinstance(fields, dict), report
    return str(fields["code"])


def plus(agents: Federation, amount: float) -> dict[str, Any]:
    return {name: tensor + amount for name, tensor in global_model(agents).items()}


def evaluate(agents: Federation, digest: str, **fields: object) -> EvaluateModel:
    return EvaluateModel(
        **{
            "training_id": TRAINING,
            "model": MODEL,
            "digest": digest,
            "source": agents.aggregator.peer,
            "dataset": DATASET,
            **fields,
        }
    )


def score(agents: Federation, candidates: dict[str, str]) -> ScoreUpdates:
    return ScoreUpdates(
        training_id=TRAINING,
        model=MODEL,
        base_digest=agents.base,
        candidates=candidates,
        source=agents.aggregator.peer,
        dataset=DATASET,
    )
