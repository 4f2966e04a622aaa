"""Each strategy, compared with values computed by hand and with its paper's formulas.

The formulas are in reference.py. They are applied to random updates.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from api.domain import strategies
from tests.workers.agent.strategies import reference
from workers.agent.protocol.aggregation import StrategySpec
from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.strategies.fedprox import ProximalTerm
from workers.agent.strategies.registry import STRATEGIES, ServerOptimizer, build_strategy

SHAPES = {"a": (7, 5), "b": (11,), "c": (2, 3, 4)}


def spec(name: strategies.Strategy, **given: float) -> StrategySpec:
    wanted = strategies.parameters(name, given)
    return StrategySpec.model_validate({"name": name, **{key: value for key, value in wanted.items() if key != "proximal_mu"}})


def combined(name: strategies.Strategy, updates: Sequence[Mapping[str, torch.Tensor]], **given: float) -> tensors.State:
    rule = build_strategy(spec(name, **given)).rule
    assert rule is not None
    return rule(updates)


def server(name: strategies.Strategy, **given: float) -> ServerOptimizer:
    found = build_strategy(spec(name, **given)).server
    assert found is not None
    return found


def columns(*rows: Sequence[float]) -> list[tensors.State]:
    return [{"w": torch.tensor(list(row))} for row in rows]


def drawn(seed: int, scale: float = 1.0) -> tensors.State:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def flat(state: Mapping[str, torch.Tensor]) -> reference.Vector:
    result: reference.Vector = np.concatenate([state[name].double().numpy().ravel() for name in SHAPES])
    return result


def stacked(updates: Sequence[Mapping[str, torch.Tensor]]) -> reference.Vector:
    return np.stack([flat(update) for update in updates])


def test_every_strategy_of_the_contract_is_built_and_no_other() -> None:
    assert set(strategies._FACTS) == STRATEGIES
    for name in strategies._FACTS:
        found = build_strategy(spec(name))  # type: ignore[arg-type]
        assert (found.rule is not None) == strategies.needs_single_updates(name)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(AgentError, match="no such strategy"):
        build_strategy(StrategySpec(name="wisdom"))


@pytest.mark.parametrize(
    ("name", "given", "rows", "expected"),
    [
        ("median", {}, [[1.0], [9.0], [2.0]], [2.0]),
        ("median", {}, [[1.0, 0.0], [2.0, 10.0], [4.0, 20.0], [100.0, -5.0]], [3.0, 5.0]),
        ("trimmed_mean", {"trim_fraction": 0.25}, [[-50.0], [1.0], [3.0], [1000.0]], [2.0]),
        # f = 1 of 5. The scores are sums over the 2 nearest:
        # 2: 1+4, 3: 1+1, 4: 1+4, 10: 36+49, -20: 484+529.
        ("krum", {"byzantine_count": 1}, [[2.0], [3.0], [4.0], [10.0], [-20.0]], [3.0]),
        # The n - f - 2 = 2 best updates are 3 and the first with the next score: 2.
        ("multi_krum", {"byzantine_count": 1}, [[2.0], [3.0], [4.0], [10.0], [-20.0]], [2.5]),
        # f = 1 of 7. Krum drops 2 of 7, which are both outliers.
        # Of 1..5, the 3 values nearest to the median 3 count.
        ("bulyan", {"byzantine_count": 1}, [[1.0], [2.0], [3.0], [4.0], [5.0], [99.0], [-99.0]], [3.0]),
    ],
)
def test_a_rule_gives_what_a_pencil_gives(
    name: strategies.Strategy, given: dict[str, float], rows: list[list[float]], expected: list[float]
) -> None:
    assert combined(name, columns(*rows), **given)["w"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "given", "first", "second"),
    [
        # The base is 1, and the mean of round one is 3.
        # In round two, the mean is 2 above the model again.
        # v = -2, then -3.8 with momentum 0.9: x = 1 + 2 = 3, then 3 + 3.8.
        ("fedavgm", {}, 3.0, 6.8),
        # D = -2. First v = -2, x = 1 + 0.5 (2 + 0.9 * 2) = 2.9.
        # Then v = -3.8, x = 2.9 + 0.5 (2 + 0.9 * 3.8).
        ("diloco", {"server_learning_rate": 0.5}, 2.9, 5.61),
        # b1 = b2 = 0.5, tau = 1. First m = 1, v = 0.5 + 2, x = 1 + 1 / (sqrt(2.5) + 1).
        # Then m = 1.5, v = 1.25 + 2.
        (
            "fedadam",
            {"server_learning_rate": 1.0, "server_beta_1": 0.5, "server_beta_2": 0.5, "server_tau": 1.0},
            1 + 1 / (2.5**0.5 + 1),
            1 + 1 / (2.5**0.5 + 1) + 1.5 / (3.25**0.5 + 1),
        ),
        # v = 1 - 0.5 * 4 * sign(1 - 4) = 3; then 3 - 2 * sign(3 - 4) = 5.
        (
            "fedyogi",
            {"server_learning_rate": 1.0, "server_beta_1": 0.5, "server_beta_2": 0.5, "server_tau": 1.0},
            1 + 1 / (3**0.5 + 1),
            1 + 1 / (3**0.5 + 1) + 1.5 / (5**0.5 + 1),
        ),
        # b1 = 0: m = D = 2; v = 1 + 4 = 5, then 9.
        ("fedadagrad", {"server_learning_rate": 1.0, "server_tau": 1.0}, 1 + 2 / (5**0.5 + 1), 1 + 2 / (5**0.5 + 1) + 2 / 4),
    ],
)
def test_a_server_step_gives_what_a_pencil_gives(
    name: strategies.Strategy, given: dict[str, float], first: float, second: float
) -> None:
    optimizer = server(name, **given)
    base = {"w": torch.tensor([1.0])}
    model, memory = optimizer.step(base, {"w": torch.tensor([3.0])}, {})
    assert model["w"].item() == pytest.approx(first)
    model, _ = optimizer.step(model, {"w": model["w"] + 2}, memory)
    assert model["w"].item() == pytest.approx(second)


@pytest.mark.parametrize("seed", range(5))
def test_rules_agree_with_their_papers_on_random_updates(seed: int) -> None:
    updates = [drawn(100 * seed + i, 1 + i / 3) for i in range(11)]
    table = stacked(updates)
    assert np.abs(flat(combined("median", updates)) - reference.median(table)).max() < 1e-5
    assert np.abs(flat(combined("median", updates[:6])) - reference.median(table[:6])).max() < 1e-5
    for fraction in (0.1, 0.25, 0.4):
        found = flat(combined("trimmed_mean", updates, trim_fraction=fraction))
        assert np.abs(found - reference.trimmed_mean(table, fraction)).max() < 1e-5
    for f in (1, 2):
        best = reference.krum_order(table, f)[0]
        assert np.abs(flat(combined("krum", updates, byzantine_count=f)) - table[best]).max() < 1e-5
        assert np.abs(flat(combined("multi_krum", updates, byzantine_count=f)) - reference.multi_krum(table, f)).max() < 1e-5
        assert np.abs(flat(combined("bulyan", updates, byzantine_count=f)) - reference.bulyan(table, f)).max() < 1e-5


@pytest.mark.parametrize("seed", range(5))
def test_server_steps_agree_with_their_papers_over_three_rounds(seed: int) -> None:
    base, moves = drawn(seed), [drawn(1000 * seed + i, 0.1) for i in range(3)]
    displacements = [flat(move) for move in moves]
    start = flat(base)
    expected = {
        "fedavgm": reference.fedavgm(start, displacements, 1.0, 0.9),
        "diloco": reference.nesterov(start, displacements, 0.7, 0.9),
        "fedadam": reference.adaptive("fedadam", start, displacements, reference.AdaptiveSettings(0.01, 0.9, 0.99, 0.001)),
        "fedyogi": reference.adaptive("fedyogi", start, displacements, reference.AdaptiveSettings(0.01, 0.9, 0.99, 0.001)),
        "fedadagrad": reference.adaptive("fedadagrad", start, displacements, reference.AdaptiveSettings(0.01, 0.0, 0.0, 0.001)),
    }
    for name, wanted in expected.items():
        model, memory = base, tensors.State()
        for move in moves:
            mean = {key: model[key] + move[key] for key in model}
            model, memory = server(name).step(model, mean, memory)  # type: ignore[arg-type]
        assert np.abs(flat(model) - wanted).max() < 1e-5, name


def test_the_mean_is_weighted_by_samples_whatever_the_order() -> None:
    updates, samples = [drawn(i) for i in range(5)], [1, 20, 300, 4000, 50000]
    forward, backward = FedAvg(), FedAvg()
    for i in range(5):
        forward.add(updates[i], samples[i])
        backward.add(updates[4 - i], samples[4 - i])
    wanted = reference.fedavg(stacked(updates), np.array(samples, float))
    assert np.abs(flat(forward.result()) - wanted).max() < 1e-5
    assert np.abs(flat(forward.result()) - flat(backward.result())).max() < 1e-6


def test_the_proximal_term_adds_mu_times_the_way_gone() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    proximal = ProximalTerm(model, mu=0.5)
    with torch.no_grad():
        model.weight.fill_(4.0)
    model(torch.tensor([[2.0]])).sum().backward()
    proximal.add_to_gradients()
    # d(2 w)/dw = 2, and 0.5 (4 - 1).
    assert model.weight.grad is not None
    assert model.weight.grad.item() == pytest.approx(3.5)


def test_rules_read_updates_from_disk_tensor_by_tensor(tmp_path: Path) -> None:
    updates = [drawn(i) for i in range(5)]
    files = []
    for index, update in enumerate(updates):
        tensors.write(tmp_path / f"{index}", update)
        files.append(tensors.LazyState(tmp_path / f"{index}"))
    for name in ("median", "krum", "multi_krum"):
        assert np.array_equal(flat(combined(name, files)), flat(combined(name, updates)))


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum", "multi_krum", "bulyan"])
def test_one_poisoned_update_of_seven_hardly_moves_a_robust_strategy(name: strategies.Strategy) -> None:
    centre = drawn(7)
    honest = [{key: centre[key] + 0.01 * noise[key] for key in centre} for noise in (drawn(i) for i in range(6))]
    poisoned = {key: -100 * value for key, value in centre.items()}
    assert np.abs(flat(combined(name, [*honest, poisoned])) - flat(centre)).max() < 0.05
