"""The strategies that combine the workers' updates: names, parameters and needs.

The agent implements them (`workers/agent/strategies`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Annotated, Final, Literal

from api.domain.errors import FieldError, InvalidError
from api.domain.words import Words

Strategy = Annotated[
    Literal[
        "fedavg", "fedavgm", "fedprox", "fedadam", "fedyogi", "fedadagrad", "diloco",
        "median", "trimmed_mean", "krum", "multi_krum", "bulyan",
    ],
    Words("Strategy", "How updates become the next global model."),
]  # fmt: skip
Parameters = Mapping[str, float | int]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known about one strategy.

    `defaults` are its parameters with their defaults. `least_updates` computes from the parameters
    the fewest updates that it can combine. `needs_single_updates` is True for a strategy that
    compares the updates with each other.
    """

    defaults: Parameters = field(default_factory=dict)
    least_updates: Callable[[Parameters], int] = lambda _: 1
    needs_single_updates: bool = False


def _fewest_of_krum(given: Parameters) -> int:
    return 2 * int(given["byzantine_count"]) + 3


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
    "median": _Facts({}, lambda _: 3, needs_single_updates=True),
    "trimmed_mean": _Facts(
        {"trim_fraction": 0.25}, lambda given: max(3, ceil(1 / given["trim_fraction"])), needs_single_updates=True
    ),
    "krum": _Facts({"byzantine_count": 1}, _fewest_of_krum, needs_single_updates=True),
    "multi_krum": _Facts({"byzantine_count": 1}, _fewest_of_krum, needs_single_updates=True),
    "bulyan": _Facts({"byzantine_count": 1}, lambda given: 4 * int(given["byzantine_count"]) + 3, needs_single_updates=True),
    "diloco": _Facts({"server_learning_rate": 0.7, "server_momentum": 0.9}),
}
PARAMETERS: Final = tuple(sorted({name for facts in _FACTS.values() for name in facts.defaults}))


def parameters(strategy: Strategy, given: Parameters) -> dict[str, float | int]:
    """Return the strategy's parameters: the given ones, and the defaults of the others.

    Raises:
        InvalidError: `parameter_of_another_strategy`, if `given` has a foreign parameter.
    """
    defaults = _FACTS[strategy].defaults
    foreign = sorted(given.keys() - defaults.keys())
    if foreign:
        known = f"its parameters are {', '.join(sorted(defaults))}" if defaults else "it has none"
        message = f"is no parameter of the strategy {strategy!r}; {known}"
        errors = tuple(FieldError(f"/{name}", f"{name} {message}") for name in foreign)
        raise InvalidError("parameter_of_another_strategy", errors[0].message, errors=errors)
    return {**defaults, **given}


def least_updates(strategy: str, given: Parameters) -> int:
    """Return the fewest updates that the strategy can combine into a model."""
    return _FACTS[strategy].least_updates({**_FACTS[strategy].defaults, **given})


def needs_single_updates(strategy: str) -> bool:
    """Return whether the strategy must see each single update.

    A mean of several updates, as in a hierarchy, is then not enough.
    """
    return _FACTS[strategy].needs_single_updates
