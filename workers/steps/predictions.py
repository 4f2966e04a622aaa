"""A prediction: the aggregator's agent splits the texts over the workers and combines what they answer."""

from functools import partial
from typing import Any

from sqlalchemy import func

from api.domain.specs import holds_out
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.tables import ClusterRow, PredictionRow, TrainingRow
from workers.agent.protocol.inference import PredictionResult, PredictTexts
from workers.agent_client import AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, aggregator_among, peers_of, returns, running
from workers.steps.shared.restore import restore
from workers.steps.shared.training_snapshot import model_spec

_RESULTS = {"accuracy", "precision", "recall", "f1_score", "predictions", "temperature", "temperatures", "engines"}
_TRIES = 3
_NO_WORKER = "nodes_unreachable"
_LOOK_AGAIN_S = 1.0


class _RefusedError(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.error = {"code": code, "detail": detail}


def advance(context: Context, prediction_id: str) -> None:
    """Run a pending prediction to its end."""
    under_lease(context, PredictionRow, prediction_id, partial(_advance, context, prediction_id))


def _advance(context: Context, prediction_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, PredictionRow, prediction_id, token)
        if row.status != "pending":
            leases.release(row, None)
            return
        if returns(uow.session, row.cluster_id, "aggregator") or returns(uow.session, row.cluster_id, "worker"):
            leases.release(row, _LOOK_AGAIN_S, waits=True)
            return
        training = uow.session.get_one(TrainingRow, row.training_id)
        cluster = uow.session.get_one(ClusterRow, row.cluster_id)
        members = running(uow.session, row.cluster_id)
    try:
        workers, aggregator = _parts(members, row)
        answer = act(
            context, PredictionRow, prediction_id, token, lambda: _predict(context, row, training, cluster, workers, aggregator)
        )
    except AgentRefusedError as error:
        if error.code == _NO_WORKER and row.attempts < _TRIES:
            _mark_lost(context, workers)
            raise
        _finish(context, row, token, None, {"code": error.code, "detail": error.message})
    except _RefusedError as error:
        _finish(context, row, token, None, error.error)
    except Exception as error:
        if isinstance(error, AgentUnreachableError):
            _mark_lost(context, [aggregator])
        if row.attempts < _TRIES:
            raise
        _finish(context, row, token, None, {"code": _NO_WORKER, "detail": "The nodes did not answer."})
    else:
        _finish(context, row, token, answer, None)


def _mark_lost(context: Context, members: list[NodeSnapshot]) -> None:
    """Nobody else may be looking at these nodes: their steps bring them back, and the prediction waits for that."""
    for member in members:
        nodes.mark_lost(context, member.node_id, "its agent did not answer a prediction")


def _parts(members: list[NodeSnapshot], row: PredictionRow) -> tuple[list[NodeSnapshot], NodeSnapshot]:
    workers = [member for member in members if member.role == "worker" and "inference" in member.capabilities]
    aggregator = aggregator_among(members)
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
        dataset=training.config["dataset"] if holds_out(training.config) else None,
        validation=training.config["validation"],
        model=model_spec(cluster.config["architecture"], training.model, training.config, training.labels or []),
        digest=training.digest or "",
        aggregation=row.aggregation,
        workers=[peers[member.node_id] for member in workers if member.node_id in peers],
        self_peer=peers[aggregator.node_id],
        inputs=row.request.get("inputs"),
        input_data=row.request.get("input_data"),
        engine="onnx" if cluster.config["wasm_optimization"] else "torch",
    )
    async with agent_of(context, aggregator) as agent:
        try:
            return await agent.predict(request)
        except AgentRefusedError as error:
            if error.code != "unknown_model":
                raise
        await restore(agent, training.id, request.model, request.digest, request.workers)
        return await agent.predict(request)


def _finish(
    context: Context, loaded: PredictionRow, token: str, answer: PredictionResult | None, error: dict[str, Any] | None
) -> None:
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, loaded.cluster_id)
        row = leases.held(uow.session, PredictionRow, loaded.id, token)
        row.finished_at = func.clock_timestamp()
        row.error = error
        if answer is not None:
            results = answer.model_dump(include=_RESULTS)
            row.results = {key: value for key, value in results.items() if value is not None}
            row.seconds, row.nodes_used = answer.seconds, answer.nodes_used
            # The texts stand in the results; the request's copy of them has done its work.
            row.request = {key: value for key, value in row.request.items() if key != "inputs"}
            transitions.move(uow.session, row, "completed", nodes_used=answer.nodes_used, seconds=answer.seconds)
        else:
            transitions.move(uow.session, row, "failed", error=error)
        leases.release(row, None)
