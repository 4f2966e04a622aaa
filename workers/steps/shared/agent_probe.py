"""Whether the agents of running nodes can be reached from the control plane.

A node that is not in use would otherwise show `running` for as long as nobody calls it. A probe
that fails twice is written into the node as its `error`. The next one that passes removes it. The
node is not given up: only work that needs it does that, because its sandbox has its data.
"""

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy import select

from api.domain.records import FailureReason
from api.store.tables import NodeRow
from workers.agent_client import AgentCallError, AgentUnreachableError
from workers.context import Context
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of

log = logging.getLogger(__name__)
UNREACHABLE = "agent_unreachable"
_ATTEMPTS = 2
_PAUSE_S = 2.0
_TOGETHER = 20


def probe(context: Context) -> None:
    """Call the agent of every running node, and write down which cannot be reached."""
    with context.database.unit_of_work() as uow:
        nodes = [NodeSnapshot.of(row) for row in uow.session.scalars(select(NodeRow).where(NodeRow.status == "running"))]
    silent = context.network.run(_silent(context, nodes))
    for node in nodes:
        _write(context, node, node.node_id in silent)


async def _silent(context: Context, nodes: Sequence[NodeSnapshot]) -> set[str]:
    limiter = asyncio.Semaphore(_TOGETHER)

    async def answers(node: NodeSnapshot) -> bool:
        async with limiter:
            for attempt in range(_ATTEMPTS):
                if attempt:
                    await asyncio.sleep(_PAUSE_S)
                try:
                    agent = await agent_of(context, node)
                    await agent.health()
                except AgentUnreachableError:
                    continue
                except AgentCallError:
                    pass  # It answers, so the call has passed.
                return True
            return False

    found = await asyncio.gather(*(answers(node) for node in nodes))
    return {node.node_id for node, is_reached in zip(nodes, found, strict=True) if not is_reached}


def _write(context: Context, node: NodeSnapshot, is_silent: bool) -> None:
    with context.database.unit_of_work() as uow:
        row = uow.session.execute(select(NodeRow).where(NodeRow.id == node.node_id).with_for_update()).scalar_one()
        is_marked = row.error is not None and row.error.code == UNREACHABLE
        if row.status != "running" or row.sandbox_id != node.sandbox_id or is_silent == is_marked:
            return
        if not is_silent:
            row.error = None
            return
        log.warning("%s: its agent cannot be reached, and its sandbox runs", node.node_id)
        detail = (
            "The sandbox runs, but calls to its agent do not pass. The next training or prediction restarts the agent. "
            "If all nodes say so, check the network and the proxy between the control plane and the sandbox provider."
        )
        row.error = FailureReason(code=UNREACHABLE, detail=detail)
