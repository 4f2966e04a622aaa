"""Strategies in real rounds, between real agents."""

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.workers.agent.agents import PATIENCE_S, TRAINING, Federation, federation, global_model, update
from workers.agent.protocol.aggregation import StrategySpec
from workers.agent.storage import tensors

MOMENTUM = StrategySpec(name="fedavgm", server_learning_rate=1.0, server_momentum=0.9)


@pytest.fixture
def agents() -> Iterator[Federation]:
    with federation(3) as found:
        yield found


def moved(agents: Federation, states: list[dict[str, torch.Tensor]], strategy: StrategySpec) -> dict[str, Any]:
    """Run a round with the given updates, without training."""
    agents.collect(1, strategy=strategy)
    for worker, state in zip(agents.workers, states, strict=True):
        assert agents.push(worker.node_id, update(agents, worker.node_id, state))["accepted"]
    return agents.aggregated(1)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_a_robust_strategy_bears_with_an_update_that_passes_the_door(agents: Federation, name: str) -> None:
    base = global_model(agents)
    honest = [{key: value + step for key, value in base.items()} for step in (0.01, 0.02)]
    flipped = {key: value - 0.5 for key, value in base.items()}
    found = moved(agents, [*honest, flipped], StrategySpec(name=name, trim_fraction=0.34))
    assert found["state"] == "done", found["problem"]
    expected = {key: value + 0.01 for key, value in base.items()}
    assert apart(global_model(agents, found["digest"]), expected) < 1e-5


def test_too_few_updates_for_a_strategy_fail_the_round_in_words(agents: Federation) -> None:
    agents.collect(1, strategy=StrategySpec(name="median"), quorum=3, deadline_s=1)
    assert agents.push("w1", update(agents, "w1", global_model(agents)))["accepted"]
    found = agents.aggregated(1)
    assert (found["state"], found["problem"]["code"], found["late"]) == ("failed", "quorum_not_met", ["w2", "w3"])


def test_the_server_optimisers_state_lies_beside_the_model_and_its_loss_is_told(agents: Federation) -> None:
    base = agents.base
    folder = agents.aggregator.root / "model" / TRAINING
    for number in (1, 2):
        assert agents.round(number, strategy=MOMENTUM)["notices"] == []
        assert (folder / f"{agents.base}.server.safetensors").is_file()
    assert not (folder / f"{base}.server.safetensors").exists()
    kept = global_model(agents)
    (folder / f"{agents.base}.server.safetensors").unlink()
    found = agents.round(3, strategy=MOMENTUM)
    assert ["it starts again" in notice for notice in found["notices"]] == [True]
    assert apart(global_model(agents), kept) > 0


def test_momentum_moves_the_model_further_than_the_mean_does(agents: Federation) -> None:
    base = global_model(agents)
    states = [{key: value + 0.01 for key, value in base.items()}] * 3
    first = moved(agents, states, MOMENTUM)
    assert apart(global_model(agents, first["digest"]), states[0]) < 1e-6
    agents.base = first["digest"]
    agents.collect(2, strategy=MOMENTUM)
    again = [{key: value + 0.02 for key, value in base.items()}] * 3
    for worker, state in zip(agents.workers, again, strict=True):
        agents.push(worker.node_id, update(agents, worker.node_id, state, number=2), 2)
    # v = 0.01, then 0.9 * 0.01 + 0.01: the model is at 0.01 + 0.019.
    expected = {key: value + 0.029 for key, value in base.items()}
    assert apart(global_model(agents, agents.aggregated(2)["digest"]), expected) < 1e-5


def test_a_proximal_term_keeps_a_client_near_the_global_model(agents: Federation) -> None:
    def way(number: int, mu: float) -> float:
        agents.collect(number)
        agents.train(agents.workers[0], number, wanted={"proximal_mu": mu, "local_epochs": 6, "optimizer": "sgd"})
        assert agents.trained(agents.workers[0], number)["state"] == "done"
        local = agents.workers[0].root / "model" / TRAINING / "local.safetensors"
        base, state = global_model(agents), tensors.read(local)
        return math.sqrt(sum(float((state[key] - base[key]).square().sum()) for key in base))

    assert way(2, 50.0) < 0.5 * way(1, 0.0)


def test_dilocos_inner_moments_go_on_from_round_to_round(agents: Federation) -> None:
    """AdamW keeps its moments, so the first step of round 2 differs from a fresh start."""

    def second(training_id: str, keep: bool) -> float:
        agents.init(training_id=training_id)
        for number in (1, 2):
            wanted = {"optimizer": "adamw", "keep_moments": keep}
            agents.collect(number, training_id=training_id, workers=[agents.workers[0].peer])
            agents.train(agents.workers[0], number, training_id=training_id, wanted=wanted)
            end = time.monotonic() + PATIENCE_S
            while (found := _report(agents, training_id, number))["state"] == "collecting":
                assert time.monotonic() < end
            agents.base = found["digest"]
        return float(found["received"][0]["loss"])

    kept, fresh, again = second("kept", True), second("fresh", False), second("again", True)
    assert kept == again
    assert kept != fresh


def _report(agents: Federation, training_id: str, number: int) -> dict[str, Any]:
    where = f"/trainings/{training_id}/rounds/{number}?role=aggregator&wait=5"
    found: dict[str, Any] = agents.aggregator.call("GET", where)
    return found
