"""What differential privacy costs in a training.

Every worker gets a plan before the first round. A round is charged when it begins. It is settled
by the worker's report. A round that was begun counts, even if it failed: its update may have been
seen.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from api.domain import privacy
from api.domain.accountant import DpSgdSteps, epsilon
from api.domain.privacy import PrivacyPlan, PrivacySpec, RoundPrivacyRecord, TrainingPrivacyRecord
from api.services import spent_privacy
from api.store.tables import RoundNodeRow, TrainingRow
from workers.agent.protocol.training import DpSgdSpec
from workers.context import Context
from workers.steps.shared.training_snapshot import TrainingSnapshot


class EpsilonSpentError(Exception):
    """A worker cannot train within the target's epsilon and delta."""


def plan_training(context: Context, training: TrainingSnapshot, samples: Mapping[str, int]) -> TrainingPrivacyRecord | None:
    """Return delta and a plan for each worker of `samples` records. None without differential
    privacy.

    After a resume the noise is chosen again, for the epochs that are left.

    Raises:
        EpsilonSpentError: a worker has no epsilon left.
    """
    asked = training.spec.differential_privacy
    if asked is None:
        return None
    with context.database.unit_of_work() as uow:
        spent = {node_id: spent_privacy.steps(uow.session, training.training_id, node_id) for node_id in samples}
    delta = training.privacy.delta if training.privacy is not None else asked.delta_for(samples.values())
    plans = {node_id: _plan(training, asked, delta, node_id, count, spent[node_id]) for node_id, count in samples.items()}
    return TrainingPrivacyRecord(
        delta=delta, plans=plans, epsilon={node_id: epsilon(steps, delta) for node_id, steps in spent.items()}
    )


def plan_joiner(context: Context, training: TrainingSnapshot, node_id: str, samples: int) -> PrivacyPlan | None:
    """Return the plan of a worker that joins. None without differential privacy.

    The plans of the other workers stay: each worker's noise hides its own records.

    Raises:
        EpsilonSpentError: the worker has no epsilon left, or delta is too large for its shard.
    """
    asked, record = training.spec.differential_privacy, training.privacy
    if asked is None or record is None:
        return None
    if asked.delta is None and asked.delta_for([samples]) < record.delta:
        raise EpsilonSpentError(
            f"{node_id} has {samples} records, more than any shard at the beginning, and the training's delta is too large "
            "for so many"
        )
    with context.database.unit_of_work() as uow:
        spent = spent_privacy.steps(uow.session, training.training_id, node_id)
    return _plan(training, asked, record.delta, node_id, samples, spent)


def _plan(
    training: TrainingSnapshot, asked: PrivacySpec, delta: float, node_id: str, samples: int, spent: Sequence[DpSgdSteps]
) -> PrivacyPlan:
    """Return one worker's plan for the epochs that are left.

    Raises:
        EpsilonSpentError: no noise is enough.
    """
    spec = training.spec
    epochs_left = max(1, spec.epochs - spec.epochs_after(training.completed_rounds))
    plan = privacy.plan(asked, delta, samples, spec.batch_size, epochs_left, spent)
    if plan is None:
        raise EpsilonSpentError(f"{node_id} has spent the target's epsilon in the rounds that were begun")
    return plan


def request_for(training: TrainingSnapshot, node_id: str, number: int) -> DpSgdSpec | None:
    """Return what a worker must do in round `number`. None without differential privacy."""
    asked = training.spec.differential_privacy
    if training.privacy is None or asked is None:
        return None
    plan = training.privacy.plans[node_id]
    return DpSgdSpec(
        samples=plan.samples,
        sampling_rate=plan.sampling_rate,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=asked.max_grad_norm,
        steps=plan.steps(training.spec.epochs_of_round(number)).steps,
    )


def charge(session: Session, training: TrainingSnapshot, row: TrainingRow, node: RoundNodeRow) -> None:
    """Charge a worker for a round that begins, or begins again."""
    if row.privacy is not None:
        steps = row.privacy.plans[node.node_id].steps(training.spec.epochs_of_round(node.number))
        _write(session, row, row.privacy, node, (*spent_privacy.parts(node), steps))


def settle(session: Session, row: TrainingRow, node: RoundNodeRow, reported_steps: int | None) -> None:
    """Charge the steps that a worker reports beyond those charged: it has trained the round
    again.
    """
    parts = spent_privacy.parts(node)
    beyond = (reported_steps or 0) - sum(part.steps for part in parts)
    if row.privacy is not None and parts and beyond > 0:
        last = parts[-1]
        longer = DpSgdSteps(last.sampling_rate, last.noise_multiplier, last.steps + beyond)
        _write(session, row, row.privacy, node, (*parts[:-1], longer))


def _write(
    session: Session,
    row: TrainingRow,
    record: TrainingPrivacyRecord,
    node: RoundNodeRow,
    parts: tuple[DpSgdSteps, ...],
) -> None:
    before = spent_privacy.steps(session, row.id, node.node_id, below=node.number)
    spent = epsilon([*before, *parts], record.delta)
    node.privacy = RoundPrivacyRecord(parts=parts, epsilon=spent)
    row.privacy = record.with_epsilon(node.node_id, spent)
