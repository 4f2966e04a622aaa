"""One round, told once: plan it, train and aggregate, replicate and evaluate the model, record it.

Any part may die at any moment. No round is lost, and none is counted twice:

- The aggregator's agent dies. It is started again, finds the round's base model on its disk and
  collects again. Workers that are done send their updates again without training
  (`TrainRound.resend`).
- The aggregator's sandbox is gone. Its node gets a new one (`steps.nodes`). The new agent pulls
  the base model from a worker. Before the first round it makes the base again from the seed.
- Round n is published and not yet recorded. The aggregator answers the same report again, and the
  step records it then. If the aggregator is lost before that, the round is repeated from its base.
  Workers keep that base until they have the model of the round after.
- Round n is recorded only once at least one worker holds its model. So training can always
  continue from what `epoch` counts.
- An exchange between workers breaks (mesh, ring, hierarchical). The aggregator falls back to the
  star in the same round, and asks every worker for its own update.
- Under consensus `raft`, an aggregator whose sandbox is gone gets no new one. A worker is promoted
  (`rounds.promotion`). Round n is recorded only once most workers hold its model.
- A worker stops answering. The round waits while the node's step says that it may come back. Then
  it continues without the worker.
- A worker that joins dies before it counts as one. The round begins without it.
- A worker declines the round (autonomy 0.8). The round continues without it at once. The next
  round asks it again.
"""

import logging
import math
from dataclasses import replace

from sqlalchemy import select

from api.domain import round_failure
from api.domain.consensus import majority
from api.domain.records import FailureReason
from api.domain.red_flags import ObservedWorker
from api.domain.training_spec import LEAST_SECURE
from api.services import lost_nodes
from api.services.lookup import locked_cluster
from api.store import leases
from api.store.tables import RoundNodeRow, TrainingRow
from workers.agent.protocol.common import AgentProblem
from workers.agent_client import AgentRefusedError
from workers.context import Context
from workers.steps import nodes
from workers.steps.rounds import deaths, joining, promotion
from workers.steps.rounds.agents import train_and_aggregate
from workers.steps.rounds.context import RoundContext
from workers.steps.rounds.observation import RoundObservation
from workers.steps.rounds.plan import open_round
from workers.steps.rounds.publish import evaluate_model, replicate_model
from workers.steps.rounds.record import record
from workers.steps.rounds.requests import RoundPeers
from workers.steps.shared import red_flags
from workers.steps.shared.lease import act
from workers.steps.shared.node_snapshot import NodeSnapshot
from workers.steps.shared.training_snapshot import TrainingSnapshot, end_training, wait_and_retry

log = logging.getLogger(__name__)
_RESUME = "Then resume the training."


def run(context: Context, training: TrainingSnapshot, token: str) -> None:
    """Start the next round, or continue the open one. It takes at most one long poll.

    Workers that have joined since take part from the next round on (`rounds.joining`).
    """
    aggregator = training.aggregator
    if training.may_join and aggregator is not None and joining.admit(context, training, token, aggregator):
        return
    aggregator = _ready_aggregator(context, training, token)
    if aggregator is None:
        return
    this = _plan(context, training, token, aggregator)
    try:
        observation = act(context, TrainingRow, training.training_id, token, lambda: _observe(this))
    except AgentRefusedError as refusal:
        if this.training.recovering:
            log.warning("%s: %s", training.training_id, refusal)
            wait_and_retry(context, training, token)
            return
        raise AgentRefusedError(refusal.code, f"{aggregator.node_id}: {refusal.message}") from refusal
    _conclude(this, observation)


def _ready_aggregator(context: Context, training: TrainingSnapshot, token: str) -> NodeSnapshot | None:
    """The aggregator, if a round can run now. Else the training waits, elects another, or fails."""
    if training.aggregator is None and not training.aggregator_recovers:
        if training.cluster.consensus == "raft":
            promotion.promote(context, training, token)
        else:
            detail = f"The aggregator is gone. {lost_nodes.of([training.aggregator_id])} {_RESUME}"
            end_training(context, training, token, "failed", FailureReason(code="aggregator_lost", detail=detail))
        return None
    quorum = _quorum(context, training)
    least = max(quorum, LEAST_SECURE) if training.spec.secure_aggregation else quorum
    left = len(training.workers)
    if left + len(training.recovering) < least:
        here = {node.node_id for node in (*training.workers, *training.recovering)}
        gone = lost_nodes.of([node_id for node_id in training.planned_workers if node_id not in here])
        detail = f"{left} of {len(training.planned_workers)} workers are left; a round needs {least}. {gone} {_RESUME}"
        end_training(context, training, token, "failed", FailureReason(code="quorum_lost", detail=detail))
        return None
    if training.aggregator is None or not training.workers:
        wait_and_retry(context, training, token)
        return None
    return training.aggregator


