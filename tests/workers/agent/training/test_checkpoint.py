"""A round that resumes from its last checkpoint ends with the undisturbed result."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workers.agent.agents import TRAINING, Federation
from tests.workers.agent.jobs import job
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import samples, spec
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import Autonomy
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors
from workers.agent.training.checkpoint import Checkpoint
from workers.agent.training.local_epochs import Trained, train


class _Killed(BaseException):
    """Like SIGKILL: nothing in the agent catches it."""


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    save_tiny_bert(tmp_path / "models/tiny")
    return SandboxRoot(tmp_path)


def trained(root: SandboxRoot, checkpoint: Checkpoint | None, until: float = 2.0, **fields: Any) -> tuple[Network, Trained]:
    """Train three local epochs. The agent dies when the share `until` of them is done."""
    network = build(spec("/models/tiny"), root)
    rows = samples(40), samples(12, 1000)
    shard = EncodedShard(*(network.encoded([row["text"] for row in part], [row["sentiment"] for row in part]) for part in rows))
    wanted = {"batch_size": 4, "learning_rate": 0.01, "optimizer": "adam", "seed": 3, "local_epochs": 3, **fields}

    def progress(part: float) -> None:
        if part >= until:
            raise _Killed

    made = job(Hyperparameters(**wanted), checkpoint=checkpoint, commit=True, progress=progress)
    return network, train(network, shard, made)


@pytest.mark.parametrize("until", [0.3, 0.99])
@pytest.mark.parametrize(
    "fields", [{}, {"optimizer": "sgd", "proximal_mu": 0.1}, {"optimizer": "adamw", "weight_decay": 0.1, "keep_moments": True}]
)
def test_a_resumed_round_is_bit_by_bit_the_undisturbed_one(
    root: SandboxRoot, tmp_path: Path, until: float, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Write a checkpoint at every segment, however short the round is.
    monkeypatch.setattr("workers.agent.training.checkpoint._PAUSE", 0.0)
    whole, expected = trained(root, None, **fields)
    with pytest.raises(_Killed):
        trained(root, Checkpoint(tmp_path / "c", "key"), until, **fields)
    again, found = trained(root, Checkpoint(tmp_path / "c", "key"), **fields)
    assert [decision.action for decision in found.decisions] == ["resume_round"]
    states = [tensors.state_digest(tensors.state_of(network.model)) for network in (whole, again)]
    assert states[0] == states[1]
    assert (found.loss, found.accuracy, found.commitment) == (expected.loss, expected.accuracy, expected.commitment)
    assert (
        torch.allclose(*(next(iter(one["state"].values()))["exp_avg"] for one in (found.moments, expected.moments)))
        if (found.moments and expected.moments)
        else found.moments is None
    )


def test_a_checkpoint_of_another_round_or_a_broken_one_is_not_used(root: SandboxRoot, tmp_path: Path) -> None:
    with pytest.raises(_Killed):
        trained(root, Checkpoint(tmp_path / "c", "key"), 0.5)
    assert trained(root, Checkpoint(tmp_path / "c", "other"))[1].decisions == []
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-100])
    assert trained(root, Checkpoint(tmp_path / "c", "key"))[1].decisions == []


@pytest.mark.parametrize(("level", "kept"), [(0.29, False), (0.3, True)])
def test_only_from_0_3_a_round_leaves_a_checkpoint(two: Federation, level: float, kept: bool) -> None:
    worker = two.workers[0]
    two.train(worker, autonomy=Autonomy(enabled=True, level=level), wanted={"local_epochs": 1000})
    while two.trained_so_far(worker)["progress"] < 0.01:
        pass
    worker.call("POST", f"/trainings/{TRAINING}/stop")
    assert two.trained(worker)["state"] == "stopped"
    assert (worker.root / "model" / TRAINING / "round.checkpoint").exists() is kept
