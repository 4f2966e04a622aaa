"""The model that a training begins from comes to its aggregator.

A global model of the same cluster is there already, or at a worker. An export travels from the
control plane's disk, or lies in the aggregator's sandbox. Every part may be repeated.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from api.domain.errors import DomainError, FieldError
from api.domain.initial_models import POINTER, InitialModel
from api.services import initial_models, models
from api.services.initial_models import ModelSource
from api.store.tables import ClusterRow, ModelRow
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import ImportModel, InitialWeights
from workers.agent_client import AgentClient, AgentRefusedError
from workers.context import Context
from workers.steps.rounds.refusal import CONFLICT, UNPROCESSABLE, RefusalError
from workers.steps.shared.agent_messages import model_spec
from workers.steps.shared.node_snapshot import NodeSnapshot, peers_of
from workers.steps.shared.restore import restore
from workers.steps.shared.training_snapshot import TrainingSnapshot

_CHUNK = 1 << 20
_UNKNOWN = "unknown_model"


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """An initial model that the aggregator holds now."""

    record: InitialModel
    weights: InitialWeights


async def fetch(
    context: Context, training: TrainingSnapshot, aggregator: NodeSnapshot, agent: AgentClient
) -> FetchedModel | None:
    """Bring the initial model of a training to its aggregator. None if it has no such model.

    Raises:
        RefusalError: it is not there, or it does not fit.
        AgentUnreachableError: the aggregator does not answer.
    """
    source = training.spec.initial_model
    if source is None:
        return None
    found = await asyncio.to_thread(_find, context, training, source)
    try:
        fetched = await _fetch(context, training, aggregator, agent, source, found)
    except AgentRefusedError as error:
        message = f"{aggregator.node_id}: {error.message}"
        raise RefusalError(UNPROCESSABLE, error.code, message, [FieldError(POINTER, error.message)]) from error
    if training.initial is not None and fetched.record.digest != training.initial.digest:
        message = f"The model {source} is not the one that this training began with."
        raise RefusalError(CONFLICT, "initial_model_changed", message, [FieldError(POINTER, message)])
    return fetched


@dataclass(frozen=True, slots=True)
class _Found:
    """A model of the project, with the network that it was trained as."""

    source: ModelSource
    model: ModelSpec


def _find(context: Context, training: TrainingSnapshot, source: str) -> _Found | None:
    with context.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, training.cluster_id)
        try:
            digest = None if training.initial is None else training.initial.digest
            found = initial_models.find(uow.session, cluster, source, digest)
        except DomainError as error:
            raise RefusalError(CONFLICT, error.code, error.detail, [FieldError(POINTER, error.detail)]) from error
        if found is None:
            return None
        row = found.training
        architecture = uow.session.get_one(ClusterRow, row.cluster_id).config.architecture
        return _Found(found, model_spec(architecture, row.model, row.config, row.labels or [], row.initial_model))


async def _fetch(
    context: Context,
    training: TrainingSnapshot,
    aggregator: NodeSnapshot,
    agent: AgentClient,
    source: str,
    found: _Found | None,
) -> FetchedModel:
    if found is None:
        return await _import(training, agent, source, source)
    if found.source.is_in_cluster:
        try:
            peers = await peers_of(context, training.workers)
            await restore(agent, found.source.training.id, found.model, found.source.digest, list(peers.values()))
        except AgentRefusedError as error:
            if error.code != _UNKNOWN or found.source.export is None:
                raise
        else:
            record = InitialModel(source=source, digest=found.source.digest, labels=tuple(found.model.labels))
            return FetchedModel(record, InitialWeights(digest=found.source.digest, model=found.model))
    if found.source.export is None:
        raise AgentRefusedError(_UNKNOWN, "no node holds the model of that training any more")
    return await _upload(context, training, aggregator, agent, source, found.source.export)


async def _upload(
    context: Context,
    training: TrainingSnapshot,
    aggregator: NodeSnapshot,
    agent: AgentClient,
    source: str,
    export: ModelRow,
) -> FetchedModel:
    """Copy an export's archive into the aggregator's sandbox, and have it read there."""
    archive = models.archive(context.settings, export)
    if not archive.is_file():
        message = f"The archive of the model {export.id} is no longer in the models folder."
        raise RefusalError(CONFLICT, "archive_missing", message, [FieldError(POINTER, message)])
    path = f"/model/{training.training_id}/initial.tar"
    await context.provider.upload(aggregator.sandbox_id, path, _chunks(archive))
    return await _import(training, agent, source, path, export.sha256)


async def _import(
    training: TrainingSnapshot, agent: AgentClient, source: str, path: str, sha256: str | None = None
) -> FetchedModel:
    """Have the aggregator read an export. `sha256` is set for a tar that is there for this only."""
    plain = training.model_spec_for((), None).model_copy(update={"lora_rank": 0})
    request = ImportModel(training_id=training.training_id, path=path, sha256=sha256, discard=sha256 is not None, model=plain)
    imported = await agent.import_model(request)
    record = InitialModel(source=source, digest=imported.digest, labels=tuple(imported.labels))
    model = plain.model_copy(update={"labels": imported.labels})
    return FetchedModel(record, InitialWeights(digest=imported.digest, model=model))


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
