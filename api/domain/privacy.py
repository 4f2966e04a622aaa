"""Differential privacy of a training: what was asked for, each worker's plan, and what its rounds have spent.

The unit is one record of one worker's shard. A plan fixes everything that the accountant counts before the first step; a
worker that would have to leave it (another shard) trains nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.domain.accountant import DpSgdSteps, noise_for
from api.domain.errors import FieldError, InvalidError

# Delta where none is given: that of the largest shard, a tenth of a record.
_DELTA_RECORDS: Final = 10


@dataclass(frozen=True, slots=True)
class PrivacySpec:
    """One of `target_epsilon` and `noise_multiplier`; `delta` None is 1 / (10 n), n the records of the largest shard."""

    max_grad_norm: float
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float | None = None

    def check(self) -> None:
        if (self.target_epsilon is None) == (self.noise_multiplier is None):
            message = "give one of target_epsilon and noise_multiplier"
            raise InvalidError("invalid_request", message, errors=(FieldError("/differential_privacy", message),))


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """How one worker trains: `samples` records, each in a step's batch with probability `sampling_rate`."""

    samples: int
    sampling_rate: float
    noise_multiplier: float
    steps_per_epoch: int

    def steps(self, epochs: int) -> DpSgdSteps:
        return DpSgdSteps(self.sampling_rate, self.noise_multiplier, self.steps_per_epoch * epochs)


def wanted(config: Mapping[str, Any]) -> PrivacySpec | None:
    """What a training's config asks for."""
    found = config.get("differential_privacy")
    return PrivacySpec(**found) if found else None


def epsilon_of(spent: Mapping[str, float]) -> float:
    """Of a training: its unit is one record of one worker, so it is that of the worker that has spent most."""
    return max(spent.values(), default=0.0)


def delta_for(asked: PrivacySpec, samples: Iterable[int]) -> float:
    return asked.delta if asked.delta is not None else 1 / (_DELTA_RECORDS * max(samples))


def plan(
    asked: PrivacySpec, delta: float, samples: int, batch_size: int, epochs: int, spent: Iterable[DpSgdSteps] = ()
) -> PrivacyPlan | None:
    """The plan of a worker with `samples` records that trains `epochs` more; None where its target cannot be met any more."""
    rate, per_epoch = min(1.0, batch_size / samples), max(1, round(samples / batch_size))
    noise = asked.noise_multiplier
    if asked.target_epsilon is not None:
        noise = noise_for(asked.target_epsilon, delta, rate, per_epoch * epochs, spent)
    return None if noise is None else PrivacyPlan(samples, rate, noise, per_epoch)
