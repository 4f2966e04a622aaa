"""Which ended trainings can be extended, and what they say otherwise."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.errors import ConflictError
from api.domain.searches import SearchPlan
from api.services import progress, trainings
from api.store import transitions
from api.store.database import Database
from api.store.tables import ClusterRow, RoundRow, SearchRow, TrainingRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training


def ended(session: Session, status: str = "completed", **options: object) -> tuple[ClusterRow, TrainingRow]:
    """Return a training of four rounds that ended an hour after its start and an hour ago."""
    cluster = make_cluster(session, make_project(session))
    hours_ago = func.clock_timestamp() - timedelta(hours=2)
    nodes = [make_node(session, cluster, role, sandbox_id=ids.random_part()) for role in ("worker", "aggregator")]
    for node in nodes:
        transitions.move(session, node, "running")
        node.started_at = hours_ago
    transitions.move(session, cluster, "connected")
    cluster.members = [node.id for node in nodes]
    row = make_training(session, cluster, nodes[1])
    row.config = row.config.model_copy(update=options)
    row.workers = [nodes[0].id]
    for number in range(1, 5):
        session.add(
            RoundRow(
                training_id=row.id,
                number=number,
                status="completed",
                base_digest="0",
                digest="1",
                seconds=900.0,
                validation_accuracy=0.8,
            )
        )
    row.completed_rounds, row.digest = 4, "1"
    transitions.move(session, row, "training")
    if status != "training":
        transitions.move(session, row, status)
        row.finished_at = func.clock_timestamp() - timedelta(hours=1)
    row.started_at = hours_ago
    session.flush()
    session.refresh(row)
    for node in nodes:
        session.refresh(node)
    return cluster, row


def refusal(database: Database, status: str = "completed", epochs: int | None = 2, **options: object) -> ConflictError:
    with database.unit_of_work() as uow:
        _, row = ended(uow.session, status, **options)
        with pytest.raises(ConflictError) as caught:
            trainings.resume(uow, row.project_id, row.id, epochs)
        assert (row.status, row.config.epochs) == (status, 4), "nothing changes"
    return caught.value


def test_a_completed_training_becomes_pending_with_more_epochs(database: Database) -> None:
    with database.unit_of_work() as uow:
        _, row = ended(uow.session, patience=2)
        before = figures(uow.session, row)
        trainings.resume(uow, row.project_id, row.id, 2)
        uow.session.flush()
        uow.session.refresh(row)
        after = figures(uow.session, row)
    assert (row.status, row.config.epochs, row.config.extended_after, row.finished_at) == ("pending", 6, (4,), None)
    assert before[0] == pytest.approx(3600, abs=5)
    assert after[0] == pytest.approx(3600, abs=30), "the hour after its end does not count"
    assert before[1] > 0
    assert after[1] == pytest.approx(before[1], abs=Decimal("0.1"))


def figures(session: Session, row: TrainingRow) -> tuple[float, Decimal]:
    """Return the seconds of a training and its cost."""
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    return progress.elapsed_seconds(row, now) or 0.0, progress.training_cost(session, row, now)


def test_without_epochs_a_completed_training_is_not_resumed(database: Database) -> None:
    refused = refusal(database, epochs=None)
    assert (refused.code, refused.detail) == (
        "not_resumable",
        "A training that is completed cannot be resumed. Give `epochs` to extend it.",
    )


def test_a_running_training_is_not_extended(database: Database) -> None:
    refused = refusal(database, "training")
    assert (refused.code, "Wait until it has ended" in refused.detail) == ("not_resumable", True)


@pytest.mark.parametrize(
    ("options", "code"),
    [({"target_accuracy": 0.8}, "target_reached"), ({"budget_usd": 0.1}, "budget_spent"), ({"max_minutes": 61.0}, "time_over")],
)
def test_a_rule_that_would_end_it_at_once_refuses_it(database: Database, options: dict[str, Any], code: str) -> None:
    refused = refusal(database, **options)
    assert refused.code == code
    assert "Start a new training with initial_model" in refused.detail


def test_a_terminated_cluster_names_the_way_on(database: Database) -> None:
    with database.unit_of_work() as uow:
        cluster, row = ended(uow.session)
        transitions.move(uow.session, cluster, "terminating")
        for epochs in (None, 2):
            with pytest.raises(ConflictError) as caught:
                trainings.resume(uow, row.project_id, row.id, epochs)
            assert caught.value.code == ("not_resumable" if epochs is None else "cluster_terminated")
    assert "Create a new training with `initial_model`" in caught.value.detail


def test_a_trial_of_a_search_is_not_extended(database: Database) -> None:
    with database.unit_of_work() as uow:
        cluster, row = ended(uow.session)
        search = SearchRow(
            id=ids.search_id(),
            project_id=cluster.project_id,
            cluster_id=cluster.id,
            status="pending",
            plan=SearchPlan(
                method="grid",
                space={},
                metric="validation_accuracy",
                early_stopping="none",
                grace_epochs=1,
                grace_trainings=3,
                seed=0,
                budget_usd=None,
                max_minutes=None,
            ),
            config={},
            trials=[],
        )
        uow.session.add(search)
        uow.session.flush()
        row.search_id = search.id
        uow.session.flush()
        with pytest.raises(ConflictError) as caught:
            trainings.resume(uow, row.project_id, row.id, 2)
    assert caught.value.code == "trial_of_search"
