"""Use cases of a search: it trains in one cluster, one training after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import early_stopping, ids
from api.domain.searches import Options, PlannedTrial, SearchSpec, Trial
from api.domain.specs import common_model
from api.domain.status import ACTIVE_SEARCH, ENDED_TRAINING
from api.domain.steps import Step
from api.domain.stopping import TrainingStop
from api.domain.training_spec import TrainingSpec
from api.services import initial_models, trainings
from api.services import progress as figures
from api.services.clusters import refuse_ended
from api.services.lookup import locked_cluster, owned, owned_locked_cluster
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.store import leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, RoundRow, SearchRow, TrainingRow

# The first round of a training always runs. With this limit the training ends after it.
_LEAST_LIMIT: Final = 1e-6


@dataclass(frozen=True, slots=True)
class TrialView:
    """One training of a search. `training` is None before it begins.

    `curve` is the search's metric over the epochs.
    """

    options: Options
    training: TrainingRow | None
    curve: early_stopping.MetricCurve

    @property
    def metric(self) -> float | None:
        return early_stopping.last_value(self.curve)

    @property
    def epochs(self) -> int:
        return self.curve[-1][0] if self.curve else 0

    @property
    def progress(self) -> float:
        """Return the part of the training that is done, 0..1. An ended one counts as done."""
        if self.training is None:
            return 0.0
        return 1.0 if self.training.status in ENDED_TRAINING else self.epochs / self.training.config.epochs


@dataclass(frozen=True, slots=True)
class SearchView:
    """A search with its trials.

    `best` is the trial with the best metric, of those with a completed or stopped training.
    """

    search: SearchRow
    trials: Sequence[TrialView]
    best: TrialView | None
    cost_usd: Decimal

    @property
    def progress(self) -> float:
        """Return the part of the search that is done, 0..1. It is 1 when the search has ended."""
        has_ended = self.search.finished_at is not None
        return 1.0 if has_ended else fmean(trial.progress for trial in self.trials)


def create(uow: UnitOfWork, project_id: str, cluster_id: str, spec: SearchSpec) -> SearchRow:
    """Create a search with all its trials. The search's first step begins the first training."""
    session = uow.session
    cluster = owned_locked_cluster(session, project_id, cluster_id)
    refuse_ended(cluster)
    trainings.refuse_busy(session, cluster)
    workers, aggregator = trainings.training_nodes(session, cluster)
    model = common_model([worker.model for worker in workers], aggregator.model)
    for trial in spec.trials:
        initial_models.check(session, cluster, trial.training, model)
    spec.check_workers(len(workers), cluster.config.consensus)
    shared, trials = _split(spec.trials)
    row = SearchRow(
        id=ids.search_id(),
        project_id=project_id,
        cluster_id=cluster.id,
        status="pending",
        plan=spec.plan,
        config=shared,
        trials=trials,
        due_at=func.clock_timestamp(),
    )
    transitions.created(session, row, trials=len(spec.trials), metric=spec.plan.metric)
    uow.enqueue(Step.SEARCHES_ADVANCE, row.id)
    return row


def _split(trials: Sequence[Trial]) -> tuple[dict[str, Any], list[PlannedTrial]]:
    """Return the fields that all trainings share, and each trial with its other fields."""
    configs = [trial.training.model_dump(mode="json") for trial in trials]
    shared = {name: value for name, value in configs[0].items() if all(config[name] == value for config in configs)}
    planned = [
        PlannedTrial(options=trial.options, config={name: value for name, value in config.items() if name not in shared})
        for trial, config in zip(trials, configs, strict=True)
    ]
    return shared, planned


def next_spec(row: SearchRow, *, budget_usd: float | None, max_minutes: float | None) -> TrainingSpec:
    """Return the spec of the next trial's training.

    `budget_usd` and `max_minutes` are what is left of the search's limits. None means no limit.
    """
    limits = {
        name: None if limit is None else max(limit, _LEAST_LIMIT)
        for name, limit in (("budget_usd", budget_usd), ("max_minutes", max_minutes))
    }
    return TrainingSpec.model_validate({**row.config, **row.trials[len(row.training_ids)].config, **limits})


def get(session: Session, project_id: str, search_id: str) -> SearchRow:
    return owned(session, SearchRow, project_id, search_id)


def page(
    session: Session, project_id: str, cluster_id: str | None, status: str | None, page_request: PageRequest
) -> ResultPage[SearchView]:
    """Return a page of searches, the newest first."""
    query = select(SearchRow).where(SearchRow.project_id == project_id)
    if cluster_id is not None:
        query = query.where(SearchRow.cluster_id == owned(session, ClusterRow, project_id, cluster_id).id)
    if status is not None:
        query = query.where(SearchRow.status == status)
    rows = fetch_page(session, query, SearchRow, page_request)
    return ResultPage([view(session, row) for row in rows.items], rows.next)


def view(session: Session, row: SearchRow) -> SearchView:
    """Return a search with the measured metrics of its trainings."""
    by_id = {
        training.id: training for training in session.scalars(select(TrainingRow).where(TrainingRow.id.in_(row.training_ids)))
    }
    begun = [by_id[training_id] for training_id in row.training_ids]
    measured = curves(session, begun, row.plan.metric)
    trials = [
        TrialView(
            options=planned.options,
            training=begun[position] if position < len(begun) else None,
            curve=measured[begun[position].id] if position < len(begun) else (),
        )
        for position, planned in enumerate(row.trials)
    ]
    values = [
        trial.metric if trial.training is not None and trial.training.status in ("completed", "stopped") else None
        for trial in trials
    ]
    best_position = early_stopping.best(row.plan.metric, values)
    cost = sum((figures.spent(session, training).usd for training in begun), Decimal(0))
    return SearchView(row, trials, None if best_position is None else trials[best_position], cost)


def curves(session: Session, rows: Sequence[TrainingRow], metric: str) -> dict[str, early_stopping.MetricCurve]:
    """Return the metric of each training over its epochs, from its completed rounds."""
    result: dict[str, list[tuple[int, float | None]]] = {training.id: [] for training in rows}
    specs = {training.id: training.config for training in rows}
    rounds = session.execute(
        select(RoundRow.training_id, RoundRow.number, getattr(RoundRow, metric))
        .where(RoundRow.training_id.in_(result), RoundRow.status == "completed")
        .order_by(RoundRow.number)
    )
    for training_id, number, value in rounds:
        result[training_id].append((specs[training_id].epochs_after(number), value))
    return dict(result)


def stop(uow: UnitOfWork, project_id: str, search_id: str) -> SearchRow:
    """Stop a search and its current training. A search that has ended does not change."""
    session = uow.session
    row = owned(session, SearchRow, project_id, search_id)
    locked_cluster(session, row.cluster_id)
    session.refresh(row)
    if row.status in ("pending", "running"):
        transitions.move(session, row, "stopping", reason="asked to stop")
        if row.training_ids:
            why = TrainingStop(code="search_stopped", detail="Its search was asked to stop.")
            trainings.halt(uow, session.get_one(TrainingRow, row.training_ids[-1]), why.detail, why)
        leases.wake(row)
        uow.enqueue(Step.SEARCHES_ADVANCE, row.id)
    return row


def wake_search(uow: UnitOfWork, training: TrainingRow) -> None:
    """Run the next step of a training's search, if it belongs to one that is active."""
    row = None if training.search_id is None else uow.session.get_one(SearchRow, training.search_id, populate_existing=True)
    if row is not None and row.status in ACTIVE_SEARCH:
        leases.wake(row)
        uow.enqueue(Step.SEARCHES_ADVANCE, row.id)
