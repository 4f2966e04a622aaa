"""How each strategy's name becomes code. A strategy is a way to combine a round's updates and, for some, a server step."""

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
    def step(
        self, base: Mapping[str, torch.Tensor], mean: Mapping[str, torch.Tensor], memory: Mapping[str, torch.Tensor]
    ) -> tuple[State, State]:
        """(next global model, next memory), from the round's base, the clients' combined model and the last memory."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """`rule` combines updates that must all be at hand; None is the weighted mean, which streams. `server` is the step from
    the base towards the combined model; None takes the combined model as it is."""

    rule: CombineRule | None = None
    server: ServerOptimizer | None = None


def build_strategy(spec: StrategySpec) -> Strategy:
    """AgentError `strategy_unavailable` for a name that is not in the table."""
    make = _TABLE.get(spec.name)
    if make is None:
        raise AgentError("strategy_unavailable", f"there is no such strategy; built are {', '.join(sorted(_TABLE))}")
    return make(spec)


def _adaptive(second: SecondMoment, spec: StrategySpec) -> Strategy:
    beta_2 = spec.server_beta_2 if spec.server_beta_2 is not None else 0.0
    rate, beta_1, tau = _need(spec.server_learning_rate), _need(spec.server_beta_1), _need(spec.server_tau)
    return Strategy(server=AdaptiveOptimizer(second, rate, beta_1, beta_2, tau))


def _need(value: float | None) -> float:
    if value is None:
        raise AgentError("invalid_message", "the strategy lacks one of its parameters")
    return value


def _byzantine(rule: Callable[[Sequence[Mapping[str, torch.Tensor]], int], State], spec: StrategySpec) -> Strategy:
    count = int(_need(spec.byzantine_count))
    return Strategy(rule=lambda updates: rule(updates, count))


_TABLE: dict[str, Callable[[StrategySpec], Strategy]] = {
    "fedavg": lambda _: Strategy(),
    "fedprox": lambda _: Strategy(),
    "fedavgm": lambda spec: Strategy(server=ServerMomentum(_need(spec.server_learning_rate), _need(spec.server_momentum))),
    "diloco": lambda spec: Strategy(server=OuterNesterov(_need(spec.server_learning_rate), _need(spec.server_momentum))),
    "fedadam": partial(_adaptive, fedadam.second_moment),
    "fedyogi": partial(_adaptive, fedyogi.second_moment),
    "fedadagrad": partial(_adaptive, fedadagrad.second_moment),
    "median": lambda _: Strategy(rule=median),
    "trimmed_mean": lambda spec: Strategy(rule=partial(trimmed_mean, fraction=_need(spec.trim_fraction))),
    "krum": partial(_byzantine, krum),
    "multi_krum": partial(_byzantine, multi_krum),
    "bulyan": partial(_byzantine, bulyan),
}
STRATEGIES = frozenset(_TABLE)
