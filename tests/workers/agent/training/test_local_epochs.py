import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workers.agent.jobs import job
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import samples, spec
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.network import Network, build
from workers.agent.proof_of_learning.commitment import commitment_fault
from workers.agent.protocol.common import Autonomy
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors
from workers.agent.training.local_epochs import LocalTrainingTask, Trained, train

BASE = "b" * 64
TINY = spec("/models/tiny")


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    save_tiny_bert(tmp_path / "models/tiny")
    return SandboxRoot(tmp_path)


@pytest.fixture
def network(root: SandboxRoot) -> Network:
    return build(TINY, root)


def shard(network: Network, training: list[dict[str, str]], held_out: list[dict[str, str]]) -> EncodedShard:
    parts = [
        network.encoded([row["text"] for row in rows], [row["sentiment"] for row in rows]) for rows in (training, held_out)
    ]
    return EncodedShard(*parts)


def learnable(network: Network, count: int = 48) -> EncodedShard:
    return shard(network, samples(count), samples(12, 1000))


def trained(
    network: Network,
    data: EncodedShard,
    *,
    number: int = 1,
    level: float | None = None,
    commit: bool = False,
    progress: Callable[[float], None] = lambda _part: None,
    **wanted: Any,
) -> Trained:
    """`level` None is a cluster without autonomy."""
    hyperparameters = Hyperparameters(**{"batch_size": 8, "learning_rate": 0.01, "optimizer": "adam", "seed": 3, **wanted})
    autonomy = Autonomy(enabled=level is not None, level=level or 0.0)
    return train(network, data, LocalTrainingTask(number, hyperparameters, autonomy, BASE, commit, threading.Event(), progress))


def digest(network: Network) -> str:
    return tensors.state_digest(tensors.state_of(network.model))


def test_a_seed_repeats_a_round_bit_by_bit(root: SandboxRoot) -> None:
    outcomes = []
    for seed, number in ((3, 1), (3, 1), (4, 1), (3, 2)):
        network = build(TINY, root)
        found = trained(network, learnable(network), seed=seed, number=number)
        outcomes.append((found.loss, found.accuracy, digest(network)))
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes)) == 3


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.01), ("adamw", 0.01), ("rmsprop", 0.005), ("adagrad", 0.02)])
def test_adaptive_optimizers_make_the_loss_fall(network: Network, optimizer: str, rate: float) -> None:
    data = learnable(network)
    first = trained(network, data, optimizer=optimizer, learning_rate=rate)
    later = trained(network, data, optimizer=optimizer, learning_rate=rate, number=2, local_epochs=6)
    assert later.loss < 0.7 * first.loss
    assert later.accuracy > first.accuracy
    assert not network.model.training, "ready to predict again"


def test_plain_gradient_descent_makes_the_loss_fall(network: Network) -> None:
    trained(network, learnable(network), local_epochs=15)
    easy = shard(network, samples(8), samples(8, 1000))
    first = trained(network, easy, optimizer="sgd", batch_size=1)
    later = trained(network, easy, optimizer="sgd", batch_size=1, local_epochs=6)
    assert later.loss < first.loss


def test_weight_decay_shrinks_the_weights(root: SandboxRoot) -> None:
    norms = []
    for decay in (0.0, 5.0):
        network = build(TINY, root)
        trained(network, learnable(network), optimizer="adamw", weight_decay=decay, learning_rate=0.01)
        norms.append(sum(float(tensor.norm()) for tensor in tensors.state_of(network.model).values()))
    assert norms[1] < norms[0]


def test_progress_rises_to_one_over_all_local_epochs(network: Network) -> None:
    parts: list[float] = []
    trained(network, learnable(network, 24), local_epochs=2, progress=parts.append)
    assert parts == [pytest.approx(step / 6) for step in range(1, 7)]


def test_a_stop_ends_training_between_two_batches(network: Network) -> None:
    stop = threading.Event()
    seen: list[float] = []

    def progress(part: float) -> None:
        seen.append(part)
        if len(seen) == 2:
            stop.set()

    hyperparameters = Hyperparameters(batch_size=8, learning_rate=0.01, optimizer="adam", seed=3, local_epochs=1000)
    with pytest.raises(StoppedError):
        train(network, learnable(network), job(hyperparameters, stop=stop, progress=progress))
    assert len(seen) == 2
    assert not network.model.training


