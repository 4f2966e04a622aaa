"""Create a node's sandbox, start its agent, watch it, bring it back when it is lost, and end it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import func, select

from api.domain.events import EventType
from api.domain.records import FailureReason
from api.domain.resources import NodeResources
from api.domain.sandboxes import (
    SandboxError,
    SandboxInfo,
    SandboxKeyError,
    SandboxNotFoundError,
    SandboxSpec,
    SandboxUnsupportedError,
)
from api.domain.steps import Step
from api.services import nodes
from api.services.lookup import locked_cluster
from api.store import events, leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, NodeRow
from workers import metrics
from workers.agent.protocol.admin import SELF_RESTART_LEVEL, AgentConfig, AgentHealth
from workers.agent.protocol.common import Autonomy
from workers.agent_client import AgentCallError, ClusterKeys
from workers.context import Context
from workers.steps.shared import elections
from workers.steps.shared.deployment import metadata
from workers.steps.shared.failure import StepFailedError
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of

log = logging.getLogger(__name__)
_CONFIG_PATH = "/run/flow-nexus/agent.json"
_AGENT_COMMAND = f"exec python -m workers.agent --config {_CONFIG_PATH}"
# The words by which an agent that waits for its configuration is known.
_WAITING_AGENT = "-m workers.agent --wait"
_NEXT_AGENT_S = 0.5
_HEALTH_WAIT_S = 15.0
_HEALTH_FIRST_S = 0.01
_HEALTH_EVERY_S = 0.2
_RESTART_AFTER = timedelta(seconds=45)
# An aggregator whose model does not fit into a sandbox would otherwise get new sandboxes for ever.
_MOST_REPLACEMENTS = 5
# An open request to the provider is reported after this time. A node must say why within 30 s.
_SLOW_PROVIDER_S = 20.0
# Errors that no retry can repair.
_PERMANENT_ERRORS = (SandboxKeyError, SandboxUnsupportedError)


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
    """`health` is None if the agent does not answer. `limits` is then a sentence or empty."""

    info: SandboxInfo
    started_agent: bool
    health: AgentHealth | None
    limits: str


def advance(context: Context, node_id: str) -> None:
    """Bring a provisioning or lost node to `running`, or record why it cannot run."""
    under_lease(context, NodeRow, node_id, partial(_advance, context, node_id), partial(_give_up, context, node_id))


def _advance(context: Context, node_id: str, token: str) -> None:
    plan = _load(context, node_id, token)
    if plan is None:
        return
    try:
        outcome = act(context, NodeRow, node_id, token, lambda: _bring_up(context, plan, token))
    except SandboxNotFoundError:
        _gone(context, plan, token)
    except SandboxError as error:
        # A lost node has data, so it is not given up while an operator may repair the provider.
        is_permanent = isinstance(error, _PERMANENT_ERRORS) and plan.status == "provisioning"
        if not plan.give_up and not is_permanent:
            _record_problem(context, plan, token, "sandbox_failed", str(error))
            raise
        _fail(context, plan, token, "sandbox_failed", str(error))
    else:
        if outcome.health is None and plan.give_up:
            _fail(context, plan, token, "agent_not_ready", f"The node's agent did not answer in time.{outcome.limits}")
        else:
            _apply(context, plan, token, outcome)


def _record_problem(context: Context, plan: _NodePlan, token: str, code: str, detail: str) -> None:
    """Show in a provisioning node why it does not run yet."""
    if plan.status != "provisioning":
        return
    with context.database.unit_of_work() as uow:
        node = leases.held(uow.session, NodeRow, plan.node_id, token)
        if node.status == "provisioning":
            node.error = FailureReason(code=code, detail=detail)


def _give_up(context: Context, node_id: str, token: str, reason: FailureReason) -> None:
    """Fail a node whose own step fails. A lost node's data is given up only after a longer time."""
    plan = _load(context, node_id, token)
    if plan is None:
        return
    if plan.status == "lost" and not plan.give_up:
        raise StepFailedError(reason)
    _fail(context, plan, token, reason.code, reason.detail)


def _load(context: Context, node_id: str, token: str) -> _NodePlan | None:
    with context.database.unit_of_work() as uow:
        node = leases.held(uow.session, NodeRow, node_id, token)
        if node.status == "terminating":
            # A client asked to terminate it after this step was enqueued.
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
            give_up=since is not None and now - since > limit and (node.attempts > 2 or node.failures > 2),
        )


