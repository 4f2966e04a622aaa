"""What differential privacy costs in a training.

Every worker gets a plan before the first round. A round is charged when it begins. It is settled
by the worker's report. A round that was begun counts, even if it failed: its update may have been
seen.
"""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain import privacy
from api.domain.accountant import DpSgdSteps, epsilon
from api.domain.privacy import RoundPrivacyRecord, TrainingPrivacyRecord
from api.store.tables import RoundNodeRow, TrainingRow
from workers.agent.protocol.training import DpSgdSpec
from workers.context import Context
from workers.steps.shared.training_snapshot import TrainingSnapshot


class EpsilonSpentError(Exception):
    """Earlier rounds have spent the target's epsilon. Nothing is left for the other rounds."""


def plan_training(context: Context, training: TrainingSnapshot, samples: Mapping[str, int]) -> TrainingPrivacyRecord | None:
    """Return delta and a plan for each worker of `samples` records. None without differential
    privacy.

    After a resume the noise is chosen again, for the epochs that are left.

    Raises:
        EpsilonSpentError: a worker has no epsilon left.
    """
    spec, asked = training.spec, training.spec.differential_privacy
    if asked is None:
        return None
    with context.database.unit_of_work() as uow:
        spent = {node_id: _spent(uow.session, training.training_id, node_id) for node_id in samples}
    delta = training.privacy.delta if training.privacy is not None else asked.delta_for(samples.values())
    epochs_left = max(1, spec.epochs - spec.epochs_after(training.completed_rounds))
    plans = {}
    for node_id, count in samples.items():
        plan = privacy.plan(asked, delta, count, spec.batch_size, epochs_left, spent[node_id])
        if plan is None:
            raise EpsilonSpentError(f"{node_id} has spent the target's epsilon in the rounds that were begun")
        plans[node_id] = plan
    return TrainingPrivacyRecord(
        delta=delta, plans=plans, epsilon={node_id: epsilon(steps, delta) for node_id, steps in spent.items()}
    )


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
        _write(session, row, row.privacy, node, (*_parts(node), steps))


def settle(session: Session, row: TrainingRow, node: RoundNodeRow, reported_steps: int | None) -> None:
    """Charge the steps that a worker reports beyond those charged: it has trained the round
    again.
    """
    parts = _parts(node)
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
    before = _spent(session, row.id, node.node_id, below=node.number)
    spent = epsilon([*before, *parts], record.delta)
    node.privacy = RoundPrivacyRecord(parts=parts, epsilon=spent)
    row.privacy = record.with_epsilon(node.node_id, spent)


def _parts(node: RoundNodeRow) -> tuple[DpSgdSteps, ...]:
    return node.privacy.parts if node.privacy is not None else ()


def _spent(session: Session, training_id: str, node_id: str, below: int | None = None) -> list[DpSgdSteps]:
    """The steps that a worker was charged for, in all rounds or in those below a number."""
    query = select(RoundNodeRow).where(RoundNodeRow.training_id == training_id, RoundNodeRow.node_id == node_id)
    if below is not None:
        query = query.where(RoundNodeRow.number < below)
    return [part for node in session.scalars(query) for part in _parts(node)]
