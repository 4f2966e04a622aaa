from pathlib import Path

import pytest
import torch

from tests.workers.agent.jobs import job
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling import precision
from workers.agent.modeling.network import build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.training.local_epochs import Trained, train

TEXTS = [f"the lamp is {word}" for word in ("great", "awful")] * 8
LABELS = ["positive", "negative"] * 8


def trained(tmp_path: Path, *, mixed: bool) -> tuple[torch.Tensor, Trained]:
    network = build(ModelSpec(architecture="transformer", model="base", labels=["negative", "positive"]), SandboxRoot(tmp_path))
    data = network.encoded(TEXTS, LABELS)
    wanted = Hyperparameters(batch_size=4, learning_rate=1e-3, optimizer="adam", mixed_precision=mixed)
    outcome = train(network, EncodedShard(data, data), job(wanted))
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.model.parameters()]), outcome


def test_bf16_is_used_where_the_hardware_has_it_and_refused_in_words_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = trained(tmp_path, mixed=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    mixed, outcome = trained(tmp_path, mixed=True)
    assert mixed.dtype == torch.float32
    assert not torch.equal(plain, mixed)
    torch.testing.assert_close(plain, mixed, atol=0.02, rtol=0.0)
    assert outcome.decisions == []
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    ignored, outcome = trained(tmp_path, mixed=True)
    assert torch.equal(plain, ignored)
    assert [decision.action for decision in outcome.decisions] == ["ignore_mixed_precision"]


@pytest.mark.parametrize(
    ("features", "has"), [({"amx_bf16": True}, True), ({"bf16": True}, True), ({"avx512_f": True}, False), ({}, False)]
)
def test_what_counts_as_bf16(features: dict[str, object], has: bool) -> None:
    assert precision.has_bf16("cpu", features) is has
