"""The sweep finds steps whose message was lost, and differences between rows and provider."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update

from api.domain.sandboxes import SandboxError, SandboxInfo, SandboxNotFoundError
from api.domain.status import LIVE_NODE
from api.domain.steps import Step
from api.store import leases
from api.store.kinds import KINDS
from api.store.tables import MlflowRunRow, NodeRow, WebhookRow
from workers import metrics
from workers.context import Context
from workers.steps import mlflow_runs, nodes, webhooks
from workers.steps.shared import agent_probe
from workers.steps.shared.deployment import metadata
from workers.steps.shared.heartbeat import heartbeat

log = logging.getLogger(__name__)
# The transaction that names a younger sandbox may not be committed yet.
# Together with the interval of the sweep it is less than a minute.
ORPHAN_AGE = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class _KnownSandbox:
    node_id: str
    status: str
    expires_at: datetime | None


def enqueue_due(context: Context) -> None:
    """Enqueue the step of every row that is due and not leased."""
    heartbeat.note(context)
    with context.database.unit_of_work() as uow:
        webhooks.wake_due(uow)
        due_webhooks = leases.due(uow.session, WebhookRow)
        metrics.SWEPT_ROWS.labels("webhook").inc(len(due_webhooks))
        for webhook_id in due_webhooks:
            uow.enqueue(Step.WEBHOOKS_ADVANCE, webhook_id)
        mlflow_runs.wake_due(context, uow)
        due_runs = leases.due(uow.session, MlflowRunRow)
        metrics.SWEPT_ROWS.labels("mlflow_run").inc(len(due_runs))
        for training_id in due_runs:
            uow.enqueue(Step.MLFLOW_RUNS_ADVANCE, training_id)
        for kind in KINDS:
            if kind.table is NodeRow:
                continue
            due = leases.due(uow.session, kind.table)
            metrics.SWEPT_ROWS.labels(kind.noun).inc(len(due))
            for row_id in due:
                uow.enqueue(kind.advance, row_id)
        due_nodes = leases.due(uow.session, NodeRow)
        metrics.SWEPT_ROWS.labels("node").inc(len(due_nodes))
        for node_id, status in uow.session.execute(select(NodeRow.id, NodeRow.status).where(NodeRow.id.in_(due_nodes))):
            uow.enqueue(Step.NODES_TERMINATE if status == "terminating" else Step.NODES_ADVANCE, node_id)


def reconcile(context: Context) -> None:
    """Extend sandboxes in use, end unknown ones, and mark nodes lost whose sandbox is gone.

    Then find running nodes whose agent cannot be reached.
    """
    with context.database.unit_of_work() as uow:
        now = uow.session.execute(select(func.clock_timestamp())).scalar_one()
        known = {
            row.sandbox_id: _KnownSandbox(row.id, row.status, row.sandbox_expires_at)
            for row in uow.session.scalars(
                select(NodeRow).where(NodeRow.sandbox_id.is_not(None), NodeRow.status.in_((*LIVE_NODE, "terminating")))
            )
            if row.sandbox_id is not None
        }
        starting = set(uow.session.scalars(select(NodeRow.id).where(NodeRow.status == "provisioning")))
    try:
        infos = context.network.run(_list(context))
    except SandboxError as error:
        log.warning("the provider's sandboxes could not be listed: %s", error)
        return
    present = {info.sandbox_id for info in infos}
    missing = [node for sandbox_id, node in known.items() if sandbox_id not in present and node.status == "running"]
    for node in missing:
        nodes.mark_lost(context, node.node_id, "its sandbox no longer exists at the provider")
    orphans = [
        info
        for info in infos
        if info.sandbox_id not in known and info.metadata.get("node_id") not in starting and now - info.started_at > ORPHAN_AGE
    ]
    renew_before = now + timedelta(seconds=context.settings.sandbox_timeout_s * 2 / 3)
    expiring = [
        sandbox_id
        for sandbox_id, node in known.items()
        if sandbox_id in present
        and node.status in ("running", "provisioning", "lost")
        and (node.expires_at is None or node.expires_at < renew_before)
    ]
    for found, number in (("orphaned", len(orphans)), ("missing", len(missing)), ("expiring", len(expiring))):
        metrics.SWEPT_SANDBOXES.labels(found).inc(number)
    for sandbox_id, end_at in context.network.run(_act(context, orphans, expiring)):
        with context.database.unit_of_work() as uow:
            uow.session.execute(update(NodeRow).where(NodeRow.sandbox_id == sandbox_id).values(sandbox_expires_at=end_at))
    agent_probe.probe(context)


async def _list(context: Context) -> Sequence[SandboxInfo]:
    infos: Sequence[SandboxInfo] = await context.provider.list(metadata(context.settings))
    return infos


async def _act(context: Context, orphans: list[SandboxInfo], expiring: list[str]) -> list[tuple[str, datetime]]:
    for orphan in orphans:
        log.warning("ending orphan sandbox %s", orphan.sandbox_id)
        await context.provider.kill(orphan.sandbox_id)
    extended = []
    for sandbox_id in expiring:
        try:
            await context.provider.extend(sandbox_id, context.settings.sandbox_timeout_s)
            extended.append((sandbox_id, (await context.provider.get(sandbox_id)).end_at))
        except SandboxNotFoundError:
            continue
        except SandboxError as error:
            log.warning("sandbox %s could not be extended: %s", sandbox_id, error)
    return extended
