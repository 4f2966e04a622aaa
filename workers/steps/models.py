"""An export: the aggregator writes the model folder, and a copy is kept that outlives its sandbox."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from api.domain.sandboxes import SandboxError
from api.services import models as model_service
from api.services import progress
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.models import ClusterRow, ModelRow, RoundNodeRow, RoundRow, TrainingRow
from workers.agent.protocol import Export, Exported, ModelSpec
from workers.agent_client import AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.lease import act, under_lease
from workers.steps.members import Member, agent_of, peers_of, returns, running
from workers.steps.restore import restore

_TRIES = 3
_LOOK_AGAIN_S = 1.0


def advance(context: Context, model_id: str) -> None:
    """Write a pending export and keep its archive."""
    under_lease(context, ModelRow, model_id, partial(_advance, context, model_id))


def _advance(context: Context, model_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, ModelRow, model_id, token)
        if row.status != "pending":
            leases.release(row, None)
            return
        if returns(uow.session, row.cluster_id, "aggregator"):
            leases.release(row, _LOOK_AGAIN_S, waits=True)
            return
        training = uow.session.get_one(TrainingRow, row.training_id)
        cluster = uow.session.get_one(ClusterRow, row.cluster_id)
        members = running(uow.session, row.cluster_id)
        aggregator = next((member for member in members if member.role == "aggregator"), None)
        rounds = uow.session.scalars(
            select(RoundRow).where(RoundRow.training_id == training.id, RoundRow.digest == row.digest)
        ).all()
        figures = uow.session.scalars(
            select(RoundNodeRow).where(
                RoundNodeRow.training_id == training.id,
                RoundNodeRow.number == (rounds[-1].number if rounds else 0),
                RoundNodeRow.state == "done",
            )
        ).all()
        card = _card(training, cluster, rounds[-1] if rounds else None, figures, progress.training_view(uow.session, training))
    if aggregator is None:
        _finish(context, row, token, None, None, {"code": "no_aggregator", "detail": "The cluster has no running aggregator."})
        return
    request = Export(
        training_id=training.id,
        name=row.name,
        model=ModelSpec(
            architecture=cluster.config["architecture"],
            model=training.model,
            labels=training.labels or [],
            max_length=training.config["max_length"],
            seed=training.config["seed"],
            lora_rank=training.config["lora_rank"],
        ),
        digest=row.digest,
        onnx=cluster.config["wasm_optimization"],
        card=card,
    )
    archive = model_service.archive(context.settings, row)
    try:
        exported, sha256 = act(
            context, ModelRow, model_id, token, lambda: _export(context, members, aggregator, request, archive)
        )
    except AgentRefusedError as error:
        _finish(context, row, token, None, None, {"code": error.code, "detail": error.message})
    except AgentUnreachableError:
        # Nobody else may be looking: its node's step brings it back, and the export waits for that.
        nodes.mark_lost(context, aggregator.node_id, "its agent stopped answering")
        raise
    except (SandboxError, OSError) as error:
        if row.attempts < _TRIES:
            raise
        _finish(
            context, row, token, None, None, {"code": "export_failed", "detail": f"The copy failed: {type(error).__name__}."}
        )
    else:
        _finish(context, row, token, exported, sha256, None)


async def _export(
    context: Context, members: list[Member], aggregator: Member, request: Export, archive: Path
) -> tuple[Exported, str]:
    async with agent_of(context, aggregator) as agent:
        try:
            exported = await agent.export(request)
        except AgentRefusedError as error:
            if error.code != "unknown_model":
                raise
            peers = await peers_of(context, [member for member in members if member.role == "worker"])
            await restore(agent, request.training_id, request.model, request.digest, list(peers.values()))
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


def _card(
    training: TrainingRow,
    cluster: ClusterRow,
    last: RoundRow | None,
    figures: Any,
    view: progress.SessionView,
) -> dict[str, object]:
    """Facts for the model card: figures and settings only."""
    return {
        "training_id": training.id,
        "cluster": cluster.name,
        "topology": cluster.topology,
        "architecture": cluster.config["architecture"],
        "model": training.model,
        "parameters": training.parameters,
        "labels": training.labels,
        "federated": training.config["federated"],
        "strategy": training.config["strategy"],
        "consensus": cluster.config["consensus"],
        "rounds": training.completed_rounds,
        "epochs": view.epoch,
        "batch_size": training.config["batch_size"],
        "learning_rate": training.config["learning_rate"],
        "optimizer": training.config["optimizer"],
        "samples_per_worker": [row.samples for row in figures],
        "updates_rejected": len(last.votes) and sum(not vote["accept"] for vote in last.votes) if last else None,
        "global_loss": view.metrics["global_loss"],
        "global_accuracy": view.metrics["global_accuracy"],
        "validation_accuracy": view.metrics["validation_accuracy"],
        "validation_samples": last.validation_samples if last else None,
        "seconds": view.elapsed_seconds,
        "cost_usd": float(view.cost_usd),
    }


def _finish(
    context: Context,
    loaded: ModelRow,
    token: str,
    exported: Exported | None,
    sha256: str | None,
    error: dict[str, Any] | None,
) -> None:
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, loaded.cluster_id)
        row = leases.held(uow.session, ModelRow, loaded.id, token)
        row.finished_at = func.clock_timestamp()
        row.error = error
        if exported is not None:
            row.path, row.sha256 = exported.path, sha256
            row.size = model_service.archive(context.settings, row).stat().st_size
            row.files = [file.model_dump() for file in exported.files]
            transitions.move(uow.session, row, "completed", name=row.name, size=row.size)
        else:
            transitions.move(uow.session, row, "failed", error=error)
        leases.release(row, None)
