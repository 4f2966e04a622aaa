"""How workers' updates become the next global model: the strategies' names, their parameters and what each needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Literal

from api.domain.errors import FieldError, InvalidError

Strategy = Literal[
    "fedavg", "fedavgm", "fedprox", "fedadam", "fedyogi", "fedadagrad", "diloco",
    "median", "trimmed_mean", "krum", "multi_krum", "bulyan",
]  # fmt: skip
Parameters = Mapping[str, float | int]


@dataclass(frozen=True, slots=True)
class _Facts:
    """`least` gives the fewest updates that the strategy can combine; `single` strategies look at every update by itself."""

    defaults: Parameters = field(default_factory=dict)
    least: Callable[[Parameters], int] = lambda _: 1
    single: bool = False


_ADAPTIVE: Final[Parameters] = {
    "server_learning_rate": 0.01,
    "server_beta_1": 0.9,
    "server_beta_2": 0.99,
    "server_tau": 0.001,
}
_FACTS: Final[Mapping[str, _Facts]] = {
    "fedavg": _Facts(),
    "fedavgm": _Facts({"server_learning_rate": 1.0, "server_momentum": 0.9}),
    "fedprox": _Facts({"proximal_mu": 0.01}),
    "fedadam": _Facts(_ADAPTIVE),
    "fedyogi": _Facts(_ADAPTIVE),
    "fedadagrad": _Facts({"server_learning_rate": 0.01, "server_beta_1": 0.0, "server_tau": 0.001}),
    "median": _Facts(least=lambda _: 3, single=True),
    "trimmed_mean": _Facts({"trim_fraction": 0.25}, lambda given: max(3, ceil(1 / given["trim_fraction"])), single=True),
    "krum": _Facts({"byzantine_count": 1}, lambda given: 2 * int(given["byzantine_count"]) + 3, single=True),
    "multi_krum": _Facts({"byzantine_count": 1}, lambda given: 2 * int(given["byzantine_count"]) + 3, single=True),
    "bulyan": _Facts({"byzantine_count": 1}, lambda given: 4 * int(given["byzantine_count"]) + 3, single=True),
    "diloco": _Facts({"server_learning_rate": 0.7, "server_momentum": 0.9}),
}
PARAMETERS: Final = tuple(sorted({name for facts in _FACTS.values() for name in facts.defaults}))


def parameters(strategy: Strategy, given: Parameters) -> dict[str, float | int]:
    """The strategy's parameters: what was given, else its defaults. InvalidError for one that is not the strategy's."""
    defaults = _FACTS[strategy].defaults
    foreign = sorted(given.keys() - defaults.keys())
    if foreign:
        known = f"its parameters are {', '.join(sorted(defaults))}" if defaults else "it has none"
        message = f"is no parameter of the strategy {strategy!r}; {known}"
        errors = tuple(FieldError(f"/{name}", f"{name} {message}") for name in foreign)
        raise InvalidError("parameter_of_another_strategy", errors[0].message, errors=errors)
    return {**defaults, **given}


def least_updates(strategy: str, given: Parameters) -> int:
    """The fewest updates of which the strategy makes a model."""
    return _FACTS[strategy].least({**_FACTS[strategy].defaults, **given})


def needs_single_updates(strategy: str) -> bool:
    """Whether the strategy must see each update by itself, so that no mean on the way will do."""
    return _FACTS[strategy].single
