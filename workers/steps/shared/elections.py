"""Whether a lost aggregator will be replaced by an election among the workers."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.store.tables import ClusterRow, NodeRow, TrainingRow


def training_that_elects(session: Session, node: NodeRow) -> str | None:
    """Return the running training that will elect another aggregator in place of this one.

    None without one.
    """
    cluster = session.get_one(ClusterRow, node.cluster_id)
    if cluster.config.consensus != "raft":
        return None
    return session.scalar(select(TrainingRow.id).where(TrainingRow.aggregator_id == node.id, TrainingRow.status == "training"))
