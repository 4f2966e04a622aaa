"""A prediction: the aggregator's agent splits the texts over the workers and combines their
answers.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from api.domain.records import FailureReason
from api.domain.specs import PredictionInput
from api.domain.training_spec import TrainingSpec
from api.services import initial_models, lost_nodes
from api.store import leases, transitions
from api.store.tables import ClusterRow, PredictionRow, TrainingRow
from workers.agent.protocol.common import Peer
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.inference import InputDescription, PredictionResult, PredictTexts
from workers.agent_client import AgentCallError, AgentClient, AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.shared import progress
from workers.steps.shared.agent_messages import data_format, model_spec
from workers.steps.shared.failure import AgentDiedError
from workers.steps.shared.job_end import ended, fail
from workers.steps.shared.lease import act, under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, aggregator_among, is_recovering, peers_of, running
from workers.steps.shared.restore import restore

log = logging.getLogger(__name__)
_FIGURES = {"accuracy", "precision", "recall", "f1_score", "confusion_matrix", "notices"}
_RESULTS = {*_FIGURES, "predictions", "temperature", "temperatures", "engines", "votes"}
_WORK = "a prediction"
_NO_WORKER = "nodes_unreachable"
_RETRY_S = 1.0


class _RefusedError(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = FailureReason(code=code, detail=detail)


def advance(context: Context, prediction_id: str) -> None:
    """Run a pending prediction to its end."""
    end_as_failed = partial(fail, context, PredictionRow, prediction_id)
    under_lease(context, PredictionRow, prediction_id, partial(_advance, context, prediction_id), end_as_failed)


def interrupt(context: Context, prediction_id: str) -> None:
    """Stop the aggregator's work on a cancelled prediction. Its step then sees the end at once."""
    with context.database.unit_of_work() as uow:
        row = uow.session.get(PredictionRow, prediction_id)
        if row is None or row.status != "cancelled":
            return
        aggregator = aggregator_among(running(uow.session, row.cluster_id))
    if aggregator is not None:
        context.network.run(_cancel(context, aggregator, prediction_id))


async def _cancel(context: Context, aggregator: NodeSnapshot, prediction_id: str) -> None:
    try:
        agent = await agent_of(context, aggregator)
        await agent.cancel_prediction(prediction_id)
    except AgentCallError as error:
        log.info("%s was not reached to cancel %s: %s", aggregator.node_id, prediction_id, error)


def _advance(context: Context, prediction_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, PredictionRow, prediction_id, token)
        if row.status != "pending":
            leases.release(row, None)
            return
        if is_recovering(uow.session, row.cluster_id, "aggregator"):
            leases.release(row, _RETRY_S, waits=True)
            return
        training = uow.session.get_one(TrainingRow, row.training_id)
        cluster = uow.session.get_one(ClusterRow, row.cluster_id)
        running_nodes = running(uow.session, row.cluster_id)
        workers_return = is_recovering(uow.session, row.cluster_id, "worker")
        lost = lost_nodes.advice(uow.session, row.cluster_id)
        count_unseen = initial_models.marks_seen_words(uow.session, training)
    work = _Work(context, row, token, training, cluster, running_nodes, lost, count_unseen)
    try:
        # The input is measured before anything is waited for, because it may be replaced.
        work.describe_input()
        if workers_return:
            _wait(context, prediction_id, token)
            return
        answer = act(context, PredictionRow, prediction_id, token, work.predict)
    except AgentRefusedError as error:
        if error.code == _NO_WORKER:
            _mark_lost(context, work.workers)
            raise AgentDiedError(work.workers, _WORK) from error
        fail(context, PredictionRow, row.id, token, work.reason(error))
    except AgentUnreachableError as error:
        _mark_lost(context, [work.aggregator])
        raise AgentDiedError([work.aggregator], work.name) from error
    except _RefusedError as error:
        fail(context, PredictionRow, row.id, token, error.reason)
    else:
        _complete(context, row.id, token, answer)


