"""A search: one training after the other, until all are done or a limit is reached.

A step reads and writes rows only, so it is one transaction. It checks the current training and
decides what is next. Every round and the end of a training enqueue this step. The sweep enqueues a
step that was lost.
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from api.domain import early_stopping
from api.domain.errors import DomainError, QuotaExceededError
from api.domain.events import EventType
from api.domain.records import FailureReason
from api.domain.status import ACTIVE_TRAINING, ENDED_SEARCH
from api.domain.steps import Step
from api.domain.stopping import Spent, StoppingRules, TrainingStop, stop_reason
from api.services import progress as figures
from api.services import quotas, searches, trainings
from api.services.lookup import locked_cluster
from api.store import events, leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, NodeRow, RoundRow, SearchRow, TrainingRow
from workers.context import Context
from workers.steps.shared.lease import under_lease

_RETRY_S = 10.0
_WAIT_FOR_NODES_S = 2.0
_LIMIT_CODES = ("budget_spent", "time_over")


@dataclass(frozen=True, slots=True)
class _End:
    """How a search ends: its status, and why it ended early or failed."""

    status: str
    stop_reason: TrainingStop | None = None
    error: FailureReason | None = None


def advance(context: Context, search_id: str) -> None:
    """Do the search's next step."""
    under_lease(context, SearchRow, search_id, partial(_advance, context, search_id), partial(_fail, context, search_id))


