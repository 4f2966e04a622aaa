"""Agents that die again and again in the same round, for example because it needs too much memory.

A dead agent is started again and repeats its work. Without a bound it would do so for ever.
"""

from api.domain.records import FailureReason
from api.services.lookup import locked_cluster
from api.store import leases
from api.store.tables import RoundRow, TrainingRow
from workers.steps.rounds.context import RoundContext
from workers.steps.rounds.observation import RoundObservation
from workers.steps.shared.failure import MOST_FAILURES, agents_died


def give_up(this: RoundContext, observation: RoundObservation) -> dict[str, FailureReason]:
    """Count the agents that stopped answering in this step, and return those to give up.

    A worker that is given up has failed in this round. The next round asks it again.
    """
    silent = dict.fromkeys(observation.unreachable)
    if observation.aggregate is None:
        silent[this.aggregator.node_id] = None
    if not silent:
        return {}
    spent = _count(this, list(silent))
    nodes = [node for node in (*this.training.workers, this.aggregator) if node.node_id in spent]
    reasons = {node.node_id: agents_died(this.context, [node], f"round {this.number}") for node in nodes}
    for node_id, reason in reasons.items():
        if node_id in observation.unreachable:
            observation.set_failed(node_id, f"{reason.detail} ({reason.code})")
    return reasons


def _count(this: RoundContext, node_ids: list[str]) -> set[str]:
    """Add one death for each node. Return the nodes that have died too often in this round."""
    with this.context.database.unit_of_work() as uow:
        locked_cluster(uow.session, this.training.cluster_id)
        leases.held(uow.session, TrainingRow, this.training.training_id, this.token)
        row = uow.session.get_one(RoundRow, (this.training.training_id, this.number))
        row.agent_deaths = {**row.agent_deaths, **{node_id: row.agent_deaths.get(node_id, 0) + 1 for node_id in node_ids}}
        return {node_id for node_id in node_ids if row.agent_deaths[node_id] >= MOST_FAILURES}
