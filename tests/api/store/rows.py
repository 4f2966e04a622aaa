"""Minimal rows for tests of the store."""

from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.specs import ClusterSettings
from api.domain.training_spec import TrainingSpec
from api.store import transitions
from api.store.tables import ClusterRow, NodeRow, ProjectRow, TrainingRow

CLUSTER_SETTINGS = ClusterSettings(architecture="transformer", daa_enabled=False, consensus="none", wasm_optimization=False)


def make_project(session: Session) -> str:
    project = ProjectRow(id=ids.project_id(), name=ids.random_part())
    session.add(project)
    session.flush()
    return project.id


def make_cluster(session: Session, project_id: str) -> ClusterRow:
    row = ClusterRow(
        id=ids.cluster_id(),
        project_id=project_id,
        name="c",
        topology="mesh",
        config=CLUSTER_SETTINGS,
        status="initializing",
    )
    transitions.created(session, row)
    return row


def make_node(session: Session, cluster: ClusterRow, role: str = "worker", **fields: Any) -> NodeRow:
    row = NodeRow(
        **{
            "id": ids.node_id(role, 1),
            "project_id": cluster.project_id,
            "cluster_id": cluster.id,
            "node_type": "worker" if role == "worker" else "parameter_server",
            "role": role,
            "model": "base",
            "template": "python",
            "autonomy": 0.5,
            "capabilities": ["training", "aggregation"],
            "status": "provisioning",
            "price_per_minute": Decimal("0.05"),
            **fields,
        }
    )
    transitions.created(session, row)
    return row


def make_training(session: Session, cluster: ClusterRow, aggregator: NodeRow, status: str = "pending") -> TrainingRow:
    row = TrainingRow(
        id=ids.training_id(True),
        project_id=cluster.project_id,
        cluster_id=cluster.id,
        status=status,
        config=TrainingSpec(dataset="/data/train*.json", epochs=4),
        model="base",
        workers=[],
        aggregator_id=aggregator.id,
    )
    transitions.created(session, row)
    return row
