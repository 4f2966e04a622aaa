"""Gossip between real agents: pairs average and continue from that.

The aggregator only measures the mean of all models.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.workers.agent.agents import TRAINING, Federation, LiveAgent, drop, federation, global_model
from workers.agent.protocol.common import Peer
from workers.agent.protocol.exchange import DataPath
from workers.agent.storage import tensors

FIRST, SECOND = [["w1", "w2"], ["w3"]], [["w3", "w1"], ["w2"]]


@pytest.fixture
def three() -> Iterator[Federation]:
    with federation(3) as found:
        yield found


def begin(agents: Federation, number: int, groups: list[list[str]], **fields: Any) -> None:
    path = DataPath(kind="gossip", peers=[worker.peer for worker in agents.workers], groups=groups, wait_s=30)
    agents.collect(number, consensus="gossip", path=path)
    for worker in agents.workers:
        if worker.http is not None:
            agents.train(worker, number, consensus="gossip", path=path, **fields)


def done(agents: Federation, number: int) -> dict[str, Any]:
    found = agents.aggregated(number)
    assert found["state"] == "done", found["problem"]
    agents.base = found["digest"]
    return found


def own(worker: LiveAgent, number: int) -> dict[str, torch.Tensor]:
    return tensors.read(worker.root / f"model/{TRAINING}/own-{number}.safetensors")


def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.allclose(one[name], other[name], atol=1e-6) for name in other)


def mean(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def trained(worker: LiveAgent) -> dict[str, torch.Tensor]:
    return tensors.read(worker.root / f"model/{TRAINING}/local.safetensors")


def test_pairs_average_and_everybody_goes_on_from_its_own_model(three: Federation) -> None:
    begin(three, 1, FIRST)
    found = done(three, 1)
    assert (sorted(found["accepted"]), found["fallback"]) == (["w1", "w2", "w3"], None)
    models = [own(worker, 1) for worker in three.workers]
    assert close(models[0], mean([trained(worker) for worker in three.workers[:2]]))
    assert close(models[0], models[1])
    assert close(models[2], trained(three.workers[2])), "who is left over keeps its own"
    assert close(global_model(three), mean(models)), "what is published is the mean of all, each counting the same"
    middle = mean(models)
    apart = [sum(float((model[name] - middle[name]).square().sum()) for name in middle) ** 0.5 for model in models]
    norm = sum(float(tensor.square().sum()) for tensor in middle.values()) ** 0.5
    assert found["consensus_distance"] == pytest.approx(sum(apart) / 3 / norm, rel=1e-3)
    assert {(link["source"], link["target"]) for link in found["links"]} >= {("w1", "w2"), ("w2", "w1"), ("w3", "ps")}
    assert ("w2", "ps") not in {(link["source"], link["target"]) for link in found["links"]}, "a pair's model goes once"

    # Nearly no training: the models change by averaging only.
    begin(three, 2, SECOND, wanted={"learning_rate": 1e-12})
    again = done(three, 2)
    assert close(own(three.workers[1], 2), models[1]), "it began where it had ended, not at the mean of all"
    assert close(own(three.workers[0], 2), mean([models[0], models[2]]))
    assert again["consensus_distance"] < found["consensus_distance"]
    assert not [report["decisions"] for report in again["received"] if report["decisions"]]


def test_a_worker_without_a_model_of_its_own_begins_from_the_mean_and_says_so(three: Federation) -> None:
    begin(three, 1, FIRST)
    done(three, 1)
    base = global_model(three)
    (three.workers[1].root / f"model/{TRAINING}/own-1.safetensors").unlink()
    begin(three, 2, SECOND, wanted={"learning_rate": 1e-12})
    found = done(three, 2)
    assert close(own(three.workers[1], 2), base)
    told = {report["node_id"]: [decision["action"] for decision in report["decisions"]] for report in found["received"]}
    assert told == {"w1": [], "w2": ["start_from_mean"], "w3": []}


def test_a_round_whose_pair_breaks_is_a_plain_average_from_which_all_go_on(three: Federation) -> None:
    gone = LiveAgent("w2", three.workers[1].root, Peer(node_id="w2", url="http://agent", uds="/nowhere.sock"), None)  # type: ignore[arg-type]
    broken = Federation(three.aggregator, [three.workers[0], gone, three.workers[2]], three.base)
    begin(broken, 1, FIRST)
    for worker in (three.workers[0], three.workers[2]):
        broken.trained(worker)
    drop(broken, "w2")
    found = done(broken, 1)
    assert "w2" in found["fallback"]
    assert (sorted(found["accepted"]), found["consensus_distance"]) == (["w1", "w3"], None)
    for worker in three.workers:
        assert not list(worker.root.glob("model/*/own-*")), "nobody goes on from a mean that the others do not have"


def test_only_the_last_two_models_of_its_own_stay(three: Federation) -> None:
    for number, groups in enumerate((FIRST, SECOND, FIRST), start=1):
        begin(three, number, groups)
        done(three, number)
    names = sorted(path.name for path in three.workers[0].root.glob(f"model/{TRAINING}/own-*"))
    assert names == ["own-2.safetensors", "own-3.safetensors"]