def _advance(context: Context, search_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        exceeded = _quota(context, uow.session, search_id)
        cluster = locked_cluster(
            uow.session, uow.session.execute(select(SearchRow.cluster_id).where(SearchRow.id == search_id)).scalar_one()
        )
        row = leases.held(uow.session, SearchRow, search_id, token)
        current = uow.session.get_one(TrainingRow, row.training_ids[-1], populate_existing=True) if row.training_ids else None
        if current is not None and current.status in ACTIVE_TRAINING:
            if row.status == "running" and current.status == "training":
                _stop_if_worse(uow, row, current)
            leases.release(row, _RETRY_S, waits=True)
        elif row.status == "stopping":
            _finish(uow, cluster, row, current, _End("stopped"))
        elif row.status not in ("pending", "running"):
            leases.release(row, None)
        else:
            _next(uow, cluster, row, current, exceeded)


def _fail(context: Context, search_id: str, token: str, reason: FailureReason) -> None:
    """End a search whose own step fails. Its current training runs to its end."""
    with context.database.unit_of_work() as uow:
        session = uow.session
        cluster_id = session.execute(select(SearchRow.cluster_id).where(SearchRow.id == search_id)).scalar_one()
        cluster = locked_cluster(session, cluster_id)
        row = leases.held(session, SearchRow, search_id, token)
        if row.status in ENDED_SEARCH:
            leases.release(row, None)
            return
        row.finished_at, row.error = func.clock_timestamp(), reason
        status = "stopped" if row.status == "stopping" else "failed"
        transitions.move(session, row, status, trained=len(row.training_ids), trials=len(row.trials), error=reason.facts())
        _free(uow, row, cluster)


def _quota(context: Context, session: Session, search_id: str) -> QuotaExceededError | None:
    """Whether the project's quota is used up.

    It is checked before the cluster is locked, as requests do. One lock order avoids deadlocks.
    """
    row = session.get_one(SearchRow, search_id)
    active = session.scalar(
        select(TrainingRow.id).where(TrainingRow.id.in_(row.training_ids), TrainingRow.status.in_(ACTIVE_TRAINING))
    )
    if active is None:
        try:
            quotas.claim(session, context.settings, row.project_id, spend_usd=0)
        except QuotaExceededError as error:
            return error
    return None


def _stop_if_worse(uow: UnitOfWork, row: SearchRow, current: TrainingRow) -> None:
    total = current.config.total_rounds
    if row.plan.early_stopping == "none" or current.stop_reason or current.completed_rounds >= total:
        return
    *other_curves, curve = [trial.curve for trial in searches.view(uow.session, row).trials if trial.training is not None]
    why = early_stopping.early_stop_reason(
        row.plan.metric,
        curve,
        other_curves,
        grace_epochs=row.plan.grace_epochs,
        grace_trainings=row.plan.grace_trainings,
    )
    if why is not None:
        trainings.halt(uow, current, why.detail, why)


def _next(
    uow: UnitOfWork, cluster: ClusterRow, row: SearchRow, last: TrainingRow | None, exceeded: QuotaExceededError | None
) -> None:
    """Begin the next training, or end the search with the reason."""
    session = uow.session
    if last is not None and last.status == "refused" and last.error is not None and _concerns_the_data(last.error):
        _finish(uow, cluster, row, last, _End("failed", error=last.error))
    elif last is not None and last.stop_reason is not None and last.stop_reason.code in _LIMIT_CODES:
        # A training's limits were the rest of the search's limits.
        _finish(uow, cluster, row, last, _End("completed", last.stop_reason))
    elif len(row.training_ids) == len(row.trials):
        measured = any(trial.metric is not None for trial in searches.view(session, row).trials)
        error = FailureReason(code="nothing_measured", detail=f"No training of the search has a {row.plan.metric}.")
        _finish(uow, cluster, row, last, _End("completed") if measured else _End("failed", error=error))
    elif (why := _limit(session, row, last)) is not None:
        _finish(uow, cluster, row, last, _End("completed", why))
    elif exceeded is not None:
        _finish(uow, cluster, row, last, _End("completed", TrainingStop(code=exceeded.code, detail=exceeded.detail)))
    elif _nodes_return(session, cluster):
        leases.release(row, _WAIT_FOR_NODES_S, waits=True)
    else:
        _begin(uow, cluster, row, last)


def _begin(uow: UnitOfWork, cluster: ClusterRow, row: SearchRow, last: TrainingRow | None) -> None:
    session = uow.session
    spent = _spent(session, row)
    budget, minutes = row.plan.budget_usd, row.plan.max_minutes
    spec = searches.next_spec(
        row,
        budget_usd=None if budget is None else budget - float(spent.usd),
        max_minutes=None if minutes is None else minutes - spent.seconds / 60,
    )
    try:
        training = trainings.begin(
            uow, cluster, spec, *trainings.training_nodes(session, cluster, ignore_unconnected=True), row.id
        )
    except DomainError as error:
        _finish(uow, cluster, row, last, _End("failed", error=FailureReason.of(error)))
        return
    _emit_trial_ended(session, row, last)
    row.training_ids = [*row.training_ids, training.id]
    if row.status == "pending":
        row.started_at = func.clock_timestamp()
        transitions.move(session, row, "running")
    number = len(row.training_ids)
    options = row.trials[number - 1].options
    _emit(session, row, EventType.SEARCH_TRIAL_STARTED, {"trial": number, "training_id": training.id, "options": options})
    leases.release(row, _RETRY_S, waits=True)


def _finish(uow: UnitOfWork, cluster: ClusterRow, row: SearchRow, last: TrainingRow | None, end: _End) -> None:
    _emit_trial_ended(uow.session, row, last)
    row.finished_at = func.clock_timestamp()
    row.stop_reason, row.error = end.stop_reason, end.error
    best = searches.view(uow.session, row).best
    facts: dict[str, object] = {
        "best_training_id": best.training.id if best is not None and best.training is not None else None,
        "trained": len(row.training_ids),
        "trials": len(row.trials),
    }
    if end.stop_reason is not None:
        facts["stop_reason"] = end.stop_reason.model_dump()
    if end.error is not None:
        facts["error"] = end.error.facts()
    transitions.move(uow.session, row, end.status, **facts)
    _free(uow, row, cluster)


def _free(uow: UnitOfWork, row: SearchRow, cluster: ClusterRow) -> None:
    """Release an ended search. A cluster that is being terminated waits for it."""
    leases.release(row, None)
    if cluster.status == "terminating":
        leases.wake(cluster)
        uow.enqueue(Step.CLUSTERS_ADVANCE, cluster.id)


def _emit_trial_ended(session: Session, row: SearchRow, last: TrainingRow | None) -> None:
    if last is None:
        return
    number = len(row.training_ids)
    trial = searches.view(session, row).trials[number - 1]
    facts = {"trial": number, "training_id": last.id, "status": last.status, "metric": trial.metric, "epochs": trial.epochs}
    _emit(session, row, EventType.SEARCH_TRIAL_ENDED, facts)


def _emit(session: Session, row: SearchRow, event_type: EventType, facts: dict[str, object]) -> None:
    events.emit(session, row.cluster_id, event_type, {"search_id": row.id, **facts})


def _concerns_the_data(error: FailureReason) -> bool:
    """Whether a training was refused for its data, which all trainings of the search share."""
    return any(field.pointer == "/dataset" for field in error.errors)


def _spent(session: Session, row: SearchRow) -> Spent:
    """What all trainings of the search have used, and what its nodes cost in one second."""
    trainings_begun = session.scalars(select(TrainingRow).where(TrainingRow.id.in_(row.training_ids))).all()
    spent = {training.id: figures.spent(session, training) for training in trainings_begun}
    seconds = 0.0
    if row.started_at is not None:
        now = session.execute(select(func.clock_timestamp())).scalar_one()
        seconds = (now - row.started_at).total_seconds()
    rate = spent[row.training_ids[-1]].usd_per_second if spent else Decimal(0)
    return Spent(seconds, sum((used.usd for used in spent.values()), Decimal(0)), rate)


def _limit(session: Session, row: SearchRow, last: TrainingRow | None) -> TrainingStop | None:
    """Why no further training begins: a round like the last one would exceed the search's
    limits.
    """
    if last is None:
        return None
    rules = StoppingRules(budget_usd=row.plan.budget_usd, max_minutes=row.plan.max_minutes)
    seconds = session.scalar(
        select(RoundRow.seconds).where(RoundRow.training_id == last.id, RoundRow.number == last.completed_rounds)
    )
    return stop_reason(rules, [], _spent(session, row), seconds)


def _nodes_return(session: Session, cluster: ClusterRow) -> bool:
    """Return whether a node of the cluster is about to be back.

    Trainings with fewer workers could not be compared with the others.
    """
    node_id = session.scalar(
        select(NodeRow.id)
        .where(
            NodeRow.cluster_id == cluster.id,
            NodeRow.id.in_(cluster.members),
            or_(NodeRow.status == "provisioning", (NodeRow.status == "lost") & NodeRow.due_at.is_not(None)),
        )
        .limit(1)
    )
    return node_id is not None
