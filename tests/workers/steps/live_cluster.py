"""A connected cluster whose agents are real and run in this process."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update

from api.domain.sandboxes import Endpoint, ResourceLimitHit
from api.schemas.trainings import TrainingCreate, TrainingRound
from api.services import clusters, trainings
from api.store.database import Database
from api.store.tables import EventRow, NodeRow, TrainingRow
from tests.workers.agent import agents
from workers.agent_client import ClusterKeys
from workers.context import Context
from workers.steps import trainings as steps


@dataclass
class Sockets:
    """The Unix sockets of a test's agents. A sandbox has the id of its node."""

    paths: dict[str, str]

    async def endpoint(self, sandbox_id: str, port: int) -> Endpoint:
        return Endpoint("http://agent", uds=self.paths[sandbox_id])

    peer_endpoint = endpoint

    async def limit_hits(self, sandbox_id: str) -> list[ResourceLimitHit]:
        now = datetime.now(UTC)
        return [ResourceLimitHit("memory", 5, now, now)]


@dataclass
class LiveCluster:
    """A connected cluster of four workers and an aggregator, whose agents run in this process."""

    database: Database
    context: Context
    sockets: Sockets
    project_id: str
    cluster_id: str
    workers: list[str]
    aggregator: str
    agents: list[agents.LiveAgent]
    keys: ClusterKeys

    def connect(self, topology: Any) -> None:
        with self.database.unit_of_work() as uow:
            clusters.connect(uow, self.project_id, self.cluster_id, topology)

    def train(self, **fields: Any) -> tuple[str, list[TrainingRound]]:
        """Train to the end. Return the training's status and its rounds."""
        return self.run_to_end(self.begin(**fields))

    def begin(self, **fields: Any) -> str:
        body = {"dataset": agents.DATASET, "epochs": 2, "batch_size": 8, "learning_rate": 0.01, "max_length": 16, **fields}
        spec = TrainingCreate.model_validate(body).spec()
        with self.database.unit_of_work() as uow:
            return trainings.start(uow, self.project_id, self.cluster_id, spec).id

    def run_to_end(self, training_id: str) -> tuple[str, list[TrainingRound]]:
        """Run the training's steps until it has ended. Return its status and its rounds."""
        for _ in range(60):
            steps.advance(self.context, training_id)
            with self.database.unit_of_work() as uow:
                # The step that gives up a lost node does not run here.
                uow.session.execute(update(NodeRow).where(NodeRow.status == "lost").values(due_at=None))
                row = trainings.get(uow.session, self.project_id, training_id)
                assert row.status != "refused", row.error
                if row.status not in ("pending", "training"):
                    rounds = trainings.rounds(uow.session, self.project_id, training_id, 100, 0)
                    return row.status, [TrainingRound.of(*rows) for rows in rounds]
        raise AssertionError("the training did not end")

    def read(self, training_id: str) -> TrainingRow:
        with self.database.unit_of_work() as uow:
            return trainings.get(uow.session, self.project_id, training_id)

    def events(self, event_type: str) -> list[dict[str, Any]]:
        with self.database.unit_of_work() as uow:
            return list(uow.session.scalars(select(EventRow.data).where(EventRow.type == event_type).order_by(EventRow.seq)))
