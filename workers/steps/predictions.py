"""A prediction: the aggregator's agent splits the texts over the workers and combines their
answers.
"""

from functools import partial

from sqlalchemy import func

from api.domain.records import FailureReason
from api.domain.specs import PredictionInput
from api.domain.training_spec import TrainingSpec
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, PredictionRow, TrainingRow
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.inference import PredictionResult, PredictTexts
from workers.agent_client import AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.shared.agent_messages import data_format, model_spec
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, aggregator_among, is_recovering, peers_of, running
from workers.steps.shared.restore import restore

_RESULTS = {"accuracy", "precision", "recall", "f1_score", "predictions", "temperature", "temperatures", "engines", "notices"}
_MOST_ATTEMPTS = 3
_NO_WORKER = "nodes_unreachable"
_RETRY_S = 1.0


class _RefusedError(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = FailureReason(code=code, detail=detail)


def advance(context: Context, prediction_id: str) -> None:
    """Run a pending prediction to its end."""
    under_lease(context, PredictionRow, prediction_id, partial(_advance, context, prediction_id))


def _advance(context: Context, prediction_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, PredictionRow, prediction_id, token)
        if row.status != "pending":
            leases.release(row, None)
            return
        if is_recovering(uow.session, row.cluster_id, "aggregator") or is_recovering(uow.session, row.cluster_id, "worker"):
            leases.release(row, _RETRY_S, waits=True)
            return
        training = uow.session.get_one(TrainingRow, row.training_id)
        cluster = uow.session.get_one(ClusterRow, row.cluster_id)
        running_nodes = running(uow.session, row.cluster_id)
    try:
        workers, aggregator = _parts(running_nodes, row)
        answer = act(
            context, PredictionRow, prediction_id, token, lambda: _predict(context, row, training, cluster, workers, aggregator)
        )
    except AgentRefusedError as error:
        if error.code == _NO_WORKER and row.attempts < _MOST_ATTEMPTS:
            _mark_lost(context, workers)
            raise
        _fail(context, row, token, FailureReason(code=error.code, detail=error.message))
    except _RefusedError as error:
        _fail(context, row, token, error.reason)
    except Exception as error:
        if isinstance(error, AgentUnreachableError):
            _mark_lost(context, [aggregator])
        if row.attempts < _MOST_ATTEMPTS:
            raise
        _fail(context, row, token, FailureReason(code=_NO_WORKER, detail="The nodes did not answer."))
    else:
        _complete(context, row, token, answer)


def _mark_lost(context: Context, running_nodes: list[NodeSnapshot]) -> None:
    """Mark nodes that did not answer.

    Their steps bring them back, and the prediction waits for that.
    """
    for node in running_nodes:
        nodes.mark_lost(context, node.node_id, "its agent did not answer a prediction")


def _parts(running_nodes: list[NodeSnapshot], row: PredictionRow) -> tuple[list[NodeSnapshot], NodeSnapshot]:
    workers = [node for node in running_nodes if node.role == "worker" and "inference" in node.capabilities]
    aggregator = aggregator_among(running_nodes)
    if not workers:
        raise _RefusedError("no_workers", "No running worker has the capability 'inference'.")
    if aggregator is None:
        raise _RefusedError("no_aggregator", "The cluster has no running aggregator.")
    return workers, aggregator


async def _predict(
    context: Context,
    row: PredictionRow,
    training: TrainingRow,
    cluster: ClusterRow,
    workers: list[NodeSnapshot],
    aggregator: NodeSnapshot,
) -> PredictionResult:
    peers = await peers_of(context, [*workers, aggregator])
    if aggregator.node_id not in peers:
        raise _RefusedError("no_aggregator", "The aggregator's sandbox is gone.")
    request = PredictTexts(
        training_id=training.id,
        dataset=training.config.dataset if training.config.holds_out else None,
        validation=training.config.validation,
        data_format=data_format(training.config),
        model=model_spec(cluster.config.architecture, training.model, training.config, training.labels or []),
        digest=training.digest or "",
        aggregation=row.aggregation,
        workers=[peers[node.node_id] for node in workers if node.node_id in peers],
        self_peer=peers[aggregator.node_id],
        inputs=row.request.inputs,
        input_data=row.request.input_data,
        input_format=_input_format(row.request, training.config),
        engine="onnx" if cluster.config.wasm_optimization else "torch",
    )
    async with agent_of(context, aggregator) as agent:
        try:
            return await agent.predict(request)
        except AgentRefusedError as error:
            if error.code != "unknown_model":
                raise
        await restore(agent, training.id, request.model, request.digest, request.workers)
        return await agent.predict(request)


def _input_format(request: PredictionInput, spec: TrainingSpec) -> DataFormat:
    """Return how to read the input file: as the training's files, except for what was given."""
    given = {name: value for name in DataFormat.model_fields if (value := getattr(request, name, None)) is not None}
    return data_format(spec).model_copy(update=given)


def _complete(context: Context, loaded: PredictionRow, token: str, result: PredictionResult) -> None:
    with context.database.unit_of_work() as uow:
        row = _ended(uow, loaded, token)
        results = result.model_dump(include=_RESULTS)
        row.results = {name: value for name, value in results.items() if value is not None}
        row.seconds, row.nodes_used = result.seconds, result.nodes_used
        # The results have the texts, so the request keeps no copy.
        row.request = row.request.model_copy(update={"inputs": None})
        transitions.move(uow.session, row, "completed", nodes_used=result.nodes_used, seconds=result.seconds)


def _fail(context: Context, loaded: PredictionRow, token: str, reason: FailureReason) -> None:
    with context.database.unit_of_work() as uow:
        row = _ended(uow, loaded, token)
        row.error = reason
        transitions.move(uow.session, row, "failed", error=reason.facts())


def _ended(uow: UnitOfWork, loaded: PredictionRow, token: str) -> PredictionRow:
    """The row that this step holds, with its end written down. Its lease is released."""
    locked_cluster(uow.session, loaded.cluster_id)
    row = leases.held(uow.session, PredictionRow, loaded.id, token)
    row.finished_at = func.clock_timestamp()
    leases.release(row, None)
    return row
