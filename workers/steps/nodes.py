"""A node's life: create its sandbox, start its agent, see that it answers; bring it back when lost; end it at the provider."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import func, select

from api.domain.sandboxes import SandboxError, SandboxInfo, SandboxNotFoundError, SandboxSpec
from api.domain.steps import Step
from api.services import nodes
from api.services.lookup import locked_cluster
from api.store import events, leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, NodeRow
from workers.agent.protocol.admin import SELF_RESTART_LEVEL, AgentConfig, AgentHealth
from workers.agent.protocol.common import Autonomy
from workers.agent_client import AgentCallError, ClusterKeys
from workers.context import Context
from workers.steps.shared import elections
from workers.steps.shared.deployment import metadata
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of

log = logging.getLogger(__name__)
_CONFIG_PATH = "/run/flow-nexus/agent.json"
_AGENT_COMMAND = f"exec python -m workers.agent --config {_CONFIG_PATH}"
_HEALTH_WAIT_S = 15.0
_HEALTH_EVERY_S = 0.2
_RESTART_AFTER = timedelta(seconds=45)
# A model that its sandbox cannot hold would otherwise be given one after the other for ever.
_MOST_REPLACEMENTS = 5


@dataclass(frozen=True, slots=True)
class _NodePlan:
    node_id: str
    cluster_id: str
    role: str
    template: str
    status: str
    sandbox_id: str | None
    start_agent: bool
    give_up: bool
    generation: int
    autonomy: Autonomy


@dataclass(frozen=True, slots=True)
class _StartResult:
    info: SandboxInfo
    started_agent: bool
    health: AgentHealth | None


def advance(context: Context, node_id: str) -> None:
    """Bring a provisioning or lost node to `running`, or say why it cannot."""
    under_lease(context, NodeRow, node_id, partial(_advance, context, node_id))


def _advance(context: Context, node_id: str, token: str) -> None:
    plan = _load(context, node_id, token)
    if plan is None:
        return
    try:
        outcome = act(context, NodeRow, node_id, token, lambda: _bring_up(context, plan))
    except SandboxNotFoundError:
        _gone(context, plan, token)
    except SandboxError as error:
        if not plan.give_up:
            raise
        _fail(context, plan, token, "sandbox_failed", str(error))
    else:
        if outcome.health is None and plan.give_up:
            _fail(context, plan, token, "agent_not_ready", "The node's agent did not answer in time.")
        else:
            _apply(context, plan, token, outcome)


def _load(context: Context, node_id: str, token: str) -> _NodePlan | None:
    with context.database.unit_of_work() as uow:
        node = leases.held(uow.session, NodeRow, node_id, token)
        if node.status == "terminating":
            # Its end was asked for while this step was on its way.
            leases.release(node, 0)
            uow.enqueue(Step.NODES_TERMINATE, node.id)
            return None
        if node.status not in ("provisioning", "lost") or (node.status == "lost" and node.ended_at is not None):
            leases.release(node, None)
            return None
        now: datetime = uow.session.execute(select(func.clock_timestamp())).scalar_one()
        since = node.agent_started_at if node.status == "lost" else node.requested_at
        limit = timedelta(seconds=context.settings.node_start_timeout_s)
        return _NodePlan(
            node_id=node.id,
            cluster_id=node.cluster_id,
            role=node.role,
            template=node.template,
            status=node.status,
            sandbox_id=node.sandbox_id,
            start_agent=node.agent_started_at is None or now - node.agent_started_at > _RESTART_AFTER,
            generation=len(node.former_sandboxes),
            autonomy=_autonomy(uow.session.get_one(ClusterRow, node.cluster_id), node),
            give_up=since is not None and now - since > limit and node.attempts > 2,
        )


async def _bring_up(context: Context, plan: _NodePlan) -> _StartResult:
    if plan.sandbox_id is None:
        info = await context.provider.create(
            SandboxSpec(
                key=_key(plan),
                template=plan.template,
                timeout_s=context.settings.sandbox_timeout_s,
                metadata=metadata(context.settings, cluster_id=plan.cluster_id, node_id=plan.node_id),
            )
        )
    else:
        info = await context.provider.get(plan.sandbox_id)
    member = NodeSnapshot(plan.node_id, plan.cluster_id, info.sandbox_id, plan.role, plan.status, 0.0, ())
    health = None if plan.sandbox_id is None else await _health(context, member, 0.0)
    start = health is None and plan.start_agent
    if start:
        await _start_agent(context, member, plan.autonomy)
    return _StartResult(info, start, health or await _health(context, member, _HEALTH_WAIT_S))


def _key(plan: _NodePlan) -> str:
    """Names this sandbox of the node: a provider may remember the keys of those before it."""
    return plan.node_id.replace("_", "-") + (f"-{plan.generation}" if plan.generation else "")


def _autonomy(cluster: ClusterRow, node: NodeRow) -> Autonomy:
    return Autonomy(enabled=cluster.config["daa_enabled"], level=node.autonomy)


async def _start_agent(context: Context, member: NodeSnapshot, autonomy: Autonomy) -> None:
    config = AgentConfig(
        node_id=member.node_id,
        role=member.role,
        key=ClusterKeys(context.settings.secret_key, member.cluster_id).key(member.node_id),
        autonomy=autonomy,
    )
    await context.provider.upload(member.sandbox_id, _CONFIG_PATH, _once(config.model_dump_json().encode()), mode=0o600)
    await context.provider.start(member.sandbox_id, _AGENT_COMMAND)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _health(context: Context, member: NodeSnapshot, wait_s: float) -> AgentHealth | None:
    end = time.monotonic() + wait_s
    while True:
        try:
            async with agent_of(context, member) as agent:
                return await agent.health()
        except AgentCallError:
            if time.monotonic() >= end:
                return None
        await asyncio.sleep(_HEALTH_EVERY_S)


def _apply(context: Context, plan: _NodePlan, token: str, outcome: _StartResult) -> None:
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, plan.cluster_id)
        node = leases.held(uow.session, NodeRow, plan.node_id, token)
        node.sandbox_id = outcome.info.sandbox_id
        node.started_at = node.started_at or outcome.info.started_at
        node.sandbox_expires_at = outcome.info.end_at
        if outcome.started_agent:
            node.agent_started_at = func.clock_timestamp()
        if node.status not in ("provisioning", "lost"):
            leases.release(node, 0)
            uow.enqueue(Step.NODES_TERMINATE, node.id)
            return
        if outcome.health is None:
            leases.release(node, 0)
            uow.enqueue(Step.NODES_ADVANCE, node.id)
            return
        node.resources = {
            "cpu_cores": outcome.health.cpu_cores,
            "memory_gb": outcome.health.memory_gb,
            "gpu": outcome.health.gpu,
        }
        transitions.move(uow.session, node, "running", role=node.role, sandbox_id=node.sandbox_id)
        leases.release(node, None)


def _gone(context: Context, plan: _NodePlan, token: str) -> None:
    """The provider no longer has the sandbox: what it cost ends now, and its node is lost for good."""
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, plan.cluster_id)
        node = leases.held(uow.session, NodeRow, plan.node_id, token)
        node.ended_at = func.clock_timestamp()
        detail = "The node's sandbox no longer exists at its provider."
        if node.role != "aggregator":
            detail += " Redeploy the node and upload its data again to have it back."
        error = {"code": "sandbox_gone", "detail": detail}
        node.error = error
        if node.status == "terminating":
            leases.release(node, 0)
        elif node.status == "provisioning":
            transitions.move(uow.session, node, "failed", error=error)
            leases.release(node, None)
        else:
            _lost_for_good(uow, node, error)


def _lost_for_good(uow: UnitOfWork, node: NodeRow, error: dict[str, Any]) -> None:
    """An aggregator holds nothing that its workers do not have: it gets a new sandbox at once. A worker's data is its owner's
    to upload: the training goes on with the others, and the event says what would bring it back. Under `raft` a running
    training elects another aggregator instead."""
    events.emit(uow.session, node.cluster_id, "node.gone", {"node_id": node.id, "role": node.role, **error})
    leases.release(node, None)
    if node.role == "aggregator" and (training_id := elections.awaited(uow.session, node)) is not None:
        uow.enqueue(Step.TRAININGS_ADVANCE, training_id)
    elif node.role == "aggregator" and len(node.former_sandboxes) < _MOST_REPLACEMENTS:
        nodes.give_new_sandbox(uow, node, "its sandbox is gone; the newest model comes from a worker")


def _fail(context: Context, plan: _NodePlan, token: str, code: str, detail: str) -> None:
    """Give up a node. Its sandbox is ended first, so that nothing goes on costing."""
    log.warning("%s: %s: %s", plan.node_id, code, detail)
    asyncio.run(_kill_all(context, plan.node_id, plan.sandbox_id))
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, plan.cluster_id)
        node = leases.held(uow.session, NodeRow, plan.node_id, token)
        node.error = {"code": code, "detail": detail}
        node.ended_at = func.clock_timestamp() if node.started_at is not None else None
        if node.status == "terminating":
            leases.release(node, 0)
        elif node.status == "provisioning":
            transitions.move(uow.session, node, "failed", error=node.error)
            leases.release(node, None)
        else:
            _lost_for_good(uow, node, {"code": code, "detail": detail})


def terminate(context: Context, node_id: str) -> None:
    """End a node's sandbox at its provider, then say so."""
    under_lease(context, NodeRow, node_id, partial(_terminate, context, node_id))


