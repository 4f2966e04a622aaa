"""One round: workers train and push, the aggregator averages and publishes, the new model is evaluated.

Anything may die at any moment, and no round is lost or counted twice:

- The aggregator's agent dies: it is started again, finds the round's base on its disk, and collects anew. Workers that are
  done send their updates again without training (`TrainRound.resend`).
- The aggregator's sandbox is gone: its node gets a new one (`steps.nodes`), which pulls the round's base from a worker. A base
  of before the first round is made anew: the same seed gives the same weights.
- Round n is published and not yet recorded: the aggregator answers the same report again, and it is recorded then. If the
  aggregator is lost before that, the round is repeated from its base, which workers keep until they have the model after the
  next one (`Worker.need`).
- Round n is recorded only once at least one worker holds its model, so that what `epoch` counts can always be gone on from.
- An exchange over the workers breaks (mesh, ring, hierarchical): the aggregator gives it up for the star in the same round and
  asks every worker for its own update.
- Under consensus `raft` an aggregator whose sandbox is gone gets no new one: a worker is promoted (`steps.promotion`), and
  round n is recorded only once most workers hold its model.
- A worker stops answering: the round waits for as long as its node's step says that it may come back, then goes on without it.
- A worker declines the round (autonomy 0.8): the round goes on without it at once, and it is asked again for the next one.
"""

import logging
import math
from dataclasses import replace
from typing import Any

from api.domain import strategies
from api.domain.consensus import majority
from api.domain.specs import LEAST_SECURE
from api.store.tables import TrainingRow
from workers.agent_client import AgentRefusedError
from workers.context import Context
from workers.steps import nodes
from workers.steps.rounds import promotion
from workers.steps.rounds.agents import poll_round
from workers.steps.rounds.observation import is_hopeless
from workers.steps.rounds.plan import open_round
from workers.steps.rounds.record import record
from workers.steps.shared.lease import act
from workers.steps.shared.training_snapshot import TrainingSnapshot, end, wait_and_retry

log = logging.getLogger(__name__)
_REFUSALS = 5
_OUT = ("failed", "declined", "not_sampled")


def run(context: Context, job: TrainingSnapshot, token: str) -> None:
    """Start the next round, or go on with the one in hand; at most one long poll long."""
    number = job.completed_rounds + 1
    quorum = _quorum(context, job)
    raft = job.cluster_config["consensus"] == "raft"
    if job.aggregator is None and not job.aggregator_returns and raft:
        promotion.promote(context, job, token)
        return
    if job.aggregator is None and not job.aggregator_returns:
        end(context, job, token, "failed", _error("aggregator_lost", f"The aggregator {job.aggregator_id} is lost."))
        return
    least = max(quorum, LEAST_SECURE) if job.config["secure_aggregation"] else quorum
    if len(job.workers) + len(job.recovering) < least:
        detail = f"{len(job.workers)} of {len(job.planned_workers)} workers are left; a round needs {least}."
        end(context, job, token, "failed", _error("quorum_lost", detail))
        return
    aggregator = job.aggregator
    if aggregator is None or not job.workers:
        wait_and_retry(context, job, token)
        return
    states, kind = open_round(context, job, token, number)
    present = replace(
        job,
        workers=tuple(member for member in job.workers if states.get(member.node_id) not in _OUT),
        recovering=tuple(member for member in job.recovering if states.get(member.node_id) not in _OUT),
        idle=tuple(member for member in job.workers if states.get(member.node_id) in _OUT),
    )
    here = {member.node_id for member in (*present.workers, *present.recovering)}
    gone = [node_id for node_id, state in states.items() if state == "training" and node_id not in here]
    out = [node_id for node_id, state in states.items() if state in ("failed", "declined")]
    # What most workers hold, an election cannot lose.
    copies = majority(len(job.planned_workers)) if raft else 1
    try:
        outcome = act(
            context,
            TrainingRow,
            job.training_id,
            token,
            lambda: poll_round(context, present, aggregator, number, quorum, kind, gone, out),
        )
    except AgentRefusedError as refusal:
        if job.attempts < _REFUSALS or job.recovering:
            raise
        end(context, job, token, "failed", _error(refusal.code, f"{aggregator.node_id}: {refusal.message}"))
        return
    for node_id, reason in outcome.unreachable.items():
        nodes.mark_lost(context, node_id, reason)
    if outcome.aggregate is None:
        nodes.mark_lost(context, aggregator.node_id, "its agent stopped answering")
        wait_and_retry(context, job, token)
    elif outcome.aggregate.state == "done" and len(outcome.copies) < copies:
        log.warning("%s: %d workers have a copy of round %d", job.training_id, len(outcome.copies), number)
        wait_and_retry(context, job, token)
    elif is_hopeless(outcome.aggregate):
        problem = outcome.aggregate.problem
        record(context, job, token, number, outcome)
        error = _error(problem.code, problem.message) if problem else _error("round_failed", "The aggregator gave no reason.")
        end(context, job, token, "failed", error)
    else:
        record(context, job, token, number, outcome)


def _quorum(context: Context, job: TrainingSnapshot) -> int:
    """The fewest updates that make a round: a share of those drawn, and what the strategy needs."""
    share = job.config["quorum"] or context.settings.round_quorum
    least = strategies.least_updates(job.config["strategy"], job.strategy_spec.model_dump(exclude={"name"}, exclude_none=True))
    return max(1, least, math.ceil(share * job.drawn_per_round))


def _error(code: str, detail: str) -> dict[str, Any]:
    return {"code": code, "detail": detail}
