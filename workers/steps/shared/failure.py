"""Why a step failed, and whether its row is the cause.

Work that waits for an absent part is retried for as long as the part is away. Work that fails for
a cause of its own is retried `MOST_FAILURES` times. Then its row fails with the reason.
"""

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.domain.records import FailureReason
from api.domain.sandboxes import SandboxError, SandboxUnavailableError
from workers import metrics
from workers.agent_client import AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps.shared.node_snapshot import NodeSnapshot

log = logging.getLogger(__name__)
MOST_FAILURES = 5
_LIMITS_TIMEOUT_S = 5.0
# Classes of SQLSTATE that tell of the server and not of the statement: connection, transaction
# rollback, resources, object in use and operator intervention (a shutdown, not a timeout).
_SERVER_STATES = ("08", "40", "53", "55", "57P")


class AgentDiedError(Exception):
    """Agents stopped answering while they did a row's work. Their nodes bring them back."""

    def __init__(self, nodes: Sequence[NodeSnapshot], work: str) -> None:
        super().__init__(f"{', '.join(node.node_id for node in nodes)} stopped answering during {work}")
        self.nodes = tuple(nodes)
        self.work = work


class StepFailedError(Exception):
    """A step failed for a cause that it knows. It may be tried again."""

    def __init__(self, reason: FailureReason) -> None:
        super().__init__(f"{reason.code}: {reason.detail}")
        self.reason = reason


def absent_part(error: Exception) -> metrics.AbsentPart | None:
    """Return the part that is away. None where the row is the cause of the error."""
    match error:
        case SandboxUnavailableError():
            return "sandboxes"
        case AgentUnreachableError():
            return "agent"
        case PoolTimeoutError() | InterfaceError():
            return "database"
        case DBAPIError():
            state = getattr(error.orig, "sqlstate", None)
            is_away = error.connection_invalidated or state is None or state.startswith(_SERVER_STATES)
            return "database" if is_away else None
        case _:
            return None


def describe(context: Context, error: Exception) -> FailureReason:
    """Return the reason for a client.

    It never quotes data, so an unknown error gives its type only.
    """
    match error:
        case StepFailedError():
            return error.reason
        case AgentDiedError():
            return agents_died(context, error.nodes, error.work)
        case AgentRefusedError():
            return FailureReason(code=error.code, detail=error.message)
        case SandboxError():
            return FailureReason(code="sandbox_failed", detail=f"{error}.")
        case _:
            detail = f"The step failed {MOST_FAILURES} times for a cause of its own ({type(error).__name__})."
            return FailureReason(code="step_failed", detail=detail)


def agents_died(context: Context, nodes: Sequence[NodeSnapshot], work: str) -> FailureReason:
    """Return the reason `agent_died`, with the limits that the agents' sandboxes have reached."""
    causes = context.network.run(_limits_reached(context, nodes))
    named = "; ".join(f"{node.node_id} (sandbox {node.sandbox_id}){cause}" for node, cause in zip(nodes, causes, strict=True))
    return FailureReason(code="agent_died", detail=f"The agent stopped answering {MOST_FAILURES} times during {work}: {named}.")


async def _limits_reached(context: Context, nodes: Sequence[NodeSnapshot]) -> list[str]:
    return list(await asyncio.gather(*(_limit_reached(context, node) for node in nodes)))


async def _limit_reached(context: Context, node: NodeSnapshot) -> str:
    """Return `, limit_hits: memory` where the sandbox reached its limit of memory, else nothing."""
    try:
        async with asyncio.timeout(_LIMITS_TIMEOUT_S):
            hits = await context.provider.limit_hits(node.sandbox_id)
    except (SandboxError, TimeoutError) as error:
        log.info("%s: the limits of its sandbox are not known: %s", node.node_id, type(error).__name__)
        return ""
    # A timeout or too much output ends a command of a user, never the agent.
    limits = sorted({hit.limit for hit in hits or () if hit.limit not in ("timeout", "output")})
    for limit in limits:
        metrics.SANDBOX_LIMITS.labels(limit).inc()
    return f", limit_hits: {', '.join(limits)}" if limits else ""
