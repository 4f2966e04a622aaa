"""An export: the aggregator writes the model folder, and a copy is kept that outlives its
sandbox.
"""

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from api.domain.records import FailureReason
from api.services import lost_nodes
from api.services import models as model_service
from api.store import leases, transitions
from api.store.tables import ClusterRow, ModelRow, TrainingRow
from workers.agent.protocol.exports import ExportModel, ExportResult
from workers.agent_client import AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.shared import model_card, progress, round_metrics
from workers.steps.shared.agent_messages import data_format, model_spec
from workers.steps.shared.failure import AgentDiedError, StepFailedError
from workers.steps.shared.job_end import ended, fail
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, aggregator_among, is_recovering, peers_of, running
from workers.steps.shared.restore import restore

_RETRY_S = 1.0
# The part of an export that is done when the aggregator has written the folder.
_WRITTEN = 0.5


def advance(context: Context, model_id: str) -> None:
    """Write a pending export and keep its archive."""
    under_lease(context, ModelRow, model_id, partial(_advance, context, model_id), partial(fail, context, ModelRow, model_id))


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
        lost = lost_nodes.advice(uow.session, row.cluster_id, ("aggregator",))
        card, record = model_card.card(uow.session, training, cluster, row.digest)
        metrics = round_metrics.metrics(uow.session, round_metrics.until(uow.session, training.id, row.digest))
    if aggregator is None:
        reason = FailureReason(code="no_aggregator", detail=f"The cluster has no running aggregator.{lost}")
        fail(context, ModelRow, model_id, token, reason)
        return
    request = ExportModel(
        training_id=training.id,
        name=row.name,
        model=model_spec(
            cluster.config.architecture, training.model, training.config, training.labels or [], training.initial_model
        ),
        digest=row.digest,
        onnx=cluster.config.wasm_optimization,
        dataset=training.config.dataset if training.config.holds_out else None,
        validation=training.config.validation,
        federated=training.config.federated,
        data_format=data_format(training.config),
        card=card,
        record=record,
        rounds=metrics,
    )
    archive = model_service.archive(context.settings, row)
    note = partial(progress.note, context, ModelRow, model_id, token)
    try:
        exported, sha256 = act(
            context, ModelRow, model_id, token, lambda: _export(context, running_nodes, aggregator, request, archive, note)
        )
    except AgentRefusedError as error:
        fail(context, ModelRow, model_id, token, FailureReason(code=error.code, detail=error.message))
    except AgentUnreachableError as error:
        # The node's step brings it back, and the export waits for that.
        nodes.mark_lost(context, aggregator.node_id, "its agent stopped answering")
        raise AgentDiedError([aggregator], "an export") from error
    except OSError as error:
        reason = FailureReason(code="export_failed", detail=f"The copy failed: {type(error).__name__}.")
        raise StepFailedError(reason) from error
    else:
        _complete(context, model_id, token, exported, sha256)


async def _export(
    context: Context,
    running_nodes: list[NodeSnapshot],
    aggregator: NodeSnapshot,
    request: ExportModel,
    archive: Path,
    note: Callable[[float], None],
) -> tuple[ExportResult, str]:
    peers = await peers_of(context, [aggregator, *(node for node in running_nodes if node.role == "worker")])
    workers = [peer for node_id, peer in peers.items() if node_id != aggregator.node_id]
    await asyncio.to_thread(note, 0.0)
    request = request.model_copy(update={"workers": workers, "self_peer": peers.get(aggregator.node_id)})
    agent = await agent_of(context, aggregator)
    try:
        exported = await agent.export(request)
    except AgentRefusedError as error:
        if error.code != "unknown_model":
            raise
        await restore(agent, request.training_id, request.model, request.digest, workers)
        exported = await agent.export(request)
    await asyncio.to_thread(note, _WRITTEN)
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


def _complete(context: Context, model_id: str, token: str, exported: ExportResult, sha256: str) -> None:
    with context.database.unit_of_work() as uow:
        row = ended(uow, ModelRow, model_id, token)
        archive = model_service.archive(context.settings, row)
        if row.status != "pending":
            archive.unlink(missing_ok=True)
            return
        row.progress = 1.0
        row.path, row.sha256 = exported.path, sha256
        row.size = archive.stat().st_size
        row.files = [file.model_dump() for file in exported.files]
        transitions.move(uow.session, row, "completed", name=row.name, size=row.size)
