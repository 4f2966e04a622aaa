"""A project with something on every page, written as steps write it."""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from api.domain.events import EventType
from api.domain.records import FailureReason
from api.domain.red_flags import RaisedFlag
from api.domain.stopping import TrainingStop
from api.services import progress
from api.store import events, transitions
from api.store.tables import ClusterRow, ModelRow, NodeRow, RoundNodeRow, RoundRow, SearchRow, TrainingRow
from tests.api.routes.user import User


@dataclass(frozen=True)
class History:
    """The ids that pages are opened with."""

    cluster: str
    training: str
    earlier: str
    search: str
    model: str
    node: str


def make_history(user: User, *, workers: int = 4, rounds: int = 24) -> History:
    """Make a cluster in which a training runs, an earlier training, a model and a search."""
    cluster = user.cluster(name="customer-feedback", topology="mesh", budget_usd=40, consensus="none")
    worker_ids = [user.running(cluster) for _ in range(workers)]
    aggregator = user.running(cluster, node_type="parameter_server")
    user.call("POST", f"/v1/clusters/{cluster}/connect", 200, json={})
    _start_clock(user, cluster)
    earlier = _trained(user, cluster, [*worker_ids, aggregator], rounds, seed=1, ends="completed")
    model = _exported(user, cluster, earlier)
    training = _trained(user, cluster, [*worker_ids, aggregator], rounds - 6, seed=2, ends=None)
    _raise_flag(user, training, worker_ids[-1])
    search = _searched(user)
    user.cluster(name="empty-and-waiting", topology="ring")
    return History(cluster, training, earlier, search, model, worker_ids[0])


def _searched(user: User) -> str:
    """Make a search of two trials that have trained. The second one was stopped early."""
    cluster = user.ready(name="support-tickets", topology="star")
    _start_clock(user, cluster)
    with user.rows.unit_of_work() as uow:
        members = uow.session.query(NodeRow).filter_by(cluster_id=cluster).order_by(NodeRow.created_at)
        nodes = [node.id for node in members]
    trained = [_trained(user, cluster, nodes, rounds, seed=rounds, ends="completed") for rounds in (8, 4)]
    search = user.search(cluster)
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(SearchRow, search)
        row.training_ids = trained
        transitions.move(uow.session, row, "running")
        for training_id in trained:
            uow.session.get_one(TrainingRow, training_id).search_id = search
        stopped = uow.session.get_one(TrainingRow, trained[1])
        stopped.stop_reason = TrainingStop(code="early_stopped", detail="Its best accuracy is below the median of the others.")
    return search


def _start_clock(user: User, cluster_id: str) -> None:
    """Let the sandboxes of the cluster run for an hour."""
    with user.rows.unit_of_work() as uow:
        for node in uow.session.query(NodeRow).filter_by(cluster_id=cluster_id):
            node.started_at = datetime.now(UTC) - timedelta(hours=1)


def _trained(user: User, cluster: str, nodes: list[str], rounds: int, *, seed: int, ends: str | None) -> str:
    """Train in a connected cluster. The last of `nodes` is the aggregator."""
    *workers, aggregator = nodes
    epochs = rounds if ends else rounds + 10
    body = {"dataset": "/data/train_*.json", "epochs": epochs}
    training_id = str(user.call("POST", f"/v1/clusters/{cluster}/trainings", 202, json=body)["training_id"])
    with user.rows.unit_of_work() as uow:
        session = uow.session
        training = session.get_one(TrainingRow, training_id)
        transitions.move(session, session.get_one(ClusterRow, cluster), "training", training_id=training_id)
        transitions.move(session, training, "training", labels=["negative", "positive"])
        training.labels, training.parameters = ["negative", "positive"], 2_431_874
        training.started_at = datetime.now(UTC) - timedelta(seconds=5.0 * rounds)
        draw = random.Random(seed)
        for number in range(1, rounds + 1):
            _round(session, training, number, workers, aggregator, draw)
        training.completed_rounds = rounds
        progress.note_workers(session, training, rounds)
        if ends:
            training.finished_at = datetime.now(UTC)
            training.cost_usd = progress.training_cost(session, training, training.finished_at)
            transitions.move(session, training, ends)
            transitions.move(session, session.get_one(ClusterRow, cluster), "connected")
    return training_id


