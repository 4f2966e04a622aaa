"""Before the first round: every worker's data is checked in its sandbox, and the first model is
made.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import func

from api.domain.errors import FieldError
from api.domain.events import EventType
from api.domain.initial_models import InitialModel
from api.domain.preparation import PreparationRecord
from api.domain.privacy import TrainingPrivacyRecord
from api.domain.records import FailureReason
from api.domain.steps import Step
from api.services import lost_nodes, searches
from api.services.lookup import locked_cluster
from api.store import events, leases, transitions
from api.store.tables import TrainingRow
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import CheckShard, EncodeShard, InitTraining, InitTrainingResult, ShardReport
from workers.agent_client import AgentClient, AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.rounds import classes, initial_models
from workers.steps.rounds.first_copies import copy_first_model
from workers.steps.rounds.initial_models import FetchedModel
from workers.steps.rounds.privacy import EpsilonSpentError, plan_training
from workers.steps.rounds.reading import UNREACHABLE, DataReading, StillReadingError
from workers.steps.rounds.refusal import CONFLICT, UNPROCESSABLE, RefusalError
from workers.steps.shared import red_flags
from workers.steps.shared.agent_messages import data_format
from workers.steps.shared.failure import AgentDiedError
from workers.steps.shared.lease import act
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, peers_of
from workers.steps.shared.training_snapshot import TrainingSnapshot, wait_and_retry

# Problems of the token ids that no round could overcome.
_DATA_LIMITS = ("not_enough_disk", "not_enough_memory", "file_too_large")


class _NoAnswerError(Exception):
    """Nodes did not answer. Their own steps find out whether they come back."""

    def __init__(self, node_ids: Sequence[str]) -> None:
        super().__init__(", ".join(node_ids))
        self.node_ids = node_ids


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What the agents have found: the labels, the first model, and the report on each shard."""

    labels: list[str]
    model: InitTrainingResult
    reports: list[ShardReport]
    initial: InitialModel | None

    @property
    def samples(self) -> dict[str, int]:
        return {report.node_id: report.samples for report in self.reports}

    @property
    def skipped(self) -> dict[str, int]:
        """Node id -> rows that were left out. Nodes without such rows are not in it."""
        return {report.node_id: report.skipped for report in self.reports if report.skipped}


def prepare(context: Context, training: TrainingSnapshot, token: str) -> None:
    """Move a pending training to `training`, or to `refused` with the node and the reason.

    It waits for nodes that may come back.
    """
    lost = _lost_nodes(training)
    if lost:
        refusal = RefusalError(CONFLICT, UNREACHABLE, f"Not running any more. {lost_nodes.of(lost)}")
        _refuse(context, training, token, refusal.reason)
        return
    aggregator = training.aggregator
    if aggregator is None or len(training.workers) < len(training.planned_workers):
        wait_and_retry(context, training, token)
        return
    try:
        work = partial(_prepare, context, training, token, aggregator)
        prepared = act(context, TrainingRow, training.training_id, token, work)
        privacy = plan_training(context, training, prepared.samples)
    except StillReadingError as still_reading:
        _go_on_reading(context, training, token, still_reading.record)
        return
    except _NoAnswerError as silence:
        for node_id in silence.node_ids:
            nodes.mark_lost(context, node_id, "its agent does not answer")
        members = [*training.workers, aggregator]
        silent = [node for node in members if node.node_id in silence.node_ids]
        raise AgentDiedError(silent, "the check of the data") from silence
    except RefusalError as refusal:
        _refuse(context, training, token, refusal.reason)
        return
    except EpsilonSpentError as spent:
        errors = (FieldError("/differential_privacy", str(spent)),)
        _refuse(context, training, token, RefusalError(UNPROCESSABLE, "epsilon_spent", str(spent), errors).reason)
        return
    _begin_rounds(context, training, token, prepared, privacy)


def _begin_rounds(
    context: Context,
    training: TrainingSnapshot,
    token: str,
    prepared: _Prepared,
    privacy: TrainingPrivacyRecord | None,
) -> None:
    with context.database.unit_of_work() as uow:
        cluster = locked_cluster(uow.session, training.cluster_id)
        row = leases.held(uow.session, TrainingRow, training.training_id, token)
        if row.status == "pending":
            row.labels, row.privacy, row.preparation = prepared.labels, privacy, None
            row.initial_model = prepared.initial
            row.digest, row.parameters = prepared.model.digest, prepared.model.parameters
            row.started_at = row.started_at or func.clock_timestamp()
            facts: dict[str, object] = {"parameters": row.parameters, "model_bytes": prepared.model.bytes, "labels": row.labels}
            if prepared.skipped:
                facts["skipped_rows"] = prepared.skipped
            transitions.move(uow.session, row, "training", **facts)
            red_flags.replace_data_flags(uow.session, row, classes.flags(prepared.reports, prepared.labels))
            if cluster.status == "connected":
                transitions.move(uow.session, cluster, "training", training_id=row.id)
        leases.release(row, 0)
        uow.enqueue(Step.TRAININGS_ADVANCE, row.id)


