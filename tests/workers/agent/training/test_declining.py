"""Rounds that a node with autonomy 0.8 declines, and a node just below does not."""

import math
from pathlib import Path

import pytest
import torch

from tests.workers.agent.agents import Federation, global_model, problem
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import samples, spec
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.network import build
from workers.agent.protocol.common import Autonomy
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage.model_store import ModelStore
from workers.agent.training import declining

BELOW, FREE = Autonomy(enabled=True, level=0.79), Autonomy(enabled=True, level=0.8)


def declined(agents: Federation) -> str:
    """Return the first worker's reason. The round is posted twice, and the reason reported once."""
    agents.train(agents.workers[0], autonomy=FREE)
    found = agents.trained(agents.workers[0])
    assert (found["state"], problem(found)) == ("declined", "declined")
    (decision,) = found["decisions"]
    assert decision["action"] == "decline_round"
    assert agents.train(agents.workers[0], autonomy=FREE) == found
    return str(decision["reason"])


def with_base(agents: Federation, factor: float) -> None:
    state = {name: tensor * factor for name, tensor in global_model(agents).items()}
    agents.base = ModelStore(agents.aggregator.root / "model").save("train_1", state).digest


def test_samples_of_one_class_are_no_reason(two: Federation) -> None:
    rows = [row for row in samples(90) if row["sentiment"] == "neutral"]
    two.workers[0].put("/data/train_0.json", rows)
    two.train(two.workers[0], autonomy=FREE)
    assert two.trained(two.workers[0])["state"] == "done"


def test_too_few_samples_are_a_reason_from_0_8_on(two: Federation) -> None:
    two.workers[0].put("/data/train_0.json", samples(8))
    assert declined(two) == "7 usable samples are fewer than 8"
    two.train(two.workers[0], 2, autonomy=BELOW)
    assert two.trained(two.workers[0], 2)["state"] == "done"


def test_a_model_that_is_no_number_is_a_reason_from_0_8_on(two: Federation) -> None:
    with_base(two, math.nan)
    assert declined(two) == "the global model's loss on this node's held-out samples is not finite"
    two.train(two.workers[0], 2, autonomy=BELOW)
    found = two.trained(two.workers[0], 2)
    assert (found["state"], problem(found)) == ("failed", "diverged")


def test_a_model_far_worse_than_a_guess_is_a_reason_from_0_8_on(two: Federation) -> None:
    two.workers[0].put("/data/train_0.json", [{**row, "sentiment": "negative"} for row in samples(60, 500)] + samples(12))
    state = {name: tensor * 0 for name, tensor in global_model(two).items()}
    bias = next(name for name, tensor in state.items() if "classifier" in name and tensor.shape == (3,))
    state[bias] = torch.tensor([-30.0, 0.0, 0.0])
    two.base = ModelStore(two.aggregator.root / "model").save("train_1", state).digest
    assert "guessing has 1.10" in declined(two)
    two.train(two.workers[0], 2, autonomy=BELOW, wanted={"learning_rate": 1e-4})
    assert two.trained(two.workers[0], 2)["state"] == "done"


def test_too_little_disk_for_the_rounds_files_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """test_memory.py provokes too little memory."""
    save_tiny_bert(tmp_path / "models/tiny")
    network = build(spec("/models/tiny"), SandboxRoot(tmp_path))
    parts = [
        network.encoded([row["text"] for row in rows], [row["sentiment"] for row in rows])
        for rows in (samples(24), samples(6, 100))
    ]
    wanted = Hyperparameters(batch_size=8, learning_rate=0.01, optimizer="adam")
    folder = tmp_path / "model" / "not" / "there"
    assert declining.reason(network, EncodedShard(*parts), wanted, folder) is None
    monkeypatch.setattr(declining, "_FILES", 10**9)
    found = declining.reason(network, EncodedShard(*parts), wanted, folder)
    assert found is not None
    assert "MiB on disk" in found
