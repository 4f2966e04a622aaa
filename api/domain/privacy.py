"""Differential privacy of a training: the request, each worker's plan, and the spent epsilon.

The unit is one record of one worker's shard. A plan fixes everything that the accountant counts,
before the first step. A worker that cannot keep its plan (its shard has changed) does not train.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from api.domain.accountant import DpSgdSteps, epsilon, noise_for
from api.domain.errors import FieldError, InvalidError
from api.domain.records import Record
from api.domain.training_options import PrivacyOptions

# The default delta is 1 / (10 n). n is the number of records of the largest shard.
_DELTA_RECORDS: Final = 10


class PrivacySpec(PrivacyOptions, Record):
    """The request.

    `delta` None means 1 / (10 n). n is the number of records of the largest shard.
    """

    def check(self) -> None:
        """Check that it has exactly one of `target_epsilon` and `noise_multiplier`.

        Raises:
            InvalidError: `invalid_request`.
        """
        if (self.target_epsilon is None) == (self.noise_multiplier is None):
            message = "give one of target_epsilon and noise_multiplier"
            raise InvalidError("invalid_request", message, errors=(FieldError("/differential_privacy", message),))

    def delta_for(self, samples: Iterable[int]) -> float:
        """Return delta. `samples` are the numbers of records of the shards."""
        return self.delta if self.delta is not None else 1 / (_DELTA_RECORDS * max(samples))


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """How one worker trains.

    Each of its `samples` records is in a step's batch with probability `sampling_rate`.
    """

    samples: int
    sampling_rate: float
    noise_multiplier: float
    steps_per_epoch: int

    def steps(self, epochs: int) -> DpSgdSteps:
        return DpSgdSteps(self.sampling_rate, self.noise_multiplier, self.steps_per_epoch * epochs)


class TrainingPrivacyRecord(Record):
    """The plans of a training and the epsilon that each worker has spent, both by node id."""

    delta: float
    plans: dict[str, PrivacyPlan]
    epsilon: dict[str, float]

    @property
    def spent_epsilon(self) -> float:
        """The epsilon of the worker that has spent most. The unit is one record of one worker."""
        return max(self.epsilon.values(), default=0.0)

    def with_plan(self, node_id: str, plan: PrivacyPlan) -> "TrainingPrivacyRecord":
        return TrainingPrivacyRecord(delta=self.delta, plans={**self.plans, node_id: plan}, epsilon=self.epsilon)

    def with_epsilon(self, node_id: str, epsilon: float) -> "TrainingPrivacyRecord":
        return TrainingPrivacyRecord(delta=self.delta, plans=self.plans, epsilon={**self.epsilon, node_id: epsilon})


class RoundPrivacyRecord(Record):
    """What one worker has spent in one round. `epsilon` counts all rounds up to this one."""

    parts: tuple[DpSgdSteps, ...]
    epsilon: float


def allows_more(
    spec: PrivacySpec, delta: float, planned: PrivacyPlan, epochs: int, spent: Iterable[DpSgdSteps], growth: float
) -> bool:
    """Return whether a worker can train `epochs` more epochs within its target.

    They may need at most `growth` times the noise of its plan. Without a target the answer is yes.
    """
    if spec.target_epsilon is None:
        return True
    steps = DpSgdSteps(planned.sampling_rate, growth * planned.noise_multiplier, planned.steps_per_epoch * epochs)
    return epsilon([*spent, steps], delta) <= spec.target_epsilon


def plan(
    spec: PrivacySpec, delta: float, samples: int, batch_size: int, epochs: int, spent: Iterable[DpSgdSteps] = ()
) -> PrivacyPlan | None:
    """Return the plan of a worker with `samples` records that trains `epochs` more epochs.

    Return None if no noise can reach the target any more.
    """
    rate, per_epoch = min(1.0, batch_size / samples), max(1, round(samples / batch_size))
    noise = spec.noise_multiplier
    if spec.target_epsilon is not None:
        noise = noise_for(spec.target_epsilon, delta, rate, per_epoch * epochs, spent)
    return None if noise is None else PrivacyPlan(samples, rate, noise, per_epoch)
