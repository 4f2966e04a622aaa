"""Private steps.

Without noise they equal plain gradient descent. The noise has the right size and is unpredictable.
"""

import copy
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.agent.jobs import job
from tests.workers.agent.texts import LABELS, samples
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.network import Network, build
from workers.agent.privacy.ledger import record_steps
from workers.agent.privacy.secret_random import SecretRandom
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import DpSgdSpec, Hyperparameters
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors
from workers.agent.training.local_epochs import train

_COUNT = 12


@pytest.fixture
def network(tmp_path: Path) -> Network:
    built = build(ModelSpec(architecture="cnn", model="base", labels=LABELS, max_length=16, seed=7), SandboxRoot(tmp_path))
    built.model.dropout.p = 0.0  # type: ignore[union-attr]
    return built


def shard(network: Network, count: int = _COUNT) -> EncodedShard:
    rows = samples(count)
    data = network.encoded([row["text"] for row in rows], [row["sentiment"] for row in rows])
    return EncodedShard(data, data.first(0))


def wanted(**fields: float) -> Hyperparameters:
    plan = {"samples": _COUNT, "sampling_rate": 1.0, "noise_multiplier": 0.0, "max_grad_norm": 1e6, "steps": 1, **fields}
    return Hyperparameters(batch_size=4, learning_rate=1.0, optimizer="sgd", privacy=DpSgdSpec.model_validate(plan))


def moved(network: Network, before: tensors.State) -> torch.Tensor:
    after = tensors.state_of(network.model)
    return torch.cat([(after[name] - before[name]).flatten() for name in sorted(before)])


def snapshot(network: Network) -> tensors.State:
    return {name: tensor.clone() for name, tensor in tensors.state_of(network.model).items()}


def test_without_noise_or_clipping_a_full_sample_is_plain_gradient_descent(network: Network) -> None:
    plain = copy.deepcopy(network.model)
    network = Network(network.spec, network.model, network.encode, network.pad_id, None)  # no token dropout, no smoothing
    data = shard(network)
    ids, mask = data.training.batch(np.arange(_COUNT))
    loss = torch.nn.functional.cross_entropy(
        plain(input_ids=ids, attention_mask=mask).logits, data.training.targets(np.arange(_COUNT))
    )
    loss.backward()
    train(network, data, job(wanted()))
    own = dict(network.model.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(own[name], parameter.detach() - parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_noise_is_the_norm_times_its_multiplier_over_the_batch_that_is_expected(network: Network) -> None:
    before = snapshot(network)
    train(network, shard(network), job(wanted(sampling_rate=0.5, noise_multiplier=2.0, max_grad_norm=0.1, steps=3)))
    expected = sqrt(3) * 2.0 * 0.1 / (0.5 * _COUNT)
    # Twelve gradients with a norm of at most 0.1 hardly change a million numbers.
    assert float(moved(network, before).std()) == pytest.approx(expected, rel=0.01)


def test_the_seed_that_everybody_knows_foretells_nothing(network: Network) -> None:
    before = snapshot(network)
    found = []
    for _ in range(2):
        tensors.load_into(network.model, before)
        train(network, shard(network), job(wanted(noise_multiplier=1.0, max_grad_norm=1.0)))
        found.append(moved(network, before))
    assert abs(float(torch.corrcoef(torch.stack(found))[0, 1])) < 0.01


def test_every_record_joins_a_step_by_itself() -> None:
    secret = SecretRandom()
    drawn = np.zeros((4000, 50), bool)
    for row in drawn:
        row[secret.sample(50, 0.1)] = True
    sizes = drawn.sum(1)
    assert sizes.mean() == pytest.approx(5, abs=0.15)
    assert sizes.var() == pytest.approx(50 * 0.1 * 0.9, rel=0.15)
    assert (sizes == 0).any(), "a step without any record is one too"
    assert drawn.mean(0) == pytest.approx(0.1, abs=0.03)


def test_neither_figures_nor_decisions_come_of_private_records(network: Network) -> None:
    found = train(network, shard(network), job(wanted(noise_multiplier=1.0, max_grad_norm=1.0, steps=4)))
    assert (np.isnan(found.loss), np.isnan(found.accuracy), found.decisions, found.commitment) == (True, True, [], None)


def test_a_shard_that_was_not_planned_for_is_not_trained_on(network: Network) -> None:
    before = snapshot(network)
    with pytest.raises(AgentError, match="shard_changed"):
        train(network, shard(network, _COUNT + 1), job(wanted()))
    assert not moved(network, before).any()


def test_private_steps_learn_where_the_noise_is_small(network: Network) -> None:
    data = shard(network)
    hyperparameters = wanted(noise_multiplier=0.05, max_grad_norm=1.0, steps=25).model_copy(
        update={"optimizer": "adam", "learning_rate": 0.01}
    )
    train(network, data, job(hyperparameters))
    with torch.no_grad():
        logits = network.logits(*data.training.batch(np.arange(_COUNT)))
    assert float((logits.argmax(1) == data.training.targets(np.arange(_COUNT))).float().mean()) == 1.0


def test_the_ledger_adds_up_what_a_round_has_spent(tmp_path: Path) -> None:
    assert [record_steps(tmp_path / "t", 1, 10), record_steps(tmp_path / "t", 2, 10), record_steps(tmp_path / "t", 1, 10)] == [
        10,
        10,
        20,
    ]
