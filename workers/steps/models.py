"""An export: the aggregator writes the model folder, and a copy is kept that outlives its
sandbox.
"""

import hashlib
from functools import partial
from pathlib import Path

from sqlalchemy import func

from api.domain.records import FailureReason
from api.domain.sandboxes import SandboxError
from api.services import models as model_service
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, ModelRow, TrainingRow
from workers.agent.protocol.exports import ExportModel, ExportResult
from workers.agent_client import AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.shared import model_card
from workers.steps.shared.agent_messages import data_format, model_spec
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, aggregator_among, is_recovering, peers_of, running
from workers.steps.shared.restore import restore

_MOST_ATTEMPTS = 3
_RETRY_S = 1.0


def advance(context: Context, model_id: str) -> None:
    """Write a pending export and keep its archive."""
    under_lease(context, ModelRow, model_id, partial(_advance, context, model_id))


def _advance(context: Context, model_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, ModelRow, model_id, token)
        if row.status != "pending":
            leases.release(row, None)
            return
        if is_recovering(uow.session, row.cluster_id, "aggregator"):
            leases.release(row, _RETRY_S, waits=True)
            return
        training = uow.session.get_one(TrainingRow, row.training_id)
        cluster = uow.session.get_one(ClusterRow, row.cluster_id)
        running_nodes = running(uow.session, row.cluster_id)
        aggregator = aggregator_among(running_nodes)
        card, record = model_card.card(uow.session, training, cluster, row.digest)
    if aggregator is None:
        _fail(context, row, token, FailureReason(code="no_aggregator", detail="The cluster has no running aggregator."))
        return
    request = ExportModel(
        training_id=training.id,
        name=row.name,
        model=model_spec(cluster.config.architecture, training.model, training.config, training.labels or []),
        digest=row.digest,
        onnx=cluster.config.wasm_optimization,
        dataset=training.config.dataset if training.config.holds_out else None,
        validation=training.config.validation,
        data_format=data_format(training.config),
        card=card,
        record=record,
    )
    archive = model_service.archive(context.settings, row)
    try:
        exported, sha256 = act(
            context, ModelRow, model_id, token, lambda: _export(context, running_nodes, aggregator, request, archive)
        )
    except AgentRefusedError as error:
        _fail(context, row, token, FailureReason(code=error.code, detail=error.message))
    except AgentUnreachableError:
        # The node's step brings it back, and the export waits for that.
        nodes.mark_lost(context, aggregator.node_id, "its agent stopped answering")
        raise
    except (SandboxError, OSError) as error:
        if row.attempts < _MOST_ATTEMPTS:
            raise
        _fail(context, row, token, FailureReason(code="export_failed", detail=f"The copy failed: {type(error).__name__}."))
    else:
        _complete(context, row, token, exported, sha256)


async def _export(
    context: Context, running_nodes: list[NodeSnapshot], aggregator: NodeSnapshot, request: ExportModel, archive: Path
) -> tuple[ExportResult, str]:
    peers = await peers_of(context, [aggregator, *(node for node in running_nodes if node.role == "worker")])
    workers = [peer for node_id, peer in peers.items() if node_id != aggregator.node_id]
    request = request.model_copy(update={"workers": workers, "self_peer": peers.get(aggregator.node_id)})
    async with agent_of(context, aggregator) as agent:
        try:
            exported = await agent.export(request)
        except AgentRefusedError as error:
            if error.code != "unknown_model":
                raise
            await restore(agent, request.training_id, request.model, request.digest, workers)
            exported = await agent.export(request)
    download = await context.provider.download(aggregator.sandbox_id, exported.path)
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial_file = archive.with_suffix(".part")
    digest = hashlib.sha256()
    try:
        with partial_file.open("wb") as file:
            async for chunk in download.chunks:
                digest.update(chunk)
                file.write(chunk)
        partial_file.replace(archive)
    finally:
        partial_file.unlink(missing_ok=True)
    return exported, digest.hexdigest()


def _complete(context: Context, loaded: ModelRow, token: str, exported: ExportResult, sha256: str) -> None:
    with context.database.unit_of_work() as uow:
        row = _ended(uow, loaded, token)
        row.path, row.sha256 = exported.path, sha256
        row.size = model_service.archive(context.settings, row).stat().st_size
        row.files = [file.model_dump() for file in exported.files]
        transitions.move(uow.session, row, "completed", name=row.name, size=row.size)


def _fail(context: Context, loaded: ModelRow, token: str, reason: FailureReason) -> None:
    with context.database.unit_of_work() as uow:
        row = _ended(uow, loaded, token)
        row.error = reason
        transitions.move(uow.session, row, "failed", error=reason.facts())


def _ended(uow: UnitOfWork, loaded: ModelRow, token: str) -> ModelRow:
    """The row that this step holds, with its end written down. Its lease is released."""
    locked_cluster(uow.session, loaded.cluster_id)
    row = leases.held(uow.session, ModelRow, loaded.id, token)
    row.finished_at = func.clock_timestamp()
    leases.release(row, None)
    return row
