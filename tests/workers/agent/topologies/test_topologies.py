"""The data paths between real agents.

Every path gives the same model. The tests also count bytes and break each path.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.domain import topology
from api.domain.words import words_of
from tests.workers.agent.acting import Acting, key_of
from tests.workers.agent.agents import PATIENCE_S, Federation, LiveAgent, federation, global_model, serving
from tests.workers.agent.pretrained import save_tiny_bert
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.aggregation import DropWorkers, StrategySpec
from workers.agent.protocol.common import Peer
from workers.agent.protocol.exchange import DataPath
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.server.app import Agent

WORKERS = 5
HEADER = 4096
"""The largest part of a file that is header and report, not tensors."""


@dataclass
class Run:
    """One training over some agents, by one data path."""

    agents: Federation
    training_id: str
    kind: str
    wait_s: float = 30

    def path(self) -> DataPath | None:
        if self.kind == "star":
            return None
        peers = [worker.peer for worker in self.agents.workers]
        groups = topology.groups([peer.node_id for peer in peers]) if self.kind == "hierarchical" else []
        return DataPath(kind=self.kind, peers=peers, groups=groups, wait_s=self.wait_s)

    def begin(self) -> None:
        self.agents.init(training_id=self.training_id)

    def collect(self, number: int, **fields: Any) -> None:
        self.agents.collect(number, training_id=self.training_id, path=self.path(), **fields)

    def train(self, worker: LiveAgent, number: int, **fields: Any) -> dict[str, Any]:
        return self.agents.train(worker, number, training_id=self.training_id, **{"path": self.path(), **fields})

    def round(self, number: int, **fields: Any) -> dict[str, Any]:
        """Run a whole round. The next one starts from its model."""
        self.collect(number, **fields)
        for worker in self.agents.workers:
            self.train(worker, number)
        found = self.report(self.agents.aggregator, number)
        assert found["state"] == "done", found["problem"]
        if self.kind == "star":
            copies = [self.train(worker, number, wait_s=self.wait_s) for worker in self.agents.workers]
            found["links"] += [link for copy in copies for link in copy["replica"]["links"]]
        self.agents.base = found["digest"]
        return found

    def report(self, agent: LiveAgent, number: int, role: str = "aggregator") -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            where = f"/trainings/{self.training_id}/rounds/{number}?role={role}&wait=20"
            found: dict[str, Any] = agent.call("GET", where)
            if found["state"] not in ("running", "collecting"):
                return found
        raise AssertionError(f"round {number} of {agent.node_id} did not end")


def bytes_by_link(found: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(link["source"], link["target"]): link["bytes"] for link in found["links"]}


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(scope="module")
def agents() -> Iterator[Federation]:
    with federation(WORKERS) as found:
        yield found


@pytest.fixture(scope="module")
def rounds(agents: Federation) -> dict[str, list[dict[str, Any]]]:
    """Run two rounds by each path. Return their models."""
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in words_of(topology.Topology):
        run = Run(agents, f"train_{kind}", kind)
        run.begin()
        found[kind] = []
        for number in (1, 2):
            report = run.round(number)
            there = [worker.root / f"model/train_{kind}/{report['digest']}.safetensors" for worker in agents.workers]
            has_it = sum(path.is_file() for path in there)
            found[kind].append({**report, "model": global_model(agents), "has_it": has_it})
        # The store finds models by digest in any training. No agent may have another path's model.
        for worker in agents.workers:
            shutil.rmtree(worker.root / "model")
    return found


@pytest.fixture(scope="module")
def model_bytes(rounds: dict[str, list[dict[str, Any]]]) -> int:
    return sum(4 * tensor.numel() for tensor in rounds["star"][0]["model"].values())


@pytest.mark.parametrize("kind", ["mesh", "ring", "hierarchical"])
def test_every_path_gives_the_stars_model(rounds: dict[str, list[dict[str, Any]]], kind: str) -> None:
    for number in (0, 1):
        assert apart(rounds[kind][number]["model"], rounds["star"][number]["model"]) < 1e-5
        assert rounds[kind][number]["fallback"] is None
        assert sorted(rounds[kind][number]["accepted"]) == sorted(rounds["star"][number]["accepted"])
    assert apart(rounds["star"][0]["model"], rounds["star"][1]["model"]) > 1e-3


def test_a_star_carries_every_model_to_the_aggregator_and_back(
    rounds: dict[str, list[dict[str, Any]]], model_bytes: int
) -> None:
    for found in rounds["star"]:
        links = bytes_by_link(found)
        workers = {f"w{i}" for i in range(1, WORKERS + 1)}
        assert set(links) == {("ps", worker) for worker in workers} | {(worker, "ps") for worker in workers}
        assert all(model_bytes < size < model_bytes + HEADER for size in links.values())


def test_a_mesh_carries_every_model_to_every_worker_and_one_copy_to_the_aggregator(
    rounds: dict[str, list[dict[str, Any]]], model_bytes: int
) -> None:
    workers = [f"w{i}" for i in range(1, WORKERS + 1)]
    links = bytes_by_link(rounds["mesh"][1])
    assert set(links) == {(a, b) for a in workers for b in workers if a != b} | {("w1", "ps")}
    assert all(model_bytes < size < model_bytes + HEADER for size in links.values())


def test_each_link_of_a_ring_carries_two_nths_less_than_two_models(
    rounds: dict[str, list[dict[str, Any]]], model_bytes: int
) -> None:
    links = bytes_by_link(rounds["ring"][1])
    copy = links.pop(("w1", "ps"))
    assert model_bytes < copy < model_bytes + HEADER
    ring = {(f"w{i}", f"w{i % WORKERS + 1}") for i in range(1, WORKERS + 1)}
    assert set(links) == ring
    share = 2 * (WORKERS - 1) / WORKERS * model_bytes
    assert all(abs(size - share) < 0.01 * model_bytes for size in links.values())


def test_a_hierarchy_carries_models_to_the_heads_and_the_heads_means_up(
    rounds: dict[str, list[dict[str, Any]]], model_bytes: int
) -> None:
    links = bytes_by_link(rounds["hierarchical"][1])
    up = {("w3", "w1"), ("w5", "w1"), ("w4", "w2"), ("w1", "ps"), ("w2", "ps")}
    assert set(links) == up | {(target, source) for source, target in up}
    assert all(model_bytes < size < model_bytes + HEADER for size in links.values())


def test_workers_have_the_new_model_at_the_end_of_a_round_except_in_a_hierarchy(
    rounds: dict[str, list[dict[str, Any]]],
) -> None:
    counts = {kind: [found["has_it"] for found in rounds[kind]] for kind in words_of(topology.Topology)}
    assert counts == {"mesh": [5, 5], "ring": [5, 5], "star": [5, 5], "hierarchical": [0, 0]}


@pytest.mark.parametrize("kind", ["mesh", "ring", "hierarchical"])
def test_two_workers_are_enough_for_every_path(agents: Federation, kind: str) -> None:
    few = Federation(agents.aggregator, agents.workers[:2])
    star, other = Run(few, f"two_star_{kind}", "star"), Run(few, f"two_{kind}", kind)
    star.begin()
    star.round(1)
    wanted = global_model(few)
    other.begin()
    assert other.round(1)["fallback"] is None
    assert apart(global_model(few), wanted) < 1e-5


@pytest.mark.parametrize("kind", ["mesh", "ring", "hierarchical"])
def test_a_server_optimiser_steps_from_the_mean_of_any_path(agents: Federation, kind: str) -> None:
    few = Federation(agents.aggregator, agents.workers[:3])
    models = {}
    for way in ("star", kind):
        run = Run(few, f"momentum_{way}_{kind}", way)
        run.begin()
        for number in (1, 2):
            strategy = StrategySpec(name="fedavgm", server_learning_rate=1.0, server_momentum=0.9)
            assert run.round(number, strategy=strategy)["notices"] == []
        models[way] = global_model(few)
    assert apart(models[kind], models["star"]) < 1e-4


@pytest.mark.parametrize("kind", ["mesh", "ring", "hierarchical"])
def test_an_exchange_without_one_of_its_workers_falls_back_to_the_star(agents: Federation, kind: str) -> None:
    """w3 is one of the peers, but no agent listens at its address."""
    gone = LiveAgent("w3", agents.workers[2].root, Peer(node_id="w3", url="http://agent", uds="/nowhere.sock"), None)  # type: ignore[arg-type]
    present = [worker for worker in agents.workers if worker.node_id != "w3"]
    run = Run(Federation(agents.aggregator, [*agents.workers[:2], gone, *agents.workers[3:]]), f"lost_{kind}", kind)
    run.begin()
    run.collect(1)
    for worker in present:
        run.train(worker, 1)
    end = time.monotonic() + PATIENCE_S
    where = f"/trainings/lost_{kind}/rounds/1"
    while (found := agents.aggregator.call("GET", f"{where}?role=aggregator"))["fallback"] is None:
        assert time.monotonic() < end, "the aggregator did not fall back"
        time.sleep(0.05)
    assert "w3" in found["fallback"]
    agents.aggregator.call("POST", f"{where}/drop", DropWorkers(node_ids=["w3"]))
    found = run.report(agents.aggregator, 1)
    assert (found["state"], sorted(found["accepted"])) == ("done", ["w1", "w2", "w4", "w5"])
    assert {link["target"] for link in found["links"] if link["source"] != "ps"} == {"ps"}


def test_a_worker_that_cannot_tell_of_the_exchange_ends_it_by_sending_its_update(agents: Federation) -> None:
    run = Run(agents, "untold", "mesh")
    run.begin()
    run.collect(1)
    for worker in agents.workers:
        run.train(worker, 1, **({"path": None} if worker.node_id == "w1" else {}))
    found = run.report(agents.aggregator, 1)
    assert (found["state"], sorted(found["accepted"])) == ("done", ["w1", "w2", "w3", "w4", "w5"])
    assert found["fallback"] == "w1 could not report its exchange and sent its update"


@pytest.mark.parametrize("kind", ["mesh", "ring", "hierarchical"])
def test_an_update_that_went_astray_ends_the_exchange_and_is_named(agents: Federation, kind: str) -> None:
    run = Run(agents, f"astray_{kind}", kind)
    run.begin()
    run.collect(1)
    for worker in agents.workers:
        run.train(worker, 1, wanted={"learning_rate": 10.0} if worker.node_id == "w3" else {})
    found = run.report(agents.aggregator, 1)
    assert found["state"] == "done", found["problem"]
    assert "too far from the global model" in found["fallback"]
    assert list(found["rejected"]) == ["w3"]
    assert sorted(found["accepted"]) == ["w1", "w2", "w4", "w5"]


@pytest.mark.parametrize("kind", ["mesh", "ring", "hierarchical"])
def test_an_exchange_that_waits_for_a_slow_worker_is_given_up_at_the_deadline(agents: Federation, kind: str) -> None:
    run = Run(agents, f"slow_{kind}", kind)
    run.begin()
    run.collect(1, deadline_s=2)
    for worker in agents.workers[:4]:
        run.train(worker, 1)
    found = run.report(agents.aggregator, 1)
    assert (found["state"], found["late"]) == ("done", ["w5"])
    assert found["fallback"] == "the exchange was not done by the round's deadline"
    assert sorted(found["accepted"]) == ["w1", "w2", "w3", "w4"]
    late = agents.aggregator.http.put(f"/trainings/{run.training_id}/rounds/1/updates/w5", content=b"")
    assert late.json()["problem"]["code"] == "not_expected"


def test_a_worker_that_is_told_to_stop_leaves_its_exchange(agents: Federation) -> None:
    run = Run(agents, "stopped", "ring")
    run.begin()
    run.collect(1)
    run.train(agents.workers[0], 1)
    end = time.monotonic() + PATIENCE_S
    while agents.workers[0].call("GET", "/trainings/stopped/rounds/1?role=worker")["progress"] < 1:
        assert time.monotonic() < end, "the worker did not train"
        time.sleep(0.02)
    for agent in (agents.workers[0], agents.aggregator):
        agent.call("POST", "/trainings/stopped/stop")
    assert run.report(agents.workers[0], 1, "worker")["state"] == "stopped"
    assert run.report(agents.aggregator, 1)["state"] == "stopped"


def test_a_restarted_aggregator_asks_for_the_updates_once_more(tmp_path: Path) -> None:
    with federation(2) as found, ExitStack() as first:
        root, socket = SandboxRoot(tmp_path / "root"), str(tmp_path / "ps.sock")
        save_tiny_bert(tmp_path / "root/models/tiny")
        config = AgentConfig(node_id="ps", role="aggregator", key=key_of("ps"))
        first.enter_context(serving(Agent(config, root, Log("ps")).app(), socket))
        transport = httpx.HTTPTransport(uds=socket)
        peer = Peer(node_id="ps", url="http://agent", uds=socket)
        with httpx.Client(base_url="http://agent", transport=transport, auth=Acting(config.key), timeout=PATIENCE_S) as http:
            run = Run(
                Federation(LiveAgent("ps", tmp_path / "root", peer, http, "aggregator"), found.workers), "restarted", "star"
            )
            run.begin()
            run.collect(1)
            run.train(found.workers[0], 1)
            assert run.report(found.workers[0], 1, "worker")["problem"] is None
            first.close()
            with serving(Agent(config, root, Log("ps")).app(), socket):
                run.agents.init(training_id="restarted", base_digest=run.agents.base)
                run.collect(1, fallback="the aggregator's agent was restarted")
                run.train(found.workers[1], 1)
                report = run.report(run.agents.aggregator, 1)
                assert (report["state"], sorted(report["accepted"])) == ("done", ["w1", "w2"])
                assert report["fallback"] is None