def _wait(context: Context, prediction_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        leases.release(leases.held(uow.session, PredictionRow, prediction_id, token), _RETRY_S, waits=True)


def _mark_lost(context: Context, running_nodes: list[NodeSnapshot]) -> None:
    """Mark nodes that did not answer.

    Their steps bring them back, and the prediction waits for that.
    """
    for node in running_nodes:
        nodes.mark_lost(context, node.node_id, "its agent did not answer a prediction")


@dataclass(frozen=True, slots=True)
class _Work:
    """One attempt at a prediction.

    `row`, `training` and `cluster` are detached from their session. `lost` names the nodes that do
    not come back by themselves. `count_unseen` is whether the model shows which words it has seen.
    """

    context: Context
    row: PredictionRow
    token: str
    training: TrainingRow
    cluster: ClusterRow
    nodes: list[NodeSnapshot]
    lost: str
    count_unseen: bool

    @property
    def name(self) -> str:
        """What the agents work on, in words for a reason."""
        return _WORK if self.row.request.input_data is None else f"{_WORK} on {self.row.request.input_data}"

    @property
    def workers(self) -> list[NodeSnapshot]:
        """The workers that predict.

        Raises:
            _RefusedError: there is none.
        """
        workers = [node for node in self.nodes if node.role == "worker" and "inference" in node.capabilities]
        if not workers:
            raise _RefusedError("no_workers", f"No running worker has the capability 'inference'.{self.lost}")
        return workers

    @property
    def aggregator(self) -> NodeSnapshot:
        """The aggregator of the cluster.

        Raises:
            _RefusedError: none runs.
        """
        aggregator = aggregator_among(self.nodes)
        if aggregator is None:
            raise _RefusedError("no_aggregator", f"The cluster has no running aggregator.{self.lost}")
        return aggregator

    def reason(self, error: AgentRefusedError) -> FailureReason:
        """Return why the aggregator refused, with the path of the input and the sandbox that has
        it.
        """
        place = f"the aggregator {self.aggregator.node_id} (sandbox {self.aggregator.sandbox_id})"
        path = self.row.request.input_data
        where = place[0].upper() + place[1:] if path is None else f"{path} in {place}"
        return FailureReason(code=error.code, detail=f"{where}: {error.message}.")

    def describe_input(self) -> None:
        """Write down the size and the SHA-256 of the input, once. Later attempts must find the
        same.

        Raises:
            AgentRefusedError: the file cannot be read.
            AgentUnreachableError: the aggregator does not answer.
        """
        path = self.row.request.input_data
        if path is None or self.row.input_sha256 is not None:
            return
        found = act(self.context, PredictionRow, self.row.id, self.token, lambda: self._describe(path))
        with self.context.database.unit_of_work() as uow:
            row = leases.held(uow.session, PredictionRow, self.row.id, self.token)
            row.input_size, row.input_sha256 = found.size, found.sha256
        self.row.input_size, self.row.input_sha256 = found.size, found.sha256

    async def _describe(self, path: str) -> InputDescription:
        agent = await agent_of(self.context, self.aggregator)
        return await agent.describe_input(path)

    async def predict(self) -> PredictionResult:
        """Have the aggregator predict, and follow its progress."""
        peers = await peers_of(self.context, [*self.workers, self.aggregator])
        if self.aggregator.node_id not in peers:
            raise _RefusedError("no_aggregator", "The aggregator's sandbox is gone.")
        request = self._request(peers)
        agent = await agent_of(self.context, self.aggregator)
        followed = asyncio.create_task(progress.follow_prediction(self.context, agent, self.row.id, self.token))
        try:
            return await _predict(agent, request)
        finally:
            followed.cancel()
            await asyncio.gather(followed, return_exceptions=True)

    def _request(self, peers: Mapping[str, Peer]) -> PredictTexts:
        training, config = self.training, self.training.config
        return PredictTexts(
            training_id=training.id,
            dataset=config.dataset if config.holds_out else None,
            validation=config.validation,
            data_format=data_format(config),
            model=model_spec(
                self.cluster.config.architecture, training.model, config, training.labels or [], training.initial_model
            ),
            digest=training.digest or "",
            aggregation=self.row.aggregation,
            workers=[peers[node.node_id] for node in self.workers if node.node_id in peers],
            self_peer=peers[self.aggregator.node_id],
            inputs=self.row.request.inputs,
            input_data=self.row.request.input_data,
            input_format=_input_format(self.row.request, config),
            input_sha256=self.row.input_sha256,
            prediction_id=self.row.id,
            engine="onnx" if self.cluster.config.wasm_optimization else "torch",
            count_unseen=self.count_unseen,
            votes=self.row.request.votes,
        )


async def _predict(agent: AgentClient, request: PredictTexts) -> PredictionResult:
    """Predict. An aggregator that lost the model pulls it from a worker first."""
    try:
        return await agent.predict(request)
    except AgentRefusedError as error:
        if error.code != "unknown_model":
            raise
    await restore(agent, request.training_id, request.model, request.digest, request.workers)
    return await agent.predict(request)


def _input_format(request: PredictionInput, spec: TrainingSpec) -> DataFormat:
    """Return how to read the input file: as the training's files, except for what was given."""
    given = {name: value for name in DataFormat.model_fields if (value := getattr(request, name, None)) is not None}
    return data_format(spec).model_copy(update=given)


def _complete(context: Context, prediction_id: str, token: str, result: PredictionResult) -> None:
    with context.database.unit_of_work() as uow:
        row = ended(uow, PredictionRow, prediction_id, token)
        if row.status != "pending":
            return
        results = result.model_dump(include=_RESULTS)
        row.results = {name: value for name, value in results.items() if value is not None}
        row.progress = 1.0
        row.seconds, row.nodes_used = result.seconds, result.nodes_used
        # The results have the texts, so the request keeps no copy.
        row.request = row.request.model_copy(update={"inputs": None})
        transitions.move(uow.session, row, "completed", nodes_used=result.nodes_used, seconds=result.seconds)
