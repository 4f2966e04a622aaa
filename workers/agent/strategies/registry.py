"""The table of strategies by name.

A strategy combines the updates of a round. Some strategies also have a server step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from workers.agent.protocol.aggregation import StrategySpec
from workers.agent.runtime.errors import AgentError
from workers.agent.storage.tensors import State
from workers.agent.strategies import fedadagrad, fedadam, fedyogi
from workers.agent.strategies.adaptive import AdaptiveOptimizer, SecondMoment
from workers.agent.strategies.bulyan import bulyan
from workers.agent.strategies.diloco import OuterNesterov
from workers.agent.strategies.fedavgm import ServerMomentum
from workers.agent.strategies.krum import krum
from workers.agent.strategies.median import median
from workers.agent.strategies.multi_krum import multi_krum
from workers.agent.strategies.trimmed_mean import trimmed_mean

CombineRule = Callable[[Sequence[Mapping[str, torch.Tensor]]], State]


class ServerOptimizer(Protocol):
    """A step of the server from the global model towards the combined model."""

    def step(
        self, base: Mapping[str, torch.Tensor], mean: Mapping[str, torch.Tensor], optimizer_state: Mapping[str, torch.Tensor]
    ) -> tuple[State, State]:
        """Return the next global model and the next optimizer state.

        `base` is the round's base, `mean` the combined model, `optimizer_state` the last optimizer
        state.
        """


@dataclass(frozen=True, slots=True)
class Strategy:
    """How to build the next global model.

    `rule` combines the updates and needs all of them at once. None means the weighted mean, which
    adds one update after another. `server` is the step from the base towards the combined model.
    None means that the combined model is the next global model.
    """

    rule: CombineRule | None = None
    server: ServerOptimizer | None = None


def build_strategy(spec: StrategySpec) -> Strategy:
    """Return the strategy that `spec` names.

    Raises:
        AgentError: `strategy_unavailable` for an unknown name, `invalid_message` without a
        parameter.
    """
    build = _TABLE.get(spec.name)
    if build is None:
        raise AgentError("strategy_unavailable", f"there is no such strategy; the strategies are {', '.join(sorted(_TABLE))}")
    return build(spec)


def _adaptive(second: SecondMoment, spec: StrategySpec) -> Strategy:
    beta_2 = spec.server_beta_2 if spec.server_beta_2 is not None else 0.0
    rate, beta_1, tau = _require(spec.server_learning_rate), _require(spec.server_beta_1), _require(spec.server_tau)
    return Strategy(server=AdaptiveOptimizer(second, rate, beta_1, beta_2, tau))


def _require(value: float | None) -> float:
    if value is None:
        raise AgentError("invalid_message", "the strategy lacks one of its parameters")
    return value


def _byzantine(rule: Callable[[Sequence[Mapping[str, torch.Tensor]], int], State], spec: StrategySpec) -> Strategy:
    count = int(_require(spec.byzantine_count))
    return Strategy(rule=lambda updates: rule(updates, count))


_TABLE: dict[str, Callable[[StrategySpec], Strategy]] = {
    "fedavg": lambda _: Strategy(),
    "fedprox": lambda _: Strategy(),
    "fedavgm": lambda spec: Strategy(
        server=ServerMomentum(_require(spec.server_learning_rate), _require(spec.server_momentum))
    ),
    "diloco": lambda spec: Strategy(server=OuterNesterov(_require(spec.server_learning_rate), _require(spec.server_momentum))),
    "fedadam": partial(_adaptive, fedadam.second_moment),
    "fedyogi": partial(_adaptive, fedyogi.second_moment),
    "fedadagrad": partial(_adaptive, fedadagrad.second_moment),
    "median": lambda _: Strategy(rule=median),
    "trimmed_mean": lambda spec: Strategy(rule=partial(trimmed_mean, fraction=_require(spec.trim_fraction))),
    "krum": partial(_byzantine, krum),
    "multi_krum": partial(_byzantine, multi_krum),
    "bulyan": partial(_byzantine, bulyan),
}
STRATEGIES = frozenset(_TABLE)
