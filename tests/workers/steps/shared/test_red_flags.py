"""Red flags on real rows.

Each is raised once, kept while it lasts, and removed from the status when it is over.
"""

from typing import Any

import pytest
from sqlalchemy import select

from api.schemas.clusters import ClusterStatus, RedFlag, TrainingSession
from api.services import progress
from api.services.lookup import locked_cluster
from api.store import transitions
from api.store.database import Database
from api.store.tables import EventRow, NodeRow, RoundNodeRow, RoundRow, TrainingRow
from tests.api.store.rows import CLUSTER_SETTINGS, make_cluster, make_node, make_project, make_training
from workers.steps.shared import red_flags


class FlaggedTraining:
    """A training of four workers. A test writes the rows of its rounds."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.unit_of_work() as uow:
            cluster = make_cluster(uow.session, make_project(uow.session))
            cluster.config = CLUSTER_SETTINGS.model_copy(update={"architecture": "rnn"})
            nodes = [make_node(uow.session, cluster, role) for role in ("worker",) * 4 + ("aggregator",)]
            for node in nodes:
                node.sandbox_id = f"sbx-{node.id}"
                transitions.move(uow.session, node, "running")
            training = make_training(uow.session, cluster, nodes[-1], "training")
            training.config = training.config.model_copy(update={"epochs": 20, "learning_rate": 0.03})
            training.workers = [node.id for node in nodes[:-1]]
            self.id, self.cluster_id, self.project_id = training.id, cluster.id, cluster.project_id
            self.workers = training.workers
        self.number = 0

    def round(self, loss: float | None, *workers: float | str) -> None:
        """Write one round. For each worker it takes the loss, or its final state."""
        self.number += 1
        with self.database.unit_of_work() as uow:
            status = "running" if loss is None else "completed"
            uow.session.add(RoundRow(training_id=self.id, number=self.number, status=status, base_digest="", global_loss=loss))
            uow.session.flush()
            for node_id, loss_or_state in zip(self.workers, workers, strict=False):
                figures: dict[str, Any] = {"state": "done", "local_loss": loss_or_state}
                if isinstance(loss_or_state, str):
                    figures = {"state": loss_or_state, "reason": "the update is too far from the global model"}
                uow.session.add(RoundNodeRow(training_id=self.id, number=self.number, node_id=node_id, **figures))

    def current_flags(self) -> list[RedFlag]:
        """Update the flags, as a step does. Return those of the cluster's status."""
        with self.database.unit_of_work() as uow:
            locked_cluster(uow.session, self.cluster_id)
            red_flags.update(uow.session, uow.session.get_one(TrainingRow, self.id))
        with self.database.unit_of_work() as uow:
            status = ClusterStatus.of(progress.cluster_status(uow.session, self.project_id, self.cluster_id))
            (session,) = status.training_sessions
            assert isinstance(session, TrainingSession)
            assert session.red_flag_count == len(session.red_flags)
            return session.red_flags

    def events(self) -> list[dict[str, Any]]:
        with self.database.unit_of_work() as uow:
            query = select(EventRow.data).where(EventRow.training_id == self.id, EventRow.type == "training.red_flag")
            return list(uow.session.scalars(query.order_by(EventRow.seq)))

    def move_node(self, node_id: str, status: str) -> None:
        with self.database.unit_of_work() as uow:
            row = uow.session.get_one(NodeRow, node_id)
            transitions.move(uow.session, row, status)
            row.due_at = None


@pytest.fixture
def watched(database: Database) -> FlaggedTraining:
    return FlaggedTraining(database)


def test_a_flag_is_raised_once_and_goes_when_it_is_over(watched: FlaggedTraining) -> None:
    watched.round(0.5, 0.40, 0.41, 0.42, 0.9)
    assert watched.current_flags() == []
    watched.round(0.5, 0.40, 0.41, 0.42, 0.9)
    (first,) = watched.current_flags()
    assert (first.code, first.node_id, first.round) == ("divergent_worker", watched.workers[3], 2)
    watched.round(0.5, 0.30, 0.31, 0.32, 0.9)
    (later,) = watched.current_flags()
    assert (later.round, later.since) == (2, first.since), "as it was raised"
    assert later.message != first.message, "with the newest figures"
    watched.round(0.5, 0.30, 0.31, 0.32, 0.33)
    assert watched.current_flags() == []
    (event,) = watched.events()
    assert {event[name] for name in ("code", "node_id", "round")} == {"divergent_worker", watched.workers[3], 2}
    assert event["training_id"] == watched.id


def test_a_flag_that_comes_back_is_raised_again(watched: FlaggedTraining) -> None:
    for state in ("rejected", "rejected", "done", "rejected", "rejected"):
        watched.round(0.5, state, 0.4, 0.4, 0.4)
        watched.current_flags()
    assert [(event["code"], event["round"]) for event in watched.events()] == [
        ("updates_rejected", 2),
        ("updates_rejected", 5),
    ]


def test_a_lost_node_is_flagged_before_its_round_is_over_and_until_it_runs_again(watched: FlaggedTraining) -> None:
    watched.round(None, "training", "training", "lost", "training")
    watched.move_node(watched.workers[2], "lost")
    (flag,) = watched.current_flags()
    assert (flag.code, flag.node_id) == ("node_lost", watched.workers[2])
    assert f"/v1/nodes/{watched.workers[2]}/redeploy" in flag.suggestion
    watched.move_node(watched.workers[2], "running")
    assert watched.current_flags() == []


def test_a_node_that_was_removed_on_purpose_is_no_red_flag(watched: FlaggedTraining) -> None:
    watched.round(0.5, 0.4, 0.4, 0.4, 0.4)
    watched.move_node(watched.workers[0], "terminating")
    assert watched.current_flags() == []


def test_losses_that_rise_and_losses_that_stand_still(watched: FlaggedTraining) -> None:
    for loss in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        watched.round(loss)
        flags = watched.current_flags()
    assert [flag.code for flag in flags] == ["loss_diverges", "stagnation"]
    assert [(event["code"], event["round"]) for event in watched.events()] == [("loss_diverges", 4), ("stagnation", 6)]
