"""Secure sums between real agents, also when workers leave during a round.

They give the same model as plain averaging.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.workers.agent.agents import (
    MODEL,
    TRAINING,
    Federation,
    drop,
    federation,
    global_model,
    live_agent,
    plus,
    problem,
    report,
    update,
)
from tests.workers.agent.texts import samples
from workers.agent.protocol.common import Message
from workers.agent.protocol.secure_aggregation import RosterResult, ShareSecrets
from workers.agent.secure_aggregation.participant import Participant

SECURE = {"secure_aggregation": True}


@pytest.fixture
def four() -> Iterator[Federation]:
    with federation(4) as found:
        yield found


def trained(agents: Federation, **fields: Any) -> dict[str, torch.Tensor]:
    """Run one round; return its global model."""
    agents.collect(**SECURE, **fields)
    shared = {name: fields[name] for name in ("model",) if name in fields}
    for worker in agents.workers:
        agents.train(worker, **SECURE, wanted={"freeze_layers": fields.get("freeze_layers", 0)}, **shared)
    found = agents.aggregated()
    assert found["state"] == "done", found["problem"]
    return global_model(agents, found["digest"])


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize("fields", [{}, {"freeze_layers": 1}, {"model": MODEL.model_copy(update={"lora_rank": 2})}])
def test_the_model_is_that_of_plain_averaging(four: Federation, fields: dict[str, Any]) -> None:
    four.workers[0].put("/data/train_1.json", samples(40))
    four.init(**fields)
    secure = trained(four, **fields)
    for worker in four.workers:
        assert (found := report(worker, 1, "worker"))["state"] == "done", found["problem"]
    assert difference(secure, global_model(four)) > 1e-3, "something was learned"
    assert difference(secure, plain_mean(four)) < 1e-6


def plain_mean(agents: Federation) -> dict[str, torch.Tensor]:
    """Return the FedAvg mean of the models in the workers' sandboxes."""
    states = [safetensors.torch.load_file(worker.root / f"model/{TRAINING}/local.safetensors") for worker in agents.workers]
    counts = [report(worker, 1, "worker")["samples"] for worker in agents.workers]
    return {
        name: (sum(state[name].double() * count for state, count in zip(states, counts, strict=True)) / sum(counts)).float()
        for name in states[0]
    }


class Leaver:
    """A worker without an agent. It stops answering after the steps that the test calls."""

    def __init__(self, agents: Federation, node_id: str, samples: int = 22) -> None:
        self._agents = agents
        self._participant = Participant(node_id, f"{TRAINING}/1", samples)

    def _ask(self, phase: str, body: Message, wait_s: int = 20) -> dict[str, Any]:
        path = f"/trainings/{TRAINING}/rounds/1/secure/{phase}?wait={wait_s}"
        answer: dict[str, Any] = self._agents.aggregator.call("POST", path, body)
        return answer

    def give_keys(self) -> None:
        self._roster = self._ask("keys", self._participant.keys)

    def give_shares(self) -> None:
        shares = self._participant.share(RosterResult.model_validate(self._roster).members)
        self._ask("shares", ShareSecrets(node_id=self._participant.keys.node_id, shares=shares))


def test_a_worker_that_leaves_once_masks_are_agreed_is_taken_out_of_the_sum(four: Federation) -> None:
    four.collect(**SECURE)
    for worker in four.workers[:3]:
        four.train(worker, **SECURE)
    leaver = Leaver(four, "w4")
    leaver.give_keys()
    leaver.give_shares()
    drop(four, "w4")
    found = four.aggregated()
    assert (found["state"], sorted(found["accepted"])) == ("done", ["w1", "w2", "w3"]), found["problem"]
    assert found["notices"] == ["w4 left after masks were agreed; shares of the other workers removed its mask"]
    four.workers.pop()
    assert difference(global_model(four, found["digest"]), plain_mean(four)) < 1e-6


def test_below_the_threshold_the_round_fails_and_nothing_is_unmasked(four: Federation) -> None:
    four.collect(workers=[worker.peer for worker in four.workers[:3]], **SECURE)
    four.train(four.workers[0], **SECURE)
    drop(four, "w2")
    drop(four, "w3")
    found = four.aggregated()
    assert (found["state"], problem(found), found["digest"]) == ("failed", "below_threshold", None)
    assert "nothing is unmasked" in found["problem"]["message"]
    assert problem(report(four.workers[0], 1, "worker")) == "push_failed"


def test_a_new_aggregator_gets_the_same_sum_and_never_one_of_fewer(four: Federation) -> None:
    with live_agent("ps", "aggregator") as second, live_agent("ps", "aggregator") as third:
        sums = []
        for aggregator in (four.aggregator, second):
            four.aggregator = aggregator
            four.init()
            four.collect(**SECURE)
            for worker in four.workers:
                four.train(worker, **SECURE, resend=aggregator is second)
            sums.append(global_model(four, four.aggregated()["digest"]))
            # A worker reveals its shares a moment before its report is done.
            assert {four.trained(worker)["state"] for worker in four.workers} == {"done"}
        assert difference(*sums) < 1e-7
        # The sum of four minus the sum of three would be the fourth update.
        four.aggregator = third
        four.init()
        four.collect(workers=[worker.peer for worker in four.workers[:3]], **SECURE)
        for worker in four.workers[:3]:
            four.train(worker, **SECURE, resend=True)
        for worker in four.workers[:3]:
            assert problem(four.trained(worker)) == "already_unmasked"
            drop(four, worker.node_id)
        assert problem(four.aggregated()) == "below_threshold"


def test_a_round_that_is_stopped_lets_everybody_go(four: Federation) -> None:
    four.collect(**SECURE)
    four.train(four.workers[0], **SECURE)
    four.workers[0].call("POST", f"/trainings/{TRAINING}/stop")
    four.aggregator.call("POST", f"/trainings/{TRAINING}/stop")
    assert report(four.workers[0], 1, "worker")["state"] in ("stopped", "failed")
    assert four.aggregated()["state"] == "stopped"


def test_an_update_in_the_clear_is_refused_where_a_masked_one_is_waited_for(four: Federation) -> None:
    four.collect(**SECURE)
    receipt = four.push("w1", update(four, "w1", plus(four, 0.0)))
    assert (receipt["accepted"], receipt["problem"]["code"]) == (False, "not_expected")
