"""Clusters with a history of trainings and rounds, written as steps write them."""

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from api.domain import ids
from api.services import progress
from api.store import transitions
from api.store.database import Database
from api.store.tables import ClusterRow, NodeRow, ProjectRow, RoundNodeRow, RoundRow
from tests.api.store.rows import make_cluster, make_node, make_training

_CLUSTERS = 16


@dataclass(frozen=True)
class History:
    """The ids of the clusters, and the newest training of the first one."""

    clusters: list[str]
    training_id: str


def make_history(database: Database, project: str, *, trainings: int, rounds: int, workers: int) -> History:
    """Make 16 clusters with ended trainings. Only the first one has all of them, the others one."""
    clusters, newest = [], ""
    with database.unit_of_work() as uow:
        project_id = uow.session.scalars(select(ProjectRow.id).where(ProjectRow.name == project)).one()
    for number in range(_CLUSTERS):
        with database.unit_of_work() as uow:
            cluster = make_cluster(uow.session, project_id)
            nodes = [make_node(uow.session, cluster, id=f"node_w{index}_{cluster.id[4:]}") for index in range(workers)]
            nodes.append(make_node(uow.session, cluster, "aggregator"))
            for node in nodes:
                node.sandbox_id, node.started_at = f"sbx{ids.random_part()}", cluster.created_at
                transitions.move(uow.session, node, "running")
            clusters.append(cluster.id)
            aggregator, worker_ids = nodes[-1].id, [node.id for node in nodes[:-1]]
        for index in range(1 if number else trainings):
            with database.unit_of_work() as uow:
                made = _training(uow.session, clusters[-1], aggregator, worker_ids, rounds, index)
            newest = newest if number else made
    return History(clusters, newest)


def _training(session: Session, cluster_id: str, aggregator: str, workers: list[str], rounds: int, index: int) -> str:
    draw = random.Random(index)
    cluster = session.get_one(ClusterRow, cluster_id)
    training = make_training(session, cluster, session.get_one(NodeRow, aggregator), "training")
    training.workers = workers
    training.config = training.config.model_copy(update={"epochs": rounds})
    training.started_at = training.created_at = cluster.created_at + timedelta(minutes=index)
    nodes: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        links = [{"from": aggregator, "to": node_id, "bytes": 1_000_000, "seconds": 0.1} for node_id in workers]
        made = RoundRow(
            training_id=training.id,
            number=number,
            status="completed",
            base_digest="0" * 64,
            digest="1" * 64,
            global_loss=1 / number,
            global_accuracy=draw.random(),
            validation_accuracy=draw.random(),
            seconds=1.5,
            finished_at=func.now(),
            links=links,
        )
        session.add(made)
        nodes += [
            {
                "training_id": training.id,
                "number": number,
                "node_id": node_id,
                "state": "done",
                "local_loss": draw.random(),
                "local_accuracy": draw.random(),
                "samples": 2500,
                "decisions": [],
            }
            for node_id in workers
        ]
        training.completed_rounds = number
        progress.note_round(training, made)
    session.flush()
    session.execute(insert(RoundNodeRow), nodes)
    progress.note_workers(session, training, rounds)
    training.finished_at = training.started_at + timedelta(minutes=1)
    training.cost_usd = progress.training_cost(session, training, training.finished_at)
    training.status = "completed"
    session.flush()
    return str(training.id)