def _plan(context: Context, training: TrainingSnapshot, token: str, aggregator: NodeSnapshot) -> RoundContext:
    """Open the round: its number, its workers and its data path are written down once."""
    number = training.completed_rounds + 1
    opened = open_round(context, training, token, number)
    inside = [node for node in (*training.workers, *training.recovering) if opened.includes(node.node_id)]
    present = replace(
        training,
        workers=tuple(node for node in training.workers if opened.includes(node.node_id)),
        recovering=tuple(node for node in training.recovering if opened.includes(node.node_id)),
        idle=tuple(node for node in training.workers if not opened.includes(node.node_id)),
    )
    return RoundContext(
        context=context,
        training=present,
        token=token,
        aggregator=aggregator,
        number=number,
        quorum=_quorum(context, training),
        data_path=opened.data_path,
        lost=opened.lost({node.node_id for node in inside}),
        excluded=opened.excluded,
    )


async def _observe(this: RoundContext) -> RoundObservation:
    """Train and aggregate, then replicate and evaluate the new model. A repeated call continues."""
    observation = RoundObservation(this.lost)
    peers = await RoundPeers.reach(this, observation)
    if peers.aggregator is None:
        return observation
    await train_and_aggregate(this, peers, observation)
    if observation.is_done:
        await replicate_model(this, peers, observation)
        await evaluate_model(this, peers, observation)
    return observation


def _conclude(this: RoundContext, observation: RoundObservation) -> None:
    """Write down what was observed, and decide what comes next."""
    for node_id, reason in observation.unreachable.items():
        nodes.mark_lost(this.context, node_id, reason)
    if observation.aggregate is None:
        nodes.mark_lost(this.context, this.aggregator.node_id, "its agent stopped answering")
    given_up = deaths.give_up(this, observation)
    if observation.aggregate is None and this.aggregator.node_id in given_up:
        end_training(this.context, this.training, this.token, "failed", given_up[this.aggregator.node_id])
    elif observation.aggregate is None:
        wait_and_retry(this.context, this.training, this.token)
    elif observation.is_done and len(observation.copies) < _needed_copies(this):
        copies = len(observation.copies)
        log.warning("%s: %d workers have a copy of round %d", this.training.training_id, copies, this.number)
        wait_and_retry(this.context, this.training, this.token)
    else:
        record(this, observation)
        if observation.has_failed_for_good:
            _fail(this, observation.aggregate.problem)


def _quorum(context: Context, training: TrainingSnapshot) -> int:
    """The fewest updates that make a round: a share of those drawn, and what the strategy needs."""
    share = training.spec.quorum or context.settings.round_quorum
    return max(1, training.spec.least_updates, math.ceil(share * training.drawn_per_round))


def _needed_copies(this: RoundContext) -> int:
    """How many workers must hold a model before its round is recorded.

    Under `raft` it is a majority: an election cannot lose what a majority holds.
    """
    return majority(len(this.training.planned_workers)) if this.training.cluster.consensus == "raft" else 1


def _fail(this: RoundContext, problem: AgentProblem | None) -> None:
    """End a training whose round has failed for good. Its error and a red flag name the cause."""
    found = FailureReason(code="round_failed", detail="The aggregator gave no reason.")
    if problem is not None:
        found = FailureReason(code=problem.code, detail=problem.message)
    with this.context.database.unit_of_work() as uow:
        session = uow.session
        locked_cluster(session, this.training.cluster_id)
        row = leases.held(session, TrainingRow, this.training.training_id, this.token)
        workers = session.scalars(
            select(RoundNodeRow).where(RoundNodeRow.training_id == row.id, RoundNodeRow.number == this.number)
        )
        states = {worker.node_id: ObservedWorker(worker.state, worker.local_loss, worker.reason) for worker in workers}
        reason, flag = round_failure.explain(this.spec, this.number, found, states)
        red_flags.add_failure(session, row, flag)
    end_training(this.context, this.training, this.token, "failed", reason)
