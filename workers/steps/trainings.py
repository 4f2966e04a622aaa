"""A training: check the data, then run one round after the other. Each is a step of its own."""

import asyncio
import logging
from functools import partial

from api.store import leases
from api.store.tables import TrainingRow
from workers.agent_client import AgentCallError
from workers.context import Context
from workers.steps.rounds import graphs, preparation, run
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of
from workers.steps.shared.training_snapshot import TrainingSnapshot, end_training, fail_training, load

log = logging.getLogger(__name__)
_INTERRUPT_TIMEOUT_S = 5.0


def advance(context: Context, training_id: str) -> None:
    """Do the training's next step."""
    fail = partial(fail_training, context, training_id)
    under_lease(context, TrainingRow, training_id, partial(_advance, context, training_id), fail)


def _advance(context: Context, training_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        training = load(uow.session, leases.held(uow.session, TrainingRow, training_id, token))
    is_over = training.stop_reason is not None or training.completed_rounds >= training.spec.total_rounds
    if training.status == "pending":
        preparation.prepare(context, training, token)
    elif training.status == "training" and is_over:
        if training.cluster.wasm_optimization and training.completed_rounds:
            act(context, TrainingRow, training_id, token, lambda: graphs.make_graphs(context, training))
        end_training(context, training, token, "completed")
    elif training.status == "training":
        run.run(context, training, token)
    elif training.status == "stopping":
        act(context, TrainingRow, training_id, token, lambda: _stop_agents(context, training))
        end_training(context, training, token, "stopped")
    else:
        with context.database.unit_of_work() as uow:
            leases.release(leases.held(uow.session, TrainingRow, training_id, token), None)


def interrupt(context: Context, training_id: str) -> None:
    """Stop the agents of a training that is being stopped.

    The step that polls them then sees the end at once.
    """
    with context.database.unit_of_work() as uow:
        row = uow.session.get(TrainingRow, training_id)
        if row is None or row.status != "stopping":
            return
        training = load(uow.session, row)
    context.network.run(_stop_agents(context, training))


async def _stop_agents(context: Context, training: TrainingSnapshot) -> None:
    nodes = [*training.workers, *([training.aggregator] if training.aggregator is not None else [])]
    await asyncio.gather(*(_stop_agent(context, node, training.training_id) for node in nodes))


async def _stop_agent(context: Context, node: NodeSnapshot, training_id: str) -> None:
    try:
        async with asyncio.timeout(_INTERRUPT_TIMEOUT_S):
            agent = await agent_of(context, node)
            await agent.stop(training_id)
    except (AgentCallError, TimeoutError) as error:
        log.info("%s was not reached to stop %s: %s", node.node_id, training_id, error)