def _terminate(context: Context, node_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        node = leases.held(uow.session, NodeRow, node_id, token)
        if node.status != "terminating":
            leases.release(node, None)
            return
        cluster_id, sandbox_id = node.cluster_id, node.sandbox_id
    act(context, NodeRow, node_id, token, lambda: _kill_all(context, node_id, sandbox_id))
    with context.database.unit_of_work() as uow:
        cluster = locked_cluster(uow.session, cluster_id)
        node = leases.held(uow.session, NodeRow, node_id, token)
        if node.started_at is not None and node.ended_at is None:
            node.ended_at = func.clock_timestamp()
        transitions.move(uow.session, node, "terminated")
        leases.release(node, None)
        if cluster.status == "terminating":
            leases.wake(cluster)
            uow.enqueue(Step.CLUSTERS_ADVANCE, cluster.id)


async def _kill_all(context: Context, node_id: str, sandbox_id: str | None) -> None:
    """Kill the node's sandbox, and any other that carries its name: a creation whose answer never reached us."""
    found = await context.provider.list(metadata(context.settings, node_id=node_id))
    for known in {info.sandbox_id for info in found} | ({sandbox_id} if sandbox_id else set()):
        await context.provider.kill(known)


def mark_lost(context: Context, node_id: str, reason: str) -> None:
    """A running node that stopped answering: say so, and have its step look whether it can come back."""
    with context.database.unit_of_work() as uow:
        cluster_id = uow.session.execute(select(NodeRow.cluster_id).where(NodeRow.id == node_id)).scalar_one()
        cluster = locked_cluster(uow.session, cluster_id)
        node = uow.session.execute(select(NodeRow).where(NodeRow.id == node_id).with_for_update()).scalar_one()
        if node.status != "running":
            return
        transitions.move(uow.session, node, "lost", reason=reason)
        # The agent is restarted at once, or first by its own watchdog where it has one, and given up when it has not come back
        # within the start timeout.
        own = _autonomy(cluster, node).allows(SELF_RESTART_LEVEL)
        node.agent_started_at = func.clock_timestamp() - (timedelta(0) if own else _RESTART_AFTER + timedelta(seconds=1))
        leases.wake(node)
        uow.enqueue(Step.NODES_ADVANCE, node.id)