def _lost_nodes(training: TrainingSnapshot) -> list[str]:
    """Nodes of the training that do not run and will not come back."""
    here = {node.node_id for node in (*training.workers, *training.recovering)}
    lost = [node_id for node_id in training.planned_workers if node_id not in here]
    if training.aggregator is None and not training.aggregator_recovers:
        lost.append(training.aggregator_id)
    return lost


async def _prepare(context: Context, training: TrainingSnapshot, token: str, aggregator: NodeSnapshot) -> _Prepared:
    """Raises: StillReadingError while agents read; the same call goes on later."""
    async with DataReading(context, training.training_id, token) as reading:
        return await _prepared(context, training, aggregator, reading)


async def _prepared(context: Context, training: TrainingSnapshot, aggregator: NodeSnapshot, reading: DataReading) -> _Prepared:
    spec = training.spec
    holders = training.workers if spec.federated else (aggregator,)
    check = CheckShard(dataset=spec.dataset, data_format=data_format(spec))
    reports = await asyncio.gather(*(reading.check(node, check) for node in holders))
    _require_answers(reports)
    reading.require_done(reports)
    if not spec.federated:
        check_pooled(len(training.workers), reports[0])
    labels = classes.agreed_labels(reports, training.spec.label_names)
    try:
        agent = await agent_of(context, aggregator)
        # After the first round, its weights are in the training's own models.
        begins = training.completed_rounds == 0
        fetched = await initial_models.fetch(context, training, aggregator, agent) if begins else None
        initial = training.initial if fetched is None else fetched.record
        labels = labels if initial is None else initial.with_labels(labels)
        labels = _kept_labels(training, labels)
        network = training.model_spec_for(labels, initial)
        await _encode_validation(training, aggregator, reading, network)
        model = await _init_model(context, training, agent, labels, fetched)
    except AgentUnreachableError as error:
        raise _NoAnswerError([aggregator.node_id]) from error
    _check_measurable(training, model)
    await _encode_shards(training, holders, reading, network)
    await copy_first_model(context, training, aggregator, model.digest)
    return _Prepared(labels, model, list(reports), initial)


def _kept_labels(training: TrainingSnapshot, found: list[str]) -> list[str]:
    """Return the classes of the training: those it began with, else the ones that were found.

    A shard that went away may have been the only one with a class. The class stays.
    """
    if not training.labels:
        return found
    new = len({*found} - {*training.labels})
    if new:
        message = (
            f"{new} labels of the shards are no class of this training. "
            "Upload data with its classes, or begin a training with initial_model, which takes new classes."
        )
        raise RefusalError(UNPROCESSABLE, "labels_changed", message, [FieldError("/dataset", message)])
    return list(training.labels)


def _require_answers(reports: Sequence[ShardReport]) -> None:
    unreachable = [report.node_id for report in reports if report.problem is not None and report.problem.code == UNREACHABLE]
    if unreachable:
        raise _NoAnswerError(unreachable)


async def _encode_validation(
    training: TrainingSnapshot, aggregator: NodeSnapshot, reading: DataReading, network: ModelSpec
) -> None:
    """Have the validation file read before the first model is made, because it may be large."""
    report = await reading.encode(aggregator, _encode_request(training, network, training.spec.validation, hold_out=False))
    _require_answers([report])
    reading.require_done([report])


async def _encode_shards(
    training: TrainingSnapshot, holders: Sequence[NodeSnapshot], reading: DataReading, network: ModelSpec
) -> None:
    """Have the token ids of all shards written, so that the first round can begin with them.

    Raises:
        RefusalError: a shard does not fit on its node.
    """
    request = _encode_request(training, network, training.spec.dataset, hold_out=training.spec.holds_out)
    reports = await asyncio.gather(*(reading.encode(node, request) for node in holders))
    _require_answers(reports)
    reading.require_done(reports)
    for report in reports:
        if report.problem is not None and report.problem.code in _DATA_LIMITS:
            detail = f"{report.node_id}: {report.problem.message}"
            raise RefusalError(UNPROCESSABLE, report.problem.code, detail, [FieldError("/dataset", detail)])


def _encode_request(training: TrainingSnapshot, network: ModelSpec, dataset: str, *, hold_out: bool) -> EncodeShard:
    return EncodeShard(model=network, dataset=dataset, data_format=data_format(training.spec), hold_out=hold_out)


def _go_on_reading(context: Context, training: TrainingSnapshot, token: str, record: PreparationRecord) -> None:
    """Give the training back, due at once, with how far its data is read."""
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, training.cluster_id)
        row = leases.held(uow.session, TrainingRow, training.training_id, token)
        if row.status == "pending":
            row.preparation = record
            facts = {"training_id": row.id, "progress": record.progress, "nodes": record.model_dump(mode="json")["nodes"]}
            events.emit(uow.session, row.cluster_id, EventType.TRAINING_PREPARING, facts, training_id=row.id)
        leases.release(row, 0)
        uow.enqueue(Step.TRAININGS_ADVANCE, row.id)