def _round(
    session: Session, training: TrainingRow, number: int, workers: list[str], aggregator: str, draw: random.Random
) -> None:
    fall = math.exp(-number / 7)
    began = (training.started_at or datetime.now(UTC)) + timedelta(seconds=5.0 * (number - 1))
    row = RoundRow(
        training_id=training.id,
        number=number,
        status="completed",
        base_digest="0" * 64,
        digest="1" * 64,
        global_loss=0.16 + 0.55 * fall + draw.random() * 0.02,
        global_accuracy=0.95 - 0.42 * fall - draw.random() * 0.01,
        validation_loss=0.24 + 0.48 * fall + draw.random() * 0.03,
        validation_accuracy=0.91 - 0.4 * fall - draw.random() * 0.015,
        seconds=4.6 + draw.random(),
        train_seconds=3.2 + draw.random() * 0.4,
        aggregate_seconds=0.3,
        evaluate_seconds=0.4,
        bytes_received=9_727_604 * len(workers),
        data_path="mesh",
        started_at=began,
        finished_at=began + timedelta(seconds=4.9),
        links=[{"from": one, "to": other, "bytes": 2_400_000 + 90_000 * index, "seconds": 0.2}
               for index, one in enumerate(workers) for other in (*workers, aggregator) if one < other],
    )  # fmt: skip
    session.add(row)
    session.flush()
    for index, node_id in enumerate(workers):
        is_worst = index == len(workers) - 1
        loss = 0.14 + 0.55 * fall + draw.random() * 0.05 + (0.14 if is_worst else 0)
        rejected = is_worst and number % 9 == 0
        session.add(
            RoundNodeRow(
                training_id=training.id,
                number=number,
                node_id=node_id,
                state="rejected" if rejected else "done",
                reason="its update lowered the validation accuracy" if rejected else None,
                samples=2500 - 180 * index,
                local_loss=loss,
                local_accuracy=0.96 - 0.42 * fall - (0.06 if is_worst else 0),
                train_seconds=2.9 + draw.random() * 0.6,
                bytes_sent=9_727_604,
            )
        )
    progress.note_round(training, row)
    data = {"training_id": training.id, "round": number, "global_loss": row.global_loss, "seconds": row.seconds}
    data |= {"global_accuracy": row.global_accuracy, "validation_accuracy": row.validation_accuracy}
    events.emit(session, training.cluster_id, EventType.ROUND_COMPLETED, data, training_id=training.id)


def _raise_flag(user: User, training_id: str, node_id: str) -> None:
    with user.rows.unit_of_work() as uow:
        training = uow.session.get_one(TrainingRow, training_id)
        flag = RaisedFlag(
            code="divergent_worker",
            message=f"The loss of {node_id} is far from that of the others.",
            suggestion="Look at its data, or train with a strategy that tolerates outliers, for example median.",
            node_id=node_id,
            round=17,
            since=datetime.now(UTC).isoformat(),
        )
        training.red_flags = [flag]


def _exported(user: User, cluster: str, training: str) -> str:
    with user.rows.unit_of_work() as uow:
        row = ModelRow(
            id=f"mdl_{training[-8:]}",
            project_id=user.project_id,
            cluster_id=cluster,
            training_id=training,
            status="pending",
            name="feedback_v1",
            digest="1" * 64,
        )
        transitions.created(uow.session, row, name=row.name)
        row.path, row.size, row.sha256 = "/export/feedback_v1", 9_768_960, "2" * 64
        row.files = [{"path": name, "size": size, "sha256": "3" * 64} for name, size in _FILES]
        row.finished_at = datetime.now(UTC)
        transitions.move(uow.session, row, "completed")
    return row.id


def failed_node(user: User, cluster_id: str) -> str:
    """Deploy a node that could not be started."""
    node_id = user.deploy(cluster_id)
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(NodeRow, node_id)
        row.error = FailureReason(code="start_timeout", detail="The agent did not answer within 120 seconds.")
        transitions.move(uow.session, row, "failed")
    return node_id


_FILES = (("model.safetensors", 9_727_604), ("config.json", 612), ("README.md", 2_184), ("tokenizer.json", 31_402))
