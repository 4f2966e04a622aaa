"""A training: check the data, then round after round, each a step of its own, until it is done or told to stop."""

import asyncio
import logging
from functools import partial

from api.store import leases
from api.store.tables import TrainingRow
from workers.agent_client import AgentCallError
from workers.context import Context
from workers.steps.rounds import preparation, run
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of
from workers.steps.shared.training_snapshot import TrainingSnapshot, end, load

log = logging.getLogger(__name__)
_INTERRUPT_TIMEOUT_S = 5.0


def advance(context: Context, training_id: str) -> None:
    """Do whatever the training wants next."""
    under_lease(context, TrainingRow, training_id, partial(_advance, context, training_id))


def _advance(context: Context, training_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        job = load(uow.session, leases.held(uow.session, TrainingRow, training_id, token))
    if job.status == "pending":
        preparation.prepare(context, job, token)
    elif job.status == "training" and (job.stop_reason or job.completed_rounds >= job.total_rounds):
        end(context, job, token, "completed")
    elif job.status == "training":
        run.run(context, job, token)
    elif job.status == "stopping":
        act(context, TrainingRow, training_id, token, lambda: _stop_agents(context, job))
        end(context, job, token, "stopped")
    else:
        with context.database.unit_of_work() as uow:
            leases.release(leases.held(uow.session, TrainingRow, training_id, token), None)


def interrupt(context: Context, training_id: str) -> None:
    """Tell the agents of a stopping training to give up their round, so that whoever polls them sees it at once."""
    with context.database.unit_of_work() as uow:
        training = uow.session.get(TrainingRow, training_id)
        if training is None or training.status != "stopping":
            return
        job = load(uow.session, training)
    asyncio.run(_stop_agents(context, job))


async def _stop_agents(context: Context, job: TrainingSnapshot) -> None:
    members = [*job.workers, *([job.aggregator] if job.aggregator else [])]
    await asyncio.gather(*(_stop_agent(context, member, job.training_id) for member in members))


async def _stop_agent(context: Context, member: NodeSnapshot, training_id: str) -> None:
    try:
        async with asyncio.timeout(_INTERRUPT_TIMEOUT_S), agent_of(context, member) as agent:
            await agent.stop(training_id)
    except (AgentCallError, TimeoutError) as error:
        log.info("%s did not hear the stop of %s: %s", member.node_id, training_id, error)
