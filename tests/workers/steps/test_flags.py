"""A rejected update flags its worker's node, once for each round. The round has the audits."""

from pathlib import Path

import pytest

from api.domain.red_flags import Flag
from api.schemas.nodes import Node
from api.services import trainings
from api.store import events, leases
from api.store.database import Database
from api.store.tables import NodeRow, RoundRow, TrainingRow
from tests.api.store.rows import CLUSTER_SETTINGS, make_cluster, make_node, make_project, make_training
from tests.workers.steps.context import make_context
from workers.agent.protocol.aggregation import AggregateReport
from workers.agent.protocol.consensus import AuditRecord
from workers.agent.protocol.training import TrainReport
from workers.context import Context
from workers.steps.rounds.context import RoundContext
from workers.steps.rounds.observation import RoundObservation
from workers.steps.rounds.record import record
from workers.steps.shared import red_flags
from workers.steps.shared.node_snapshot import NodeSnapshot
from workers.steps.shared.training_snapshot import load

REASON = "its replay of a committed segment does not give what was committed to"


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Context:
    return make_context(database, tmp_path)


def a_training(context: Context) -> tuple[str, list[str]]:
    with context.database.unit_of_work() as uow:
        project_id = make_project(uow.session)
        cluster = make_cluster(uow.session, project_id)
        cluster.config = CLUSTER_SETTINGS.model_copy(update={"consensus": "proof-of-learning"})
        aggregator = make_node(uow.session, cluster, "aggregator")
        workers = [make_node(uow.session, cluster, id=f"{cluster.id}_w{number}").id for number in (1, 2)]
        row = make_training(uow.session, cluster, aggregator, "training")
        row.workers = workers
        row.config = row.config.model_copy(update={"learning_rate": 0.03})
        leases.wake(row)
        uow.session.add(RoundRow(training_id=row.id, number=1, status="running", base_digest="b"))
    return row.id, workers


def record_round(context: Context, training_id: str, workers: list[str], **fields: object) -> None:
    """Record round 1. The update of the second worker was rejected."""
    with context.database.unit_of_work() as uow:
        claim = leases.claim(uow.session, TrainingRow, training_id, 60)
        assert claim is not None
        token = claim.token
        training = load(uow.session, leases.held(uow.session, TrainingRow, training_id, token))
    names = {"training_id": training_id, "round": 1}
    reports = [TrainReport(node_id=node_id, state="done", samples=10, loss=0.5, **names) for node_id in workers]
    audit = AuditRecord(worker=workers[1], segment=2, step=3, passed=False, reason=REASON, seconds=0.4, nonce="n")
    report = AggregateReport(
        **{
            "node_id": "ps",
            "state": "collecting",
            "received": reports,
            "rejected": {workers[1]: REASON},
            "audits": [audit],
            **names,
            **fields,
        }
    )
    observation = RoundObservation()
    observation.add_aggregate_report(report)
    aggregator = NodeSnapshot("ps", training.cluster_id, "sbx", "aggregator", "running", 0.0, ())
    record(RoundContext(context, training, token, aggregator, 1, 1, "star", (), ()), observation)


def test_a_rejected_worker_is_flagged_on_its_node_once_for_each_round(context: Context) -> None:
    training_id, (honest, offender) = a_training(context)
    record_round(context, training_id, [honest, offender])
    record_round(context, training_id, [honest, offender])
    record_round(context, training_id, [honest, offender], state="done", accepted=[honest], digest="d")
    with context.database.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, offender)
        flag = {"count": 1, "last_training_id": training_id, "last_round": 1, "last_reason": REASON}
        assert node.rejected_updates == flag
        assert Node.of(node).model_dump()["rejected_updates"] == flag
        assert Node.of(uow.session.get_one(NodeRow, honest)).rejected_updates is None
        flagged = [event for event in events.read(uow.session, node.cluster_id, 0) if event.type == "node.flagged"]
        facts = [(event.data["node_id"], event.data["reason"], event.data["count"]) for event in flagged]
        assert facts == [(offender, REASON, 1)]
        ((row, nodes),) = trainings.rounds(uow.session, node.project_id, training_id, 10, 0)
        assert row.status == "completed"
        assert row.audits[0]["worker"] == offender
        assert (row.audits[0]["passed"], row.audits[0]["reason"]) == (False, REASON)
        assert {item.node_id: (item.state, item.reason) for item in nodes} == {
            honest: ("done", None),
            offender: ("rejected", REASON),
        }


def test_flags_of_the_data_stay_until_the_data_is_checked_again(context: Context) -> None:
    training_id, workers = a_training(context)
    missing = Flag("missing_classes", "w1 lacks 'bad'.", "Do nothing.", workers[0], None)
    with context.database.unit_of_work() as uow:
        red_flags.replace_data_flags(uow.session, uow.session.get_one(TrainingRow, training_id), [missing])
    record_round(context, training_id, workers)
    with context.database.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, training_id)
        assert ("missing_classes", workers[0]) in {(flag.code, flag.node_id) for flag in row.red_flags}
        raised = [event.data.get("code") for event in events.read(uow.session, row.cluster_id, 0)]
        assert raised.count("missing_classes") == 1
        others = [flag for flag in row.red_flags if flag.code != "missing_classes"]
        red_flags.replace_data_flags(uow.session, row, [])
        assert row.red_flags == others


def test_a_round_that_failed_shows_who_was_rejected_and_why(context: Context) -> None:
    training_id, workers = a_training(context)
    record_round(context, training_id, workers, state="failed")
    with context.database.unit_of_work() as uow:
        row = uow.session.get_one(RoundRow, (training_id, 1))
        assert row.audits[0]["reason"] == REASON