async def _bring_up(context: Context, plan: _NodePlan, token: str) -> _StartResult:
    if plan.sandbox_id is None:
        info = await _create(context, plan, token)
    else:
        info = await context.provider.get(plan.sandbox_id)
    node = NodeSnapshot(plan.node_id, plan.cluster_id, info.sandbox_id, plan.role, plan.status, 0.0, ())
    health = None if plan.sandbox_id is None else await _health(context, node, 0.0)
    start = health is None and await _start_agent(context, node, plan)
    health = health or await _health(context, node, _HEALTH_WAIT_S)
    if start and health and plan.status == "lost":
        # The agent may have come back by itself. Then the file with its key is still there.
        await context.provider.remove(node.sandbox_id, _CONFIG_PATH)
    return _StartResult(info, start, health, "" if health else await _reached_limits(context, info.sandbox_id))


async def _create(context: Context, plan: _NodePlan, token: str) -> SandboxInfo:
    """Create the node's sandbox. Record in the node if that takes long."""
    spec = SandboxSpec(
        key=_key(plan),
        template=plan.template,
        timeout_s=context.settings.sandbox_timeout_s,
        metadata=metadata(context.settings, cluster_id=plan.cluster_id, node_id=plan.node_id),
    )
    creating = asyncio.ensure_future(context.provider.create(spec))
    try:
        done, _ = await asyncio.wait({creating}, timeout=_SLOW_PROVIDER_S)
        if not done:
            detail = f"The sandbox provider has not answered for {_SLOW_PROVIDER_S:.0f} s. The request is still open."
            await asyncio.to_thread(_record_problem, context, plan, token, "provider_slow", detail)
        return await creating
    finally:
        creating.cancel()


async def _reached_limits(context: Context, sandbox_id: str) -> str:
    """Return a sentence that names the limits that the sandbox reached; empty if none is known."""
    try:
        hits = await context.provider.limit_hits(sandbox_id)
    except SandboxError:
        return ""
    return f" The sandbox reached its limits: {', '.join(hit.limit for hit in hits)}." if hits else ""


def _key(plan: _NodePlan) -> str:
    """Name this sandbox of the node.

    A provider may remember the keys of the node's earlier sandboxes.
    """
    return plan.node_id.replace("_", "-") + (f"-{plan.generation}" if plan.generation else "")


def _autonomy(cluster: ClusterRow, node: NodeRow) -> Autonomy:
    return Autonomy(enabled=cluster.config.daa_enabled, level=node.autonomy)


async def _start_agent(context: Context, node: NodeSnapshot, plan: _NodePlan) -> bool:
    """Give an agent that waits its configuration. Where none waits, start one if it is time.

    Return whether it did either. The list of commands does not tell an agent that waits from one
    that waited and serves now.
    """
    is_waiting = await context.provider.is_running(node.sandbox_id, _WAITING_AGENT)
    if not is_waiting and plan.status == "lost":
        # Where agents are forked, the next one is there in a moment.
        await asyncio.sleep(_NEXT_AGENT_S)
        is_waiting = await context.provider.is_running(node.sandbox_id, _WAITING_AGENT)
    if not is_waiting and not plan.start_agent:
        return False
    config = AgentConfig(
        node_id=node.node_id,
        role=node.role,
        key=ClusterKeys(context.settings.secret_key, node.cluster_id).key(node.node_id),
        autonomy=plan.autonomy,
        largest_file=context.settings.max_upload_bytes,
    )
    await context.provider.upload(node.sandbox_id, _CONFIG_PATH, _once(config.model_dump_json().encode()))
    if not is_waiting:
        await context.provider.start(node.sandbox_id, _AGENT_COMMAND)
    return True


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _health(context: Context, node: NodeSnapshot, wait_s: float) -> AgentHealth | None:
    end = time.monotonic() + wait_s
    pause_s = _HEALTH_FIRST_S
    while True:
        try:
            agent = await agent_of(context, node)
            return await agent.health()
        except AgentCallError:
            if time.monotonic() >= end:
                return None
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _HEALTH_EVERY_S)


def _apply(context: Context, plan: _NodePlan, token: str, outcome: _StartResult) -> None:
    start_s = None
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
            if node.status == "provisioning":
                detail = f"The sandbox runs, but its agent does not answer yet.{outcome.limits}"
                node.error = FailureReason(code="agent_not_ready", detail=detail)
            leases.give_back(node, 0, failed=True)
            uow.enqueue(Step.NODES_ADVANCE, node.id)
            return
        health = outcome.health
        node.error = None
        node.resources = NodeResources(cpu_cores=health.cpu_cores, memory_gb=health.memory_gb, gpu=health.gpu)
        if node.status == "provisioning":
            start_s = uow.session.scalar(select(func.extract("epoch", func.clock_timestamp() - node.requested_at)))
        transitions.move(uow.session, node, "running", role=node.role, sandbox_id=node.sandbox_id)
        leases.release(node, None)
    if start_s is not None:
        metrics.SANDBOX_START_SECONDS.observe(float(start_s))