async def _init_model(
    context: Context, training: TrainingSnapshot, agent: AgentClient, labels: Sequence[str], fetched: FetchedModel | None
) -> InitTrainingResult:
    request = await _init_request(context, training, labels, fetched)
    try:
        model = await agent.init_training(request)
    except AgentRefusedError as error:
        if error.code == "unknown_model":
            message = (
                f"No node of the cluster holds the last model of {training.training_id} any more. If it was exported, "
                "start a new training with the model's id as initial_model."
            )
            raise RefusalError(CONFLICT, "model_lost", message) from error
        raise RefusalError(UNPROCESSABLE, error.code, f"{training.aggregator_id}: {error.message}") from error
    if model.problem is not None:
        detail = f"{training.aggregator_id}: {model.problem.message}"
        raise RefusalError(UNPROCESSABLE, model.problem.code, detail)
    return model


def _check_measurable(training: TrainingSnapshot, model: InitTrainingResult) -> None:
    """Check that a training that stops by its accuracy has data to measure it on."""
    spec = training.spec
    measured = spec.holds_out or model.validation_samples is not None or training.validators
    rule = next((name for name in ("target_accuracy", "patience") if getattr(spec, name) is not None), None)
    if rule is not None and not measured:
        message = "There is no validation file and nothing is held out, so that no accuracy would be measured to stop by."
        raise RefusalError(UNPROCESSABLE, "nothing_to_measure_on", message, [FieldError(f"/{rule}", message)])


async def prepare_again(
    context: Context, training: TrainingSnapshot, aggregator: NodeSnapshot, agent: AgentClient
) -> InitTrainingResult:
    """Have an aggregator that has lost a prepared training prepare it again.

    Raises:
        AgentRefusedError: it cannot make or find the model that the training stands at.
    """
    request = await _init_request(context, training, training.labels, None)
    if training.initial is None or training.completed_rounds:
        return await agent.init_training(request)
    try:
        # A worker may have pulled the first model already.
        return await agent.init_training(request.model_copy(update={"base_digest": training.digest}))
    except AgentRefusedError as error:
        if error.code != "unknown_model":
            raise
    try:
        fetched = await initial_models.fetch(context, training, aggregator, agent)
    except RefusalError as refusal:
        raise AgentRefusedError(refusal.reason.code, refusal.reason.detail) from refusal
    return await agent.init_training(await _init_request(context, training, training.labels, fetched))


async def _init_request(
    context: Context, training: TrainingSnapshot, labels: Sequence[str], fetched: FetchedModel | None
) -> InitTraining:
    """Ask an aggregator to make the first global model, or to fetch the last one from its
    workers.
    """
    initial = training.initial if fetched is None else fetched.record
    peers = await peers_of(context, [*training.workers, *training.idle])
    return InitTraining(
        training_id=training.training_id,
        model=training.model_spec_for(labels, initial),
        # Before the first round there is nothing to restore: the same seed gives the same weights.
        base_digest=training.digest if training.completed_rounds else None,
        sources=list(peers.values()),
        initial=None if fetched is None else fetched.weights,
        validation=training.spec.validation,
        data_format=data_format(training.spec),
        freeze_layers=training.spec.freeze_layers,
        private=training.spec.differential_privacy is not None,
    )


def check_pooled(workers: int, report: ShardReport) -> None:
    """Check the pooled data set: it is in the aggregator's sandbox, and each of `workers` workers
    gets a share.

    Raises:
        RefusalError: `no_match` or `too_few_samples`.
    """
    if report.problem is not None and report.problem.code == "no_match":
        message = (
            f"{report.node_id}: no file in the aggregator's sandbox matches the path. With federated false the pooled data set "
            "lies there; data in the workers' sandboxes is not used."
        )
        raise RefusalError(UNPROCESSABLE, "no_match", message, [FieldError("/dataset", message)])
    # A tenth is held out, and every worker needs a share.
    if report.problem is None and report.samples < 2 * workers:
        message = f"{report.samples} samples are too few to share out over {workers} workers."
        raise RefusalError(UNPROCESSABLE, "too_few_samples", message, [FieldError("/dataset", message)])


def _refuse(context: Context, training: TrainingSnapshot, token: str, reason: FailureReason) -> None:
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, training.cluster_id)
        row = leases.held(uow.session, TrainingRow, training.training_id, token)
        row.error, row.preparation = reason, None
        row.finished_at = func.clock_timestamp()
        if row.status == "pending":
            resumed = row.completed_rounds > 0
            transitions.move(uow.session, row, "failed" if resumed else "refused", error=reason.facts())
            leases.release(row, None)
            searches.wake_search(uow, row)
        else:
            leases.release(row, 0)
            uow.enqueue(Step.TRAININGS_ADVANCE, row.id)
