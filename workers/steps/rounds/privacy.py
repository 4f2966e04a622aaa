"""What differential privacy costs: planned for every worker before the first round, charged as a round begins, settled by what
its report says. A round that was begun counts, whatever became of it: its update may have been seen."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain import privacy, progress
from api.domain.accountant import DpSgdSteps, epsilon
from api.store.tables import RoundNodeRow, TrainingRow
from workers.agent.protocol.training import DpSgdSpec
from workers.context import Context
from workers.steps.shared.training_snapshot import TrainingSnapshot


class SpentError(Exception):
    """What rounds have spent leaves nothing for the rest."""


def plans(context: Context, job: TrainingSnapshot, samples: Mapping[str, int]) -> dict[str, Any] | None:
    """The training's `privacy`: delta, and a plan for each worker of `samples` records; None where none was asked for. After a
    resume the noise is chosen anew, for what is left. SpentError where nothing is."""
    asked = privacy.wanted(job.config)
    if asked is None:
        return None
    with context.database.unit_of_work() as uow:
        spent = {node_id: _spent(uow.session, job.training_id, node_id) for node_id in samples}
    delta = job.privacy["delta"] if job.privacy else privacy.delta_for(asked, samples.values())
    done = progress.epoch(job.completed_rounds, job.config["epochs"], job.config["local_epochs"])
    made: dict[str, Any] = {}
    for node_id, count in samples.items():
        plan = privacy.plan(asked, delta, count, job.config["batch_size"], max(1, job.config["epochs"] - done), spent[node_id])
        if plan is None:
            raise SpentError(f"{node_id} has spent the target's epsilon in the rounds that were begun")
        made[node_id] = asdict(plan)
    return {"delta": delta, "plans": made, "epsilon": {node_id: epsilon(each, delta) for node_id, each in spent.items()}}


def plan_of(job: TrainingSnapshot, node_id: str, number: int) -> DpSgdSpec | None:
    """What a worker is told to do in round `number`."""
    if job.privacy is None:
        return None
    plan = privacy.PrivacyPlan(**job.privacy["plans"][node_id])
    return DpSgdSpec(
        samples=plan.samples,
        sampling_rate=plan.sampling_rate,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=job.config["differential_privacy"]["max_grad_norm"],
        steps=_planned(job, plan, number).steps,
    )


def begin(session: Session, job: TrainingSnapshot, training: TrainingRow, row: RoundNodeRow) -> None:
    """Charge a worker for a round that begins, or begins again."""
    if training.privacy is None:
        return
    steps = _planned(job, privacy.PrivacyPlan(**training.privacy["plans"][row.node_id]), row.number)
    _write(session, training, row, [*_parts(row), steps])


def settle(session: Session, training: TrainingRow, row: RoundNodeRow, told: int | None) -> None:
    """Charge what a worker's report says beyond what was charged: it has trained the round more than once."""
    parts = _parts(row)
    beyond = (told or 0) - sum(part.steps for part in parts)
    if training.privacy is not None and parts and beyond > 0:
        last = parts[-1]
        longer = DpSgdSteps(last.sampling_rate, last.noise_multiplier, last.steps + beyond)
        _write(session, training, row, [*parts[:-1], longer])


def _planned(job: TrainingSnapshot, plan: privacy.PrivacyPlan, number: int) -> DpSgdSteps:
    return plan.steps(progress.epochs_of_round(number, job.config["epochs"], job.config["local_epochs"]))


def _write(session: Session, training: TrainingRow, row: RoundNodeRow, parts: list[DpSgdSteps]) -> None:
    if training.privacy is None:
        return
    before = _spent(session, training.id, row.node_id, below=row.number)
    found = epsilon([*before, *parts], training.privacy["delta"])
    row.privacy = {"parts": [asdict(part) for part in parts], "epsilon": found}
    training.privacy = {**training.privacy, "epsilon": {**training.privacy["epsilon"], row.node_id: found}}


def _parts(row: RoundNodeRow) -> list[DpSgdSteps]:
    return [DpSgdSteps(**part) for part in row.privacy["parts"]] if row.privacy else []


def _spent(session: Session, training_id: str, node_id: str, below: int | None = None) -> list[DpSgdSteps]:
    query = select(RoundNodeRow).where(RoundNodeRow.training_id == training_id, RoundNodeRow.node_id == node_id)
    if below is not None:
        query = query.where(RoundNodeRow.number < below)
    return [part for row in session.scalars(query) for part in _parts(row)]