def test_a_round_commits_to_four_states_and_to_the_model_that_it_ends_with(network: Network) -> None:
    base = digest(network)
    found = trained(network, learnable(network), commit=True, local_epochs=2)
    assert found.commitment is not None
    assert len(found.commitment.segments) == len(found.commitment.losses) == 4
    assert found.commitment.steps == [3, 3, 3, 3]
    assert commitment_fault(found.commitment, BASE, digest(network), base) is None
    assert found.loss == pytest.approx(sum(found.commitment.losses[2:]) / 2, rel=0.05)
    assert trained(network, learnable(network)).commitment is None


def test_a_shard_of_one_batch_commits_as_well(network: Network) -> None:
    base = digest(network)
    found = trained(network, learnable(network, 6), commit=True)
    assert commitment_fault(found.commitment, BASE, digest(network), base) is None


@pytest.mark.parametrize("level", [None, 0.0, 0.59])
def test_a_node_that_may_not_halve_its_rate_fails_when_its_loss_diverges(network: Network, level: float | None) -> None:
    with pytest.raises(AgentError) as caught:
        trained(network, learnable(network), learning_rate=1e30, optimizer="sgd", level=level)
    assert caught.value.code == "diverged"
    assert "not finite" in caught.value.message


def test_from_0_6_a_diverging_loss_halves_the_rate_and_says_why(network: Network) -> None:
    found = trained(network, learnable(network), learning_rate=10, optimizer="sgd", local_epochs=3, level=0.6)
    assert found.decisions
    assert {decision.action for decision in found.decisions} == {"halve_learning_rate"}
    for number, decision in enumerate(found.decisions, start=1):
        assert "the training loss" in decision.reason
        assert decision.reason.endswith(f"trying again with {10 / 2**number:g}")
    assert found.loss < 2.2, "twice a guess among three"


def test_a_rate_that_no_halving_mends_fails_after_five(network: Network) -> None:
    with pytest.raises(AgentError) as caught:
        trained(network, learnable(network), learning_rate=1e30, optimizer="sgd", level=1.0)
    assert caught.value.code == "diverged"


def test_a_small_loss_that_wavers_is_no_divergence(network: Network) -> None:
    """The loss falls to 0.1 and rises to 0.3.

    That is more than double, and far better than a guess among three classes (1.1).
    """
    trained(network, learnable(network), local_epochs=15)
    easy = shard(network, samples(8), samples(8, 1000))
    found = trained(network, easy, local_epochs=12, learning_rate=0.005, optimizer="sgd", batch_size=1)
    assert found.loss < 1


def contradicting(network: Network) -> EncodedShard:
    """The held-out samples contradict the training samples."""
    turned = [
        {**row, "sentiment": {"positive": "negative", "negative": "positive"}.get(row["sentiment"], "neutral")}
        for row in samples(12, 1000)
    ]
    return shard(network, samples(48), turned)


def test_from_0_8_a_rising_held_out_loss_ends_local_training_and_says_why(network: Network) -> None:
    found = trained(network, contradicting(network), local_epochs=40, level=0.8)
    (decision,) = found.decisions
    assert decision.action == "stop_early"
    assert "held-out loss rose" in decision.reason
    assert "after local epoch" in decision.reason


@pytest.mark.parametrize("level", [None, 0.79])
def test_below_0_8_a_node_trains_to_the_end(network: Network, level: float | None) -> None:
    parts: list[float] = []
    found = trained(network, contradicting(network), local_epochs=6, level=level, progress=parts.append)
    assert found.decisions == []
    assert parts[-1] == 1.0


def test_two_trainings_at_once_do_not_disturb_each_other(root: SandboxRoot) -> None:
    alone = build(TINY, root)
    trained(alone, learnable(alone, 24))
    networks = [build(TINY, root) for _ in range(2)]
    threads = [threading.Thread(target=trained, args=(network, learnable(network, 24))) for network in networks]
    for thread in threads:
        thread.start()
    build(spec("/models/tiny", seed=99), root)
    for thread in threads:
        thread.join()
    assert {digest(network) for network in networks} == {digest(alone)}


def test_seconds_are_measured(network: Network) -> None:
    started = time.perf_counter()
    found = trained(network, learnable(network, 24))
    assert 0 < found.seconds <= time.perf_counter() - started