def _gone(context: Context, plan: _NodePlan, token: str) -> None:
    """The provider no longer has the sandbox. Its cost ends now, and its data is lost."""
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, plan.cluster_id)
        node = leases.held(uow.session, NodeRow, plan.node_id, token)
        node.ended_at = func.clock_timestamp()
        detail = "The node's sandbox no longer exists at its provider."
        if node.role != "aggregator":
            detail += " Redeploy the node and upload its data again to have it back."
        error = FailureReason(code="sandbox_gone", detail=detail)
        node.error = error
        if node.status == "terminating":
            leases.release(node, 0)
        elif node.status == "provisioning":
            transitions.move(uow.session, node, "failed", error=error.facts())
            leases.release(node, None)
        else:
            _lost_for_good(uow, node, error)


def _lost_for_good(uow: UnitOfWork, node: NodeRow, error: FailureReason) -> None:
    """Replace an aggregator's sandbox, or report that a worker's is gone.

    An aggregator holds nothing that its workers do not have, so it gets a new sandbox at once.
    Only its owner can upload a worker's data again, so the training continues with the others.
    Under `raft` a running training elects another aggregator instead.
    """
    events.emit(uow.session, node.cluster_id, EventType.NODE_GONE, {"node_id": node.id, "role": node.role, **error.facts()})
    leases.release(node, None)
    if node.role == "aggregator" and (training_id := elections.training_that_elects(uow.session, node)) is not None:
        uow.enqueue(Step.TRAININGS_ADVANCE, training_id)
    elif node.role == "aggregator" and len(node.former_sandboxes) < _MOST_REPLACEMENTS:
        nodes.give_new_sandbox(uow, node, "its sandbox is gone; the newest model comes from a worker")


def _fail(context: Context, plan: _NodePlan, token: str, code: str, detail: str) -> None:
    """Give up a node. Its sandbox is ended first, so that it costs nothing more.

    If the provider does not do that now, the sweep ends the sandbox later.
    """
    log.warning("%s: %s: %s", plan.node_id, code, detail)
    with contextlib.suppress(SandboxError):
        context.network.run(_kill_all(context, plan.node_id, plan.sandbox_id))
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, plan.cluster_id)
        node = leases.held(uow.session, NodeRow, plan.node_id, token)
        error = FailureReason(code=code, detail=detail)
        node.error = error
        node.ended_at = func.clock_timestamp() if node.started_at is not None else None
        if node.status == "terminating":
            leases.release(node, 0)
        elif node.status == "provisioning":
            transitions.move(uow.session, node, "failed", error=error.facts())
            leases.release(node, None)
        else:
            _lost_for_good(uow, node, error)


def terminate(context: Context, node_id: str) -> None:
    """End a node's sandbox at its provider, then record it."""
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
    """Kill the node's sandbox, and any other with its name.

    The answer to a create request may have been lost while its sandbox runs.
    """
    infos = await context.provider.list(metadata(context.settings, node_id=node_id))
    for killed_id in {info.sandbox_id for info in infos} | ({sandbox_id} if sandbox_id else set()):
        await context.provider.kill(killed_id)


def mark_lost(context: Context, node_id: str, reason: str) -> None:
    """Mark a running node that stopped answering, and let its step find out whether it can come
    back.
    """
    with context.database.unit_of_work() as uow:
        cluster_id = uow.session.execute(select(NodeRow.cluster_id).where(NodeRow.id == node_id)).scalar_one()
        cluster = locked_cluster(uow.session, cluster_id)
        node = uow.session.execute(select(NodeRow).where(NodeRow.id == node_id).with_for_update()).scalar_one()
        if node.status != "running":
            return
        transitions.move(uow.session, node, "lost", reason=reason)
        # Its own watchdog restarts the agent, where the node has one. Else the step does so at
        # once.
        restarts_itself = _autonomy(cluster, node).allows(SELF_RESTART_LEVEL)
        node.agent_started_at = func.clock_timestamp() - (
            timedelta(0) if restarts_itself else _RESTART_AFTER + timedelta(seconds=1)
        )
        leases.wake(node)
        uow.enqueue(Step.NODES_ADVANCE, node.id)
    metrics.NODES_LOST.inc()
